"""Topics of text of our own making, through training, curation and the ledger."""

import json

import pytest

from beam_pipelines import topics
from beam_pipelines.document import Document
from beam_pipelines.filters import FilterConfig, judge
from beam_pipelines.ledger import Ledger
from beam_pipelines.read_sources import Record
from beam_pipelines.text_classifier import find_clusters
from tests.tiny_corpus import document
from welm_jax.failures import InputError, run_door


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topics")
    lines = [{"text": document(seed), "label": "town"} for seed in range(120)]
    lines += [{"text": document(seed, english=True), "label": "english"} for seed in range(90)]
    lines += [
        {"text": f"{seed}个股票今天上涨了{seed}点。", "label": "finance"} for seed in range(99)
    ]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder / "topics.bin", topics.train(folder / "labelled.jsonl", folder / "topics.bin", 0)


def test_topics_are_told_apart_and_how_well_is_said(trained):
    model, report = trained
    assert report["examples"] + report["held_out"] == 3 * 90
    assert report["accuracy"] > 0.95 and sorted(report["topics"]) == ["english", "finance", "town"]
    texts = [document(900), document(901, english=True), "这只股票今天上涨了三点。"]
    assert topics.name_topics(topics.load(str(model)), texts) == ["town", "english", "finance"]


def test_a_text_has_its_topic_among_its_attributes_and_is_not_dropped_for_it(trained):
    text = "".join(map(document, range(9100, 9104)))
    records = [Record(0, 9, Document(doc_id="0", source="web", text=text))]
    [kept] = judge(records, "web", Ledger(), FilterConfig(topics=str(trained[0])))
    assert kept.outcome.attributes == {"topic": "town"} and kept.outcome.text == text


def test_near_duplicates_are_in_one_cluster():
    text = document(1) + document(2) + document(3)
    found = find_clusters([text, document(4), text[:-2] + "吗？", document(5), text])
    assert found[0] == found[2] == found[4] and len(set(found)) == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "x", "label": "a b"}], "line 1: the label is a word without blanks"),
        ([{"text": "x", "label": "a\x00b"}], "line 1: the label is a word without blanks"),
        ([{"text": "x", "label": "\ud83d"}], "line 1: the label is a word without blanks"),
        ([{"text": "x", "label": ""}], "line 1: the label is a word without blanks"),
        ([{"text": "x", "label": "a"}] * 30, "there are 30 a; 20 of each of two labels"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(tmp_path, capfd, lines, message):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    arguments = ["train", str(tmp_path / "a.jsonl"), "--model", str(tmp_path / "m.bin")]
    assert run_door(topics.main, arguments, "topics") == 2
    assert message in capfd.readouterr().err
    with pytest.raises(
        InputError, match="no model at .*; make it with `python -m beam_pipelines.topics"
    ):
        FilterConfig(topics=str(tmp_path / "m.bin"))
