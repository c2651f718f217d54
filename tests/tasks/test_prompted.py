import dataclasses
import random

import pytest

from tests import tiny_corpus
from tests.tasks import small_sets
from welm_jax.tasks import chinese, cross_lingual, demonstrations, examples
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import Prompter
from welm_jax.text.tokenizer import Tokenizer

ROWS = {row.name: row for row in (*chinese.ROWS, *cross_lingual.ROWS)}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(tiny_corpus.tokenizer_file())


PAIRS = ("今天下雨。", "今天 下雨", "今天下雪。")


def pronoun(text):
    target = {"span1_text": "小明", "span2_text": "他"}
    return {"idx": 1, "text": text, "label": "true", "target": target}


def squads(*numbers):
    return [one for number in numbers for one in examples.squad(small_sets.squad(number))]


def asked(tokenizer, row, of, pool=(), window=2048, shots=0):
    prompter = Prompter(row=ROWS[row], tokenizer=tokenizer, window=window, shots=shots)
    return prompter.questions(of, pool)


def test_the_prompt_is_tokenised_apart_from_what_follows(tokenizer):
    [question], skipped = asked(tokenizer, "cmrc2018", squads(4))
    assert not skipped
    assert question.prompt == (
        "阅读短文，回答问题。\n短文：第4号仓库里存放着7箱苹果。\n问题：仓库4里有什么？（4）\n答案："
    )
    assert list(question.ids) == [tokenizer.eod_id, *tokenizer.encode(question.prompt)]
    [one] = examples.idiom_fill(small_sets.idiom(0))
    [filled], _ = asked(tokenizer, "chid", [one])
    assert filled.texts[1] == "三心二意，第0次也是这样。"
    assert [tokenizer.decode(ids) for ids in filled.candidates] == filled.texts


def test_borders_of_demonstrations_are_those_of_the_question(tokenizer):
    """Each piece by itself: prompt, answer, blank lines; never melted into one another."""
    [question], _ = asked(tokenizer, "cmrc2018", squads(4), squads(100, 101, 102), shots=2)
    *shown, own = question.prompt.split("\n\n")
    assert question.shots == len(shown) == 2 and own.endswith("答案：")
    ids = [tokenizer.eod_id]
    for demonstration in shown:
        prompt, answer = demonstration.rsplit("答案：", 1)
        for piece in (f"{prompt}答案：", answer, "\n\n"):
            ids += tokenizer.encode(piece)
    assert list(question.ids) == ids + tokenizer.encode(own)


def test_demonstrations_depend_on_the_example_alone():
    pool, [one] = squads(*range(100, 120)), squads(4)
    first = demonstrations.choose(pool, one, 5, "cmrc2018")
    assert first == demonstrations.choose(pool, one, 5, "cmrc2018")
    others = [
        demonstrations.choose(pool, squads(5)[0], 5, "cmrc2018"),
        demonstrations.choose(pool, one, 5, "drcd"),
        demonstrations.choose(pool, one, 5, "cmrc2018", seed=1),
    ]
    assert all(first != other for other in others)
    assert len(demonstrations.choose(pool[:3], one, 5, "cmrc2018")) == 3


def test_no_demonstration_shares_text_with_the_question():
    """Neither the passage nor 34 characters in a row, punctuation aside."""
    run = "".join(random.Random(0).choices("天地玄黄宇宙洪荒日月盈昃辰宿列张", k=40))

    def text(name, *parts):
        return Example(id=name, group=name, inputs={"text": "".join(parts)}, references=["x"])

    one = text("asked", "前文甲", run[:34], "后文")
    same = text("same", "另一", run[:17], "，", run[17:34], "篇")
    shorter = text("shorter", "另一篇", run[:33])
    assert demonstrations.shares_text(one, same)
    assert not demonstrations.shares_text(one, shorter)
    [first], [second] = squads(1), examples.squad(small_sets.squad(9, passage=1))
    assert demonstrations.shares_text(first, second)
    pool = [same, shorter]
    assert demonstrations.choose(pool, one, 2, "lcsts") == [shorter]


WEB, NEWS, NLI = (ROWS[name].sets[0].reader for name in ("webqa", "tnews", "ocnli"))


def pair(first, second):
    return {"sentence1": first, "sentence2": second, "label": "neutral"}


