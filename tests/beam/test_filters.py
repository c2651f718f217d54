import pytest

from beam_pipelines.document import Document, DropReason
from beam_pipelines.filters import STAGES, FilterConfig, judge
from beam_pipelines.ledger import Ledger
from beam_pipelines.read_sources import Record
from welm_jax.failures import InputError

GOOD = "要看的人很多，所以我们一早就去了，排了两个小时的队才买到票，进去以后觉得很值。"


def records(*texts):
    return [
        Record(9 * at, 9, Document(doc_id=f"{at}", source="news", text=text))
        for at, text in enumerate(texts)
    ]


def test_a_line_taken_out_is_in_the_ledger_though_no_document_is_lost():
    ledger, line = Ledger(), "上一篇：春天"
    [kept] = judge(records(f"{GOOD}\n{line}"), "news", ledger, FilterConfig())
    assert kept.outcome.text == GOOD
    lost = ledger.verdicts("news", "lines")["boilerplate_line"]
    assert lost == (0, 0, len(line) + 1)
    ledger.add("news", "written", "train", kept.counts)
    ledger.inputs["x"] = {"source": "news", "decompressed_bytes": 9}
    ledger.check((*STAGES, "written"))
    long = GOOD + "".join(f"第{n}个人说了他自己的看法，别人都听着。" for n in range(30))
    [kept] = judge(records(f"{long}\n{line}"), "news", Ledger(), FilterConfig(applies_rules=False))
    assert kept.outcome.text == f"{long}\n{line}"


def test_each_source_may_have_thresholds_of_its_own():
    rules = {"*": {"min_characters": 100}, "chat": {"min_characters": 5, "min_clause_marks": 0}}
    config = FilterConfig(rules=rules)
    for source, kept in (("news", 0), ("chat", 1)):
        assert len(judge(records("你好，请问在吗一起吃饭"), source, Ledger(), config)) == kept


def test_offensive_text_is_dropped_and_its_share_is_kept_with_the_rest(tmp_path):
    (tmp_path / "words").write_text("坏蛋\n", encoding="utf-8")
    ledger, config = Ledger(), FilterConfig(offensive_words=str(tmp_path / "words"))
    long = "".join(f"第{n}个人说了他自己的看法，别人都听着。" for n in range(40)) + "坏蛋。" * 3
    [kept] = judge(records(GOOD + "你这个坏蛋。" * 3, long), "news", ledger, config)
    share = kept.outcome.attributes["offensive_share"]
    assert kept.outcome.text == long and 0.008 < share < 0.01
    assert ledger.verdicts("news", "offensive")[DropReason.OFFENSIVE].documents == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": ("zh", "fr")}, "languages .*'fr'.*: choose from zh, en, ja, ko, other"),
        ({"languages": ()}, "choose from zh, en, ja, ko, other"),
        ({"rules": {"news": {"min_words": 3}}}, "rules of news name min_words; the thresholds are"),
        ({"offensive_words": "/no/such"}, "the word list /no/such cannot be read"),
        ({"classifier": "/no/such"}, "no model at /no/such; make it with .*clean_classifier train"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        FilterConfig(**change)


def test_a_text_in_no_language_for_its_encoding_is_mojibake():
    misread = GOOD.encode().decode("latin-1")
    for applies_rules, reason in ((True, "mojibake"), (False, "language_other")):
        ledger = Ledger()
        config = FilterConfig(applies_rules=applies_rules)
        assert judge(records(misread, GOOD), "news", ledger, config)[0].outcome.text == GOOD
        assert ledger.verdicts("news", "language")[reason].documents == 1
    config = FilterConfig(rules={"news": {"max_mojibake": 1000}})
    judge(records(misread), "news", ledger := Ledger(), config)
    assert ledger.verdicts("news", "language")["language_other"].documents == 1


def test_verdicts_do_not_hang_on_how_records_are_batched():
    texts = [GOOD, GOOD.encode().decode("latin-1"), GOOD.encode().decode("gbk", "ignore"), "短文。"]
    texts += ["Nur ein Satz auf Deutsch, der hier nichts zu suchen hat.", f"{GOOD}\n上一篇：春天"]
    alone, together = Ledger(), Ledger()
    for record in records(*texts):
        judge([record], "news", alone, FilterConfig())
    judge(records(*texts), "news", together, FilterConfig())
    assert alone.counts == together.counts
