import pytest
from etils import epath

from tests.tasks import small_sets
from welm_jax.failures import InputError
from welm_jax.tasks import chinese, examples

LABELLED = examples.labelled("label", chinese.NLI, premise="sentence1")
UNLABELLED = examples.labelled("verdict", chinese.NLI, premise="sentence1")


def read_one(reader, record):
    [found] = reader(record)
    return found


@pytest.mark.parametrize("row_and_set", small_sets.sets_of_rows(), ids=lambda one: one[1].folder)
def test_a_reader_was_tried_on_what_its_row_says(row_and_set):
    """On a record of the published format where we have no file; of weblio nobody tells one."""
    row, of_row = row_and_set
    assert (of_row.checked == "own fixture") == (of_row.folder in small_sets.PUBLISHED)
    assert (of_row.checked == "nothing") == (of_row.folder == "weblio")
    if of_row.checked == "own fixture":
        record, right = small_sets.PUBLISHED[of_row.folder]
        first, *_ = of_row.reader(record)
        assert not first.skipped
        assert (first.choices[first.gold] if first.choices else first.references[0]) == right
        row.prompt.format_map(first.inputs)  # has all that is asked for


def test_the_marks_of_published_files_do_not_reach_the_model():
    [article] = examples.news_summary(small_sets.PUBLISHED["ttnews"][0])
    assert article.inputs["text"] == "本报讯\n小镇昨天开了一座图书馆。\n周末免费。"
    first, second, third = examples.idioms_fill(small_sets.PUBLISHED["chid10"][0])
    assert first.inputs == {"before": "他学琴总是", "after": "，所以学不好。"}
    assert second.inputs == {"before": "她做事", "after": "，从不____。"}
    assert third.inputs == {"before": "她做事____，从不", "after": "。"}
    assert [one.choices[one.gold] for one in (second, third)] == ["井井有条", "半途而废"]
    assert first.group != second.group == third.group
    assert [one.id for one in (first, third)] == ["idiom000012", "idiom000014"]


def test_a_set_is_read_gzipped_or_not_whatever_characters_it_holds(tmp_path):
    """U+2028 and U+0085 end no line, though Python's splitlines thinks so."""
    records = [{**small_sets.squad(at), "question": "什么\u2028是\u0085它？"} for at in range(3)]
    for zipped in (False, True):
        small_sets.write(tmp_path / f"{zipped}", "validation", records, zipped)
        found = examples.read(epath.Path(tmp_path / f"{zipped}"), "validation", examples.squad)
        assert [one.id for one in found] == ["Q0", "Q1", "Q2"]
        assert found[0].inputs["question"] == "什么\u2028是\u0085它？"
        assert found[0].references == ["苹果", "3箱苹果"]


def test_questions_about_one_passage_are_of_one_group():
    first, second, other = (
        read_one(examples.squad, small_sets.squad(number, passage))
        for number, passage in ((0, 0), (1, 0), (2, 2))
    )
    assert first.group == second.group != other.group


def test_words_of_a_cloze_are_joined_and_its_blank_is_shown():
    found = read_one(
        examples.cloze_word,
        {
            "document": ["小猫 在 XXXXX 里 。", "花园 很 美 。"],
            "query": "小猫 在 XXXXX 里",
            "answer": "花园",
        },
    )
    assert found.inputs == {"context": "小猫在____里。花园很美。", "question": "小猫在____里"}
    assert found.references == ["花园"]
    other = {
        "document": ["小猫 在 花园 里 。", "XXXXX 很 美 。"],
        "query": "XXXXX 很 美",
        "answer": "花园",
    }
    assert read_one(examples.cloze_word, other).group == found.group  # one passage, two blanks


def test_an_idiom_is_scored_with_the_text_behind_it():
    found = read_one(examples.idiom_fill, small_sets.idiom(1))
    assert found.inputs == {"before": "他做事总是", "after": "，第1次也是这样。"}
    assert found.choices[found.gold] == "三心二意"


def test_labels_become_words_and_what_nobody_knows_is_dropped():
    reader = examples.labelled("label", chinese.NLI, drop=("-",), premise="sentence1")
    assert read_one(reader, small_sets.nli(2)).gold == 2
    assert list(reader({**small_sets.nli(2), "label": "-"})) == []
    numbered = examples.labelled("label", {"1": "好", "0": "坏"}, text="text")
    assert read_one(numbered, {"label": 0, "text": "x"}).choices == ["好", "坏"]


