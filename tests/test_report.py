import json
import math
import re
from html.parser import HTMLParser

import pytest

from welm_jax import report, run_files
from welm_jax.run_files import RunFolder

CHINESE = "本报北京１月１日讯"
HOSTILE = '<script>alert("x")</script> & 价格<b>便宜</b>'


def step(number, loss, **changes):
    line = {"step": number, "cursor": number, "loss": loss, "gradient_norm": 1.0}
    line |= {"learning_rate": 1e-3, "tokens": 4096 * number, "seconds": 0.5}
    return line | {"tokens_per_second": 8192.0, "mfu": None} | changes


def counts(documents):
    return {"documents": documents, "bytes": 300 * documents, "characters": 100 * documents}


def totals(read, kept):
    return {"read": counts(read), "kept": counts(kept)}


@pytest.fixture
def run(tmp_path):
    """A run folder with every part of the report."""
    run = RunFolder(tmp_path / "quickstart_run" / "run")
    tokens = tmp_path / "tokens"
    sources = [
        {"name": "books", "folder": str(tokens / "books"), "quota": 250, "rows": 32},
        {"name": "news", "folder": str(tokens / "news"), "quota": 750, "rows": 64},
    ]
    mixture = {"sequence_tokens": 256, "block": 1000, "sources": sources}
    run_files.write_json(run.mixture, mixture)
    lines = [step(n, 9.0 - 0.2 * n, seconds=None if n == 1 else 0.5) for n in range(1, 21)]
    run_files.append_lines(run.metrics, lines)
    score = {"bits_per_character": 6.5, "tokens": 800, "characters": 1000.0, "loss": 5.5}
    held_out = {"step": 20, "sources": {"books": score, "news": score}, "all": score}
    bigram = {"books": 7.5, "news": 6.25, "all": 7.0}
    held_out["count_models"] = {"character bigram": bigram}
    run_files.write_json(run.held_out, held_out)
    sample = {"step": 20, "temperature": 0.8}
    samples = [sample | {"prompt": text, "continuation": text} for text in (CHINESE, HOSTILE)]
    run_files.append_lines(run.samples, samples)
    run_files.write_text(run.operative_config, f"# {HOSTILE}\nModelConfig.d_model = 128\n")
    books = {"totals": totals(10, 9), "rules": {"passed": counts(10)}}
    books |= {"exact_duplicates": {"passed": counts(9), "exact_duplicate": counts(1)}}
    news = {"totals": totals(100, 90), "rules": {"passed": counts(95), "too_short": counts(5)}}
    news |= {"exact_duplicates": {"passed": counts(90), "exact_duplicate": counts(5)}}
    sources = {"books": books, "news": news}
    for parts in sources.values():
        parts["written"] = {"train": counts(1), "heldout": counts(1)}
    run_files.write_json(tokens_ledger(run), {"sources": sources})
    return run


def tokens_ledger(run):
    return run.path.parent.parent / "tokens" / "ledger.json"


