"""The classifier on text of our own making: sentences by a grammar, and spam from a heap."""

import json
import random

import pytest

from beam_pipelines import clean_classifier
from beam_pipelines.clean_classifier import clean_probabilities, load, train
from beam_pipelines.document import Document, DropReason
from beam_pipelines.filters import FilterConfig, judge
from beam_pipelines.ledger import Ledger
from beam_pipelines.read_sources import Record
from tests.tiny_corpus import document
from welm_jax.failures import InputError, run_door


def noise(seed):
    draw = random.Random(seed)
    words = "免费 点击 下载 注册 登录 最新 热门 高清 在线 观看 网站 首页 优惠 加微信 代理".split()
    return "，".join("".join(draw.choices(words, k=draw.randint(2, 5))) for _ in range(12)) + "。"


def examples(count):
    return [{"text": document(seed), "label": "clean"} for seed in range(count)] + [
        {"text": noise(seed), "label": "noise"} for seed in range(count // 2)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    (folder / "labelled.jsonl").write_text("".join(json.dumps(one) + "\n" for one in examples(400)))
    report = train(folder / "labelled.jsonl", folder / "clean.bin", seed=0)
    return folder / "clean.bin", report


def test_as_many_of_either_label_are_used_and_some_kept_out(trained):
    model, report = trained
    assert report["examples"] + report["held_out"] == 400
    assert 40 < report["held_out"] < 120
    assert json.loads(model.with_suffix(".json").read_text()) == report


def test_it_tells_clean_from_noise(trained):
    model, report = trained
    assert report["accuracy"] > 0.95 and report["precision"] > 0.98 and report["recall"] > 0.9
    assert sum(one["texts"] for one in report["calibration"]) == report["held_out"]
    clean, noisy = clean_probabilities(load(str(model)), [document(9000), noise(9000)])
    assert clean > 0.9 > 0.1 > noisy
    assert clean_probabilities(load(str(model)), []) == []


def test_the_same_examples_make_the_same_model(trained, tmp_path):
    model, report = trained
    labelled = model.parent / "labelled.jsonl"
    assert train(labelled, tmp_path / "again.bin", seed=0) == report
    assert (tmp_path / "again.bin").read_bytes() == model.read_bytes()


def test_the_stage_keeps_what_is_above_the_threshold_and_its_score(trained):
    config, ledger = FilterConfig(classifier=str(trained[0])), Ledger()
    good = "".join(map(document, range(9100, 9104)))
    records = [
        Record(0, 9, Document(doc_id="0", source="web", text=text)) for text in (good, noise(9100))
    ]
    [kept] = judge(records, "web", ledger, config)
    assert kept.outcome.text == good and kept.outcome.attributes["clean_probability"] > 0.9
    assert ledger.verdicts("web", "classifier")[DropReason.NOISE].documents == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "x", "label": "good"}], "line 1: the label is one of clean, noise"),
        ([{"label": "clean"}], "cannot be used .*each line is"),
        (examples(20), "there are 20 clean, 10 noise; 20 of each of two labels are the least"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(tmp_path, capfd, lines, message):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    arguments = ["train", str(tmp_path / "a.jsonl"), "--model", str(tmp_path / "m.bin")]
    assert run_door(clean_classifier.main, arguments, "clean_classifier") == 2
    [line] = capfd.readouterr().err.splitlines()
    with pytest.raises(InputError, match=message):
        raise InputError(line)
    assert not (tmp_path / "m.bin").exists()