def test_a_document_of_dureader_gives_its_related_paragraph():
    record = {
        "question_id": 7,
        "question": "哪里？",
        "answers": ["这里", ""],
        "documents": [
            {"is_selected": True, "paragraphs": ["一", "二"], "most_related_para": 1},
            {"is_selected": False, "paragraphs": ["三"], "most_related_para": 0},
            {"is_selected": True, "paragraphs": ["四"], "most_related_para": 0},
        ],
    }
    found = read_one(examples.dureader, record)
    assert (found.inputs["context"], found.references) == ("二\n四", ["这里"])
    assert read_one(examples.dureader, {**record, "answers": []}).skipped == "no answer"


def test_a_pronoun_and_a_closed_book():
    target = {"span1_text": "小明", "span2_text": "他"}
    record = {"idx": 1, "text": "小明说他累了", "label": "false", "target": target}
    assert read_one(examples.pronoun, record).choices[1] == "否"
    found = read_one(examples.web_question, small_sets.WEB)
    assert (found.inputs["question"], found.references) == ("谁是", ["李白"])


def test_two_languages_and_several_references():
    one = {"context": "中文", "question": "问", "answers": [{"text": "答"}]}
    other = {"context": "English", "question": "what", "answers": [{"text": "answer"}]}
    reader = examples.squad_in_two_languages("zh", "en", "zh")
    found = read_one(reader, {"id": "1", "zh": one, "en": other})
    assert (found.inputs, found.references) == ({"context": "中文", "question": "what"}, ["答"])
    pair = examples.pair_of_texts("en", "zh", "zh_B")
    assert read_one(pair, {"en": "a", "zh": "甲", "zh_B": "乙"}).references == ["甲", "乙"]
    assert read_one(pair, {"en": "a", "zh": "甲"}).references == ["甲"]


@pytest.mark.parametrize(
    ("reader", "change", "words"),
    [
        (examples.squad, {"context": None}, "line 2, is not of its format: None where a text"),
        (examples.squad, {"answers": [{}]}, "line 2, is not of its format: has no 'text'"),
        (examples.multi_choice, {"answer": "z"}, "the answer 'z' is not among the options"),
        (examples.multi_choice, {"choice": ["1点"] * 2}, "options that are the same"),
        (examples.multi_choice, {"choice": ["1点", " "]}, "line 2, .*: an option is empty"),
        (examples.idiom_fill, {"candidates": ["", "一", "二"]}, "an option is empty"),
        (examples.idiom_fill, {"answer": 3}, "the answer is not among the options"),
        (examples.idiom_fill, {"answer": "1"}, "'1' where a whole number should be"),
        (examples.idiom_fill, {"content": "x"}, "the content has no #idiom#"),
        (LABELLED, {"label": None}, "line 2, is not of its format: None where a text"),
        (LABELLED, {"label": ""}, "line 2, is not of its format: label '' is none of"),
        (UNLABELLED, {}, "line 1, is not of its format: has no 'verdict'"),
    ],
)
def test_a_record_of_another_format_is_named_with_its_line(tmp_path, reader, change, words):
    record = {
        examples.squad: small_sets.squad,
        examples.multi_choice: small_sets.dialogue,
        examples.idiom_fill: small_sets.idiom,
    }.get(reader, small_sets.nli)(1)
    small_sets.write(tmp_path, "validation", [record, {**record, **change}])
    with pytest.raises(InputError, match=words):
        examples.read(epath.Path(tmp_path), "validation", reader)


def answers(*texts):
    return {"answers": [{"text": text} for text in texts]}


def answered(reader, record):
    found = read_one(reader, record)
    return found.references, found.skipped, found.lacks


IN_TWO = examples.squad_in_two_languages("zh", "zh", "zh")
TWO_TARGETS = examples.pair_of_texts("en", "zh", "zh_B")