class Page(HTMLParser):
    """Checks that elements nest, and gathers tags, attributes and text."""

    VOID = {"meta", "link", "br", "line", "circle", "path"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == [], "elements are left open"

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def written(run):
    report.write_report(run)
    return run.report.read_text()


def test_page_is_whole_in_itself(run):
    text = written(run)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    attributes = {name for name, _ in page.attributes}
    assert not {"src", "href", "srcset", "action", "onload"} & attributes
    assert not re.search(r"https?:|//|url\(|@import", text.split("<pre>")[0])
    [policy] = [value for _, value in page.attributes if value and "default-src" in value]
    assert policy.startswith("default-src 'none'")


def test_text_of_others_is_shown_and_never_obeyed(run):
    text = written(run)
    assert "<script>" not in text and "<b>便宜" not in text
    page = Page(text)
    assert page.text.count(HOSTILE) == 3  # prompt, continuation, configuration
    assert page.text.count(CHINESE) == 2


def test_figures_on_the_page(run):
    text = Page(written(run)).text
    assert "quickstart_run/run" in text
    assert "best count model 7.00, character bigram" in text
    assert "81,920" in text  # tokens trained on
    assert "MFU not known" in text
    assert "exact_duplicate" in text and "too_short" in text


def test_best_of_each_column_stands_out(run):
    bold = re.findall(r"<td><b>([\d.]+)</b>", written(run))
    # The count model has the news, this model the books and all; worst row first.
    assert bold == ["6.250", "6.500", "6.500"]


def test_epochs_follow_from_the_tokens(run):
    rows = {row["name"]: row for row in report.content(run)["mixture"]}
    # 20 x 4096 tokens are 320 sequences: a quarter on 32 rows, the rest on 64.
    assert rows["books"]["epochs"] == 320 / 4 / 32
    assert rows["news"]["epochs"] == 320 * 3 / 4 / 64


def test_documents_lost_are_told_by_stage_reason_and_source(run):
    card = report.content(run)["data_card"]
    assert card["reasons"] == {
        ("rules", "too_short"): {"books": 0, "news": 5},
        ("exact_duplicates", "exact_duplicate"): {"books": 1, "news": 5},
    }
    # In the order of the stages, though books lost nothing to the first.
    assert list(card["reasons"]) == [
        ("rules", "too_short"),
        ("exact_duplicates", "exact_duplicate"),
    ]


def test_a_step_made_twice_counts_once_and_the_last_line_wins(run):
    run_files.append_lines(run.metrics, [step(20, 1.0), step(3, 2.0), step(21, 4.0)])
    with run.metrics.open("a") as file:
        file.write('{"step": 22, "lo')  # cut by a kill
    steps = report.logged_steps(run)
    assert [line["step"] for line in steps] == list(range(1, 22))
    assert (steps[2]["loss"], steps[19]["loss"]) == (2.0, 1.0)


PARTS = ("metrics", "held_out", "samples", "mixture", "operative_config", "ledger")


@pytest.mark.parametrize("missing", [*[(part,) for part in PARTS], PARTS])
def test_page_without_a_part_says_so(run, missing):
    for part in missing:
        (tokens_ledger(run) if part == "ledger" else getattr(run, part)).unlink()
    text = Page(written(run)).text
    sentences = {
        "metrics": "Fewer than two steps are logged",
        "held_out": "Not measured yet: run welm evaluate",
        "samples": "None yet: run welm generate",
        "mixture": "no mixture.json yet",
        "operative_config": "no operative_config.gin",
        "ledger": "no ledger.json beside the token datasets",
    }
    for part in missing:
        assert sentences[part] in text


def test_run_whose_text_was_too_large_to_count(run):
    held_out = run_files.read_json(run.held_out) | {"count_models": {}}
    run_files.write_json(run.held_out, held_out)
    assert "too large to count" in Page(written(run)).text


def test_curve_runs_from_corner_to_corner():
    curve = report.draw("loss", [0, 50, 100], {"raw": [8.0, 4.0, 0.0]}, height=200)
    assert curve.paths["raw"] == "M0.0 0.0L320.0 100.0L640.0 200.0"
    assert curve.x_ticks[0] == (0.0, "0") and curve.x_ticks[-1] == (640.0, "100")
    assert curve.y_ticks[0] == (200.0, "0") and curve.y_ticks[-1] == (0.0, "8")


def test_value_that_is_not_finite_leaves_a_gap():
    line = [1.0, math.nan, 1.0, math.inf, 2.0]
    curve = report.draw("loss", range(5), {"raw": line}, height=100)
    assert curve.paths["raw"].count("M") == 3 and "L" not in curve.paths["raw"]
    assert not re.search("nan|inf", json.dumps(curve.y_ticks) + curve.paths["raw"])


def test_long_curve_is_thinned_and_keeps_its_end():
    values = [float(n % 7) for n in range(100_001)]
    path = report.draw("loss", range(100_001), {"raw": values}, height=100).paths["raw"]
    assert len(re.findall("[ML]", path)) <= report.MOST_POINTS
    assert "L640.0 " in path


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 8, [0, 2, 4, 6, 8]),
        (4.3, 9.8, [4, 5, 6, 7, 8, 9, 10]),
        (0, 0.0020000001, [0, 0.0005, 0.001, 0.0015, 0.002]),
        (1, 600, [0, 100, 200, 300, 400, 500, 600]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert report.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("low", [-3.0, 0.0, 1e-9, 0.37, 12345.0])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.013, 1.0, 77.7, 4e8])
def test_ticks_enclose_the_values(low, spread):
    places = report.ticks(low, low + spread)
    assert 2 <= len(places) <= 10
    invisible = 1e-3 * (places[1] - places[0])
    assert places[0] <= low + invisible and places[-1] >= low + spread - invisible


def test_smoothing_keeps_a_constant_and_does_not_lag_behind_a_slope():
    assert report.smoothed([3.0] * 200) == pytest.approx([3.0] * 200)
    slope = [float(n) for n in range(500)]
    assert report.smoothed(slope)[250] == pytest.approx(250, abs=0.01)
    noisy = [5.0 + (-1) ** n for n in range(500)]
    assert max(abs(value - 5) for value in report.smoothed(noisy)[20:-20]) < 0.1
