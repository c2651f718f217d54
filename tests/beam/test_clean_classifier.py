"""The classifier on text of our own making: sentences by a grammar, and spam from a heap."""

import json
import random

import pytest

from beam_pipelines import clean_classifier, text_classifier
from beam_pipelines.clean_classifier import clean_probabilities, load, train
from beam_pipelines.document import Document, DropReason
from beam_pipelines.filters import FilterConfig, judge
from beam_pipelines.ledger import Ledger
from beam_pipelines.read_sources import Record
from beam_pipelines.text_classifier import HELD_OUT, find_clusters
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
        ([{"label": "clean"}], "cannot be used .line 1: text is a string.*each line is"),
        ([{"text": "x", "label": ["clean"]}], "line 1: the label is one of clean, noise"),
        (["clean"], "line 1: text is a string, given once"),
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


@pytest.mark.parametrize(
    ("is_held", "lacks"), [(True, "left to train on"), (False, "kept out to measure on")]
)
def test_a_label_whose_texts_are_one_template_is_refused(tmp_path, capfd, is_held, lacks):
    template = next(
        text
        for text in map(noise, range(100))
        if (find_clusters([text])[0] % HELD_OUT == 0) == is_held
    )
    lines = examples(60)[:60] + [{"text": template, "label": "noise"}] * 60
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    arguments = ["train", str(tmp_path / "a.jsonl"), "--model", str(tmp_path / "m.bin")]
    assert run_door(clean_classifier.main, arguments, "clean_classifier") == 2
    assert (
        f"a.jsonl: of the texts of noise none is {lacks} (groups of near duplicates, which stay "
        "together: 1); add texts of noise that differ"
    ) in capfd.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_what_nobody_reads_does_no_harm_to_labelled_texts(trained, tmp_path):
    """A byte order mark, a cut emoji, NaN and keys that stand twice where none is asked for."""
    lines = []
    for one in examples(400):
        fields = json.dumps({**one, "text": "\ud83d".join(one["text"][:3]) + one["text"][3:]})
        lines.append(
            fields[:-1] + ', "score": NaN, "by": {"text": 1, "text": 2}, "id": 1, "id": 2}'
        )
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    report = train(tmp_path / "a.jsonl", tmp_path / "a.bin", seed=0)
    assert report["accuracy"] > 0.95 and report["examples"] + report["held_out"] == 400


@pytest.mark.parametrize("twice", ["text", "label"])
def test_a_key_that_is_read_stands_once(tmp_path, twice):
    line = json.dumps({"text": "好", "label": "clean"})
    (tmp_path / "a.jsonl").write_text(f'{line}\n{line[:-1]}, "{twice}": "clean"}}\n')
    with pytest.raises(
        InputError, match="a.jsonl cannot be used .line 2: the label is|line 2: text"
    ):
        train(tmp_path / "a.jsonl", tmp_path / "a.bin", seed=0)


@pytest.mark.parametrize("head", ["\u3000" * 2500, "\n" * 9000, "……，" * 3000])
def test_what_does_not_count_at_the_head_does_not_decide_the_score(trained, head):
    model = load(str(trained[0]))
    texts = [document(9000), noise(9000), "".join(map(document, range(90)))]
    assert clean_probabilities(model, [head + one for one in texts]) == clean_probabilities(
        model, texts
    )


def test_of_a_long_text_only_the_beginning_is_looked_at(trained, monkeypatch):
    model, looked_at, folded = load(str(trained[0])), [], text_classifier.folded

    def counted(texts):
        looked_at.extend(map(len, texts))
        return folded(texts)

    monkeypatch.setattr(text_classifier, "folded", counted)
    text = "，".join(map(document, range(200)))
    first = text[: next(n for n in range(len(text)) if len(folded([text[:n]])[0]) == 2000)]
    assert clean_probabilities(model, [text]) == clean_probabilities(model, [first])
    assert clean_probabilities(model, [first]) != clean_probabilities(model, [first[:-9]])
    assert max(looked_at) < 4000 and len(looked_at) == 4


def test_texts_without_a_letter_have_a_probability(trained):
    [one, other] = clean_probabilities(load(str(trained[0])), ["", "！？"])
    assert one == other and 0 < one < 1