@pytest.mark.parametrize(
    ("reader", "asked", "same", "other"),
    [
        (
            WEB,
            {**small_sets.WEB, "question_tokens": ["谁", "是", "诗", "仙", "？"]},
            {**small_sets.WEB, "q_key": "T", "question_tokens": ["誰 是 詩 仙?"]},
            {**small_sets.WEB, "q_key": "T", "question_tokens": ["谁", "是", "诗", "圣"]},
        ),
        (
            NEWS,
            {"sentence": "两队打平", "label": "103"},
            {"sentence": "兩隊 打平！", "label": "103"},
            {"sentence": "两队打赢", "label": "103"},
        ),
        (NLI, pair("他走了", "没人走"), pair("他走了。", "沒人走"), pair("没人走", "他走了")),
        (
            examples.dureader,
            small_sets.PUBLISHED["dureader_zhidao"][0],
            {**small_sets.PUBLISHED["dureader_zhidao"][0], "question_id": 7, "question": "几分？"},
            {
                **small_sets.PUBLISHED["dureader_zhidao"][0],
                "documents": [
                    {"is_selected": True, "paragraphs": ["十分"], "most_related_para": 0}
                ],
            },
        ),
        (  # another idiom of one passage is left out: what is shown holds the answer
            examples.idiom_fill,
            {"id": 1, "content": "#idiom#，半途而废", "candidates": ["一", "二"], "answer": 1},
            {"id": 2, "content": "二，#idiom#", "candidates": ["半途而废", "二"], "answer": 0},
            {"id": 2, "content": "一，#idiom#", "candidates": ["半途而废", "二"], "answer": 0},
        ),
        (
            examples.squad,
            small_sets.squad(4),
            {**small_sets.squad(5), "context": "第４號倉庫裡存放著７箱蘋果"},
            small_sets.squad(5),
        ),
        (
            examples.pronoun,
            pronoun("小明说他累了"),
            pronoun("小明說：他累了！"),
            pronoun("小明说她累了"),
        ),
        (examples.pair_of_texts("zh", "en"), *({"zh": one, "en": "x"} for one in PAIRS)),
    ],
)
def test_what_differs_in_its_shape_alone_is_not_shown(reader, asked, same, other):
    """Texts far too short for 34 characters: by blanks, punctuation, width or script."""
    [asked], [same], [other] = reader(asked), reader(same), reader(other)
    assert demonstrations.choose([same, other], asked, 2, "any") == [other]
    assert asked.group == same.group != other.group  # drawn together in intervals too


def test_idioms_of_one_passage_are_of_one_group():
    first, second, third = examples.idioms_fill(small_sets.PUBLISHED["chid10"][0])
    assert second.group == third.group != first.group
    record, _ = small_sets.PUBLISHED["chid10"]
    filled = {**record, "content": ["她做事井井有条，从不#idiom000014#。"]}
    assert [one.group for one in examples.idioms_fill(filled)] == [second.group]


def test_no_question_is_among_its_demonstrations(tokenizer):
    """Not even where the pool is what is asked; test_mutations.py shows that it could be."""
    questions, _ = asked(tokenizer, "cmrc2018", squads(*range(4)), squads(*range(4)), shots=4)
    for number, question in enumerate(questions):
        assert question.shots == 3
        assert question.prompt.count(f"仓库{number}里有什么") == 1


def test_the_oldest_demonstration_goes_first_and_then_the_left_of_the_passage(tokenizer):
    whole, _ = asked(tokenizer, "cmrc2018", squads(4), squads(100, 101, 102), shots=3)
    room = len(whole[0].ids) + 64
    [question], _ = asked(tokenizer, "cmrc2018", squads(4), squads(100, 101, 102), room - 1, 3)
    assert (question.shots, question.demos_dropped, question.passage_cut) == (2, 1, 0)
    assert whole[0].prompt.endswith(question.prompt)  # what was nearest to the question stays

    [alone], _ = asked(tokenizer, "cmrc2018", squads(4))
    [cut], _ = asked(tokenizer, "cmrc2018", squads(4), window=len(alone.ids) + 64 - 3)
    assert cut.passage_cut > 0 and len(cut.ids) <= len(alone.ids) - 3
    assert "苹果。\n问题：仓库4里有什么？（4）\n答案：" in cut.prompt and "第4号" not in cut.prompt


def test_what_does_not_fit_without_its_passage_is_counted(tokenizer):
    questions, skipped = asked(tokenizer, "cmrc2018", squads(1, 2, 3), window=70)
    assert questions == [] and skipped == {"longer than the window without its passage": 3}


def test_another_wording_has_another_id_label_words_and_all():
    ocnli, c3 = ROWS["ocnli"], ROWS["c3"]
    assert ocnli.prompt_id.startswith("ocnli-") and len(ocnli.prompt_id) == len("ocnli-") + 8
    words = dict(zip(chinese.NLI, ("对", "也许", "错"), strict=True))
    reader = examples.labelled("label", words, premise="sentence1", hypothesis="sentence2")
    other = dataclasses.replace(ocnli, sets=[dataclasses.replace(ocnli.sets[0], reader=reader)])
    wordings = [
        ocnli,
        other,
        *(dataclasses.replace(ocnli, **{of: "问"}) for of in ("prompt", "suffix")),
    ]
    assert len({row.prompt_id for row in wordings}) == 4
    assert dataclasses.replace(c3, shots=1, sets=[]).prompt_id == c3.prompt_id  # options are data


def test_the_words_of_a_reader_are_the_choices_of_its_questions():
    target = {"span1_text": "小明", "span2_text": "他"}
    record = {"idx": 1, "text": "小明说他累了", "label": "false", "target": target}
    [one] = examples.pronoun(record)
    assert list(examples.pronoun.words) == one.choices == ["是", "否"]
    [other] = ROWS["ocnli"].sets[0].reader(small_sets.nli(1))
    assert list(ROWS["ocnli"].sets[0].reader.words) == other.choices


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_is_written_as_it_must_be(row):
    """No blank where the model goes on: it would belong to the answer's first token."""
    assert row.prompt == row.prompt.rstrip()
    assert (row.metric == "acc") == (row.max_new_tokens == 0)
    assert row.shots > 0 and row.sets
    assert not row.sets[0].stands_in


def test_the_tables_have_all_their_rows():
    assert (len(chinese.ROWS), len(cross_lingual.ROWS), len(ROWS)) == (18, 10, 28)