@pytest.mark.parametrize("empty", [None, "", " \n", "\u3000"])
def test_an_empty_reference_is_left_out_and_noted(empty):
    """Beside another; alone it leaves nothing to score by. In every form that has several."""
    plain, hub = answers("甲", empty), {"answers": {"text": [empty, "甲"]}}
    for reader, record in [
        (examples.squad, {**small_sets.squad(1), **plain}),
        (examples.squad, {**small_sets.squad(1), **hub}),
        (IN_TWO, {"id": "1", "zh": {**small_sets.squad(1), **plain}}),
        (TWO_TARGETS, {"en": "a", "zh": "甲", "zh_B": empty}),
        (TWO_TARGETS, {"en": "a", "zh": empty, "zh_B": "甲"}),
        (
            examples.dureader,
            {**small_sets.PUBLISHED["dureader_zhidao"][0], "answers": ["甲", empty]},
        ),
    ]:
        assert answered(reader, record) == (["甲"], "", "an empty reference")
    for reader, record in [
        (examples.squad, {**small_sets.squad(1), **answers(empty)}),
        (examples.squad, {**small_sets.squad(1), "answers": []}),
        (TWO_TARGETS, {"en": "a", "zh": empty}),
        (examples.cloze_word, {**small_sets.PUBLISHED["pd"][0], "answer": empty}),
    ]:
        assert answered(reader, record) == ([], "no answer", "")


def test_an_empty_answer_of_webqa_is_left_out_and_noted():
    for empty in (None, [], [""]):
        golden = [{"golden_answers": [["甲"], empty]}]
        found = answered(examples.web_question, {**small_sets.WEB, "evidences": golden})
        assert found == (["甲"], "", "an empty reference")


@pytest.mark.parametrize(
    ("reader", "record", "fields"),
    [
        (examples.squad, small_sets.squad(1), ["answers"]),
        (examples.multi_choice, small_sets.dialogue(1), ["document", "choice"]),
        (examples.idiom_fill, small_sets.idiom(1), ["candidates"]),
        (examples.idioms_fill, small_sets.PUBLISHED["chid10"][0], ["candidates", "content"]),
        (examples.cloze_word, small_sets.PUBLISHED["pd"][0], ["document"]),
        (examples.dureader, small_sets.PUBLISHED["dureader_zhidao"][0], ["answers", "documents"]),
        (examples.web_question, small_sets.WEB, ["question_tokens", "evidences"]),
    ],
)
def test_a_text_is_not_read_as_a_list_of_characters(reader, record, fields):
    """Python would: of the options of 一点 there would be two, 一 and 点."""
    assert list(reader(record))
    for field in fields:
        with pytest.raises(ValueError, match="'一点。' where a list should be"):
            list(reader({**record, field: "一点。"}))


def test_lists_in_lists_are_asked_for_too():
    for evidence in ({"golden_answers": "李白"}, {"golden_answers": ["李白"]}):
        with pytest.raises(ValueError, match="'李白' where a list should be"):
            list(examples.web_question({**small_sets.WEB, "evidences": [evidence]}))
    record, _ = small_sets.PUBLISHED["dureader_zhidao"]
    [document] = record["documents"]
    with pytest.raises(ValueError, match="'一段' where a list should be"):
        changed = {**record, "documents": [{**document, "paragraphs": "一段"}]}
        list(examples.dureader(changed))


def test_a_label_that_is_not_known_is_refused():
    reader = examples.labelled("label", chinese.NEWS, text="sentence")
    with pytest.raises(ValueError, match="label '105' is none of"):
        read_one(reader, {**small_sets.news(0), "label": "105"})


def test_a_missing_or_empty_split_is_refused(tmp_path):
    folder = epath.Path(tmp_path)
    with pytest.raises(InputError, match="has no validation.jsonl or .*, nor validation-"):
        examples.read(folder, "validation", examples.squad)
    small_sets.write(tmp_path, "validation", [])
    with pytest.raises(InputError, match="holds no examples"):
        examples.read(folder, "validation", examples.squad)
    (tmp_path / "validation.jsonl").write_text("{cut")
    with pytest.raises(InputError, match="line 1, is not of its format"):
        examples.read(folder, "validation", examples.squad)


def test_the_inventories_of_labels_are_whole():
    assert len(set(chinese.APPS)) == 119 and len(set(chinese.NEWS.values())) == 15
