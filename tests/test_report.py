import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from welm_jax import plots, recovery_report, report, run_files
from welm_jax.failures import StopAndLook
from welm_jax.plots import Line
from welm_jax.run_files import RunFolder
from welm_jax.train.lineage import Recovery
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import Place

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
        {
            "name": "books",
            "folder": str(tokens / "books"),
            "quota": 250,
            "rows": 32,
            "fingerprint": "a",
        },
        {
            "name": "news",
            "folder": str(tokens / "news"),
            "quota": 750,
            "rows": 64,
            "fingerprint": "b",
        },
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
    # In the order of the stages, though books lost nothing to the first.
    assert [(one["stage"], one["reason"], one["documents"]) for one in card["reasons"]] == [
        ("rules", "too_short", {"books": 0, "news": 5}),
        ("exact_duplicates", "exact_duplicate", {"books": 1, "news": 5}),
    ]


def test_a_step_made_twice_counts_once_and_the_last_line_wins(run):
    run_files.append_lines(run.metrics, [step(20, 1.0), step(3, 2.0), step(21, 4.0)])
    with run.metrics.open("a") as file:
        file.write('{"step": 22, "lo')  # cut by a kill
    steps, branches = recovery_report.kept_and_discarded(run_files.read_lines(run.metrics), [])
    assert [line["step"] for line in steps] == list(range(1, 22))
    assert (steps[2]["loss"], steps[19]["loss"]) == (2.0, 1.0)
    assert branches == []


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
    line = Line(kind="raw", steps=[0, 50, 100], values=[8.0, 4.0, 0.0])
    curve = plots.draw("loss", [line], height=200, marks=[(50, "1")])
    assert curve.paths == [("raw", "M0.0 0.0L320.0 100.0L640.0 200.0")]
    assert curve.marks == [(320.0, "1")]
    assert curve.x_ticks[0] == (0.0, "0") and curve.x_ticks[-1] == (640.0, "100")
    assert curve.y_ticks[0] == (200.0, "0") and curve.y_ticks[-1] == (0.0, "8")


def test_value_that_is_not_finite_leaves_a_gap():
    line = Line(kind="raw", steps=range(5), values=[1.0, math.nan, 1.0, math.inf, 2.0])
    curve = plots.draw("loss", [line], height=100)
    [(_, path)] = curve.paths
    assert path.count("M") == 3 and "L" not in path
    assert not re.search("nan|inf", json.dumps(curve.y_ticks) + path)


def test_long_curve_is_thinned_and_keeps_its_end():
    steps = range(100_001)
    line = Line(kind="raw", steps=steps, values=[float(n % 7) for n in steps])
    [(_, path)] = plots.draw("loss", [line], height=100).paths
    assert len(re.findall("[ML]", path)) <= plots.MOST_POINTS
    assert "L640.0 " in path


def test_lines_of_other_lengths_share_the_axes():
    kept = Line(kind="raw", steps=[0, 10], values=[4.0, 2.0])
    branch = Line(kind="discarded", steps=[5, 20], values=[3.0, 0.0])
    curve = plots.draw("loss", [branch, kept], height=100)
    assert curve.paths == [("discarded", "M160.0 25.0L640.0 100.0"), ("raw", "M0.0 0.0L320.0 50.0")]


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
    assert plots.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("low", [-3.0, 0.0, 1e-9, 0.37, 12345.0])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.013, 1.0, 77.7, 4e8])
def test_ticks_enclose_the_values(low, spread):
    places = plots.ticks(low, low + spread)
    assert 2 <= len(places) <= 10
    invisible = 1e-3 * (places[1] - places[0])
    assert places[0] <= low + invisible and places[-1] >= low + spread - invisible


def test_smoothing_keeps_a_constant_and_does_not_lag_behind_a_slope():
    assert plots.smoothed([3.0] * 200) == pytest.approx([3.0] * 200)
    slope = [float(n) for n in range(500)]
    assert plots.smoothed(slope)[250] == pytest.approx(250, abs=0.01)
    noisy = [5.0 + (-1) ** n for n in range(500)]
    smooth = plots.smoothed(noisy)
    assert max(abs(value - 5) for value in smooth[20:-20]) < 0.1
    assert max(abs(value - 5) for value in smooth) < 0.2  # an end is no half of its mean


def at(attempt, number, cursor, loss=3.0, **changes):
    """A line of an attempt: after step `number`, with `cursor` batches behind it."""
    changes = {"attempt": attempt, "cursor": cursor, "verdict": "accepted"} | changes
    return step(number, loss, **changes)


def recovery(number, target, skipped, **changes):
    """A record whose incident lies 20 steps after its target; cursors equal steps before it."""
    place = Place(iteration=target + 18, step=target + 18, cursor=target + 18)
    values = {"id": number, "kind": "automatic", "rule": "big", "level": 1, "onset": place}
    values["detected"] = Place(iteration=target + 20, step=target + 20, cursor=target + 20)
    values |= {"target_step": target, "target_cursor": target, "skipped": skipped}
    values |= {"lr_multiplier": 0.8**number, "degraded": ""}
    return Recovery(**values | {"loss": 9.5, "median": 3.25, "threshold": 1.0} | changes)


def write_journal(run, *journal):
    for record in journal:
        (run.journal / f"{record.id:06d}.json").unlink(missing_ok=True)
        Journal(run.journal).commit(record)


# Attempt 0 reaches step 30 and goes back to 10; attempt 1 reaches 25 and goes back to 20.
TWICE = [
    *[at(0, n, n) for n in range(1, 31)],
    *[at(1, n, n + 25, loss=2.0) for n in range(11, 26)],
    *[at(2, n, n + 50, loss=1.0) for n in range(21, 31)],
]


def test_the_last_attempts_count_from_the_steps_they_grew_from():
    journal = [recovery(1, 10, (10, 35)), recovery(2, 20, (45, 70))]
    steps, branches = recovery_report.kept_and_discarded(TWICE, journal)
    assert [(line["step"], line["attempt"]) for line in steps] == [
        *[(n, 0) for n in range(1, 11)],
        *[(n, 1) for n in range(11, 21)],
        *[(n, 2) for n in range(21, 31)],
    ]
    # Each branch is led by the step that it grew from.
    assert [(one[0]["step"], one[0]["attempt"]) for one in branches] == [(10, 0), (20, 1)]
    assert [(one[1]["step"], one[-1]["step"]) for one in branches] == [(11, 30), (21, 25)]


def test_a_decision_that_goes_back_further_discards_what_the_one_before_had_kept():
    journal = [recovery(1, 10, (10, 35)), recovery(2, 5, (5, 70))]
    lines = [line for line in TWICE if line["attempt"] < 2]
    lines += [at(2, n, n + 65) for n in range(6, 9)]
    steps, branches = recovery_report.kept_and_discarded(lines, journal)
    assert [(line["step"], line["attempt"]) for line in steps] == [
        *[(n, 0) for n in range(1, 6)],
        *[(n, 2) for n in range(6, 9)],
    ]
    assert [len(branch) - 1 for branch in branches] == [25, 15]
    # Attempt 1 grew from step 10 of attempt 0, which is discarded too.
    assert (branches[1][0]["step"], branches[1][0]["attempt"]) == (10, 0)


def test_a_refused_update_is_no_step():
    lines = [at(0, 1, 1), at(0, 2, 2, loss=2.5)]
    lines += [at(0, 2, 3, loss=math.nan, verdict="nonfinite"), at(0, 2, 4, verdict="overflow")]
    steps, _ = recovery_report.kept_and_discarded([*lines, at(0, 3, 5)], [])
    assert [(line["step"], line["loss"]) for line in steps] == [(1, 3.0), (2, 2.5), (3, 3.0)]


def test_a_run_without_recoveries_is_drawn_as_runs_were_before_there_were_any(run):
    before = report.content(run)
    lines = list(run_files.read_lines(run.metrics))
    run.metrics.unlink()
    news = {"attempt": 0, "guarded": 0, "verdict": "accepted", "lr_multiplier": 1.0}
    run_files.append_lines(run.metrics, [line | news for line in lines])
    assert report.content(run) == before
    loss, rate = before["curves"]
    assert [kind for kind, _ in loss.paths + rate.paths] == ["raw", "smooth", "smooth"]
    assert loss.marks == rate.marks == []
    # 9 at the first step and 5 at the last, of 20.
    assert loss.paths[0][1].startswith("M0.0 ") and "L640.0 " in loss.paths[0][1]
    assert "went back to" not in written(run)


def test_what_was_discarded_is_in_no_figure_and_not_in_the_curve(run):
    figures = report.content(run)
    write_journal(run, recovery(1, 10, (10, 35)))
    lines = list(run_files.read_lines(run.metrics))
    run.metrics.unlink()
    wrong = [line | {"attempt": 0, "loss": 99.0, "tokens": 10**9} for line in lines[10:]]
    wrong = [line | {"seconds": 1e6, "learning_rate": 0.5} for line in wrong]
    right = [line | {"attempt": 1, "cursor": line["step"] + 25} for line in lines[10:]]
    run_files.append_lines(run.metrics, [*lines[:10], *wrong, *right])
    now = report.content(run)
    assert now["headlines"] == figures["headlines"]
    assert now["mixture"] == figures["mixture"]
    for curve, before in zip(now["curves"], figures["curves"], strict=True):
        kinds = [kind for kind, _ in curve.paths]
        assert kinds == ["discarded", *(kind for kind, _ in before.paths)]
        assert [label for _, label in curve.marks] == ["1"]
    # Cut at 12.6, as far above the curve's 8.8 as that is above its 5; the axis goes from 4 to 14.
    loss, rate = now["curves"]
    heights = {
        kind: [float(y) for y in re.findall(r" ([\d.]+)", path)] for kind, path in loss.paths
    }
    assert min(heights["discarded"]) == pytest.approx(240 * (14 - 12.6) / 10)
    assert (min(heights["raw"]), max(heights["raw"])) == pytest.approx((240 * 0.52, 240 * 0.9))
    assert rate.y_ticks == figures["curves"][1].y_ticks
    assert (now["spikes"]["made"], now["spikes"]["discarded"]) == (30, 10)


def test_a_run_that_began_anew_is_marked_at_its_first_step(run):
    write_journal(run, recovery(1, 0, (0, 25)))
    run.metrics.unlink()
    made = [*(at(0, n, n) for n in range(1, 21)), *(at(1, n, n + 25) for n in range(1, 41))]
    run_files.append_lines(run.metrics, made)
    loss, _ = report.content(run)["curves"]
    assert loss.marks == [(0.0, "1")]
    discarded, *_ = loss.paths
    assert discarded[0] == "discarded" and discarded[1].startswith("M0.0 ")
    assert len(re.findall("[ML]", discarded[1])) == 20  # it grew from no step


def suspect(cursor, row, source, documents, repetition, period=1):
    fields = {"cursor": cursor, "row": row, "source": source, "dataset_row": 7}
    return fields | {"documents": documents, "repetition": repetition, "period": period}


@pytest.fixture
def spiked(run):
    """A run that went back from step 30 to step 10, past batches 10 to 34."""
    write_journal(run, recovery(1, 10, (10, 35)))
    run.metrics.unlink()
    lines = [at(0, n, n) for n in range(1, 28)]
    lines += [at(0, n, n, loss=9.0 + n / 100, verdict="outlier") for n in range(28, 31)]
    run_files.append_lines(run.metrics, [*lines, *(at(1, n, n + 25) for n in range(11, 41))])
    rows = [suspect(27, 0, "news", ["a1", "b2", "c3"], 2), suspect(27, 1, "books", ["a1"], 33, 4)]
    rows += [suspect(28, 0, "news", [], 1), suspect(28, 1, "news", [], 1)]
    run_files.write_json(run.suspects / "000001.json", rows)
    return run


def test_a_recovery_is_told_in_plain_words(spiked):
    text = Page(written(spiked)).text
    assert "1 recovery in 60 steps made, 20 of which were discarded; 25 batches are" in text
    assert (
        "At step 30 the loss jumped, and not for one step alone: 9.500, where 3.250 was usual and "
        "4.250 would have passed. It began at step 28, with batch 27."
    ) in text
    assert (
        "Decision: 20 steps back to step 10; past the 25 batches 10 to 34; on with 0.8 times the "
        "scheduled learning rate."
    ) in text
    assert "It was" not in text  # nobody asked why
    assert "superseded" not in text and "carries it out" not in text


def test_suspect_batches_show_what_they_were_made_of(spiked):
    [told] = report.content(spiked)["spikes"]["recoveries"]
    first, second = told["batches"]["rows"]
    # The batch at place 27 was fed in the step that left the cursor at 28, with loss 9.28.
    assert (first["cursor"], first["loss"], first["sources"]) == (27, "9.280", "news 1, books 1")
    assert (first["documents"], first["names"]) == (3, ["a1", "b2"])
    assert (first["repetition"], first["period"], first["repetitive"]) == (33, 4, True)
    assert (second["sources"], second["documents"]) == ("news 2", 0)
    assert not second["repetitive"]
    text = written(spiked)
    assert "<b>33 × 4</b>" in text and "<td>1 × 1</td>" in text
    # Three batches, 27 to 29, are suspect.
    assert "The first 2 of 3 suspect batches; suspects/000001.json has more" in Page(text).text


def test_many_suspect_batches_are_cut_short(spiked):
    far = Place(iteration=127, step=127, cursor=127)
    write_journal(spiked, recovery(1, 10, (10, 200), detected=far))
    rows = [suspect(cursor, 0, "news", ["a1"], 1) for cursor in range(27, 91)]
    run_files.write_json(spiked.suspects / "000001.json", rows)
    [told] = report.content(spiked)["spikes"]["recoveries"]
    assert [row["cursor"] for row in told["batches"]["rows"]] == list(range(27, 39))
    assert told["batches"]["all"] == 100  # 27 to 126


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("data", "It was the data: from another state, too, the same batches raise the loss."),
        ("state", "It was the state of the model: from another state the same batches do no harm."),
        ("not reproducible", "It did not happen again"),
    ],
)
def test_why_is_told_once_it_was_asked(spiked, verdict, words):
    why = {"verdict": verdict, "rise": 6.1, "rise_again": 6.05, "rise_elsewhere": 0.2}
    run_files.write_json(spiked.suspects / "000001_why.json", why | {"elsewhere_step": 5})
    text = Page(written(spiked)).text
    assert words in text
    assert (
        "Over the suspect batches it rose by 6.10 nats when it happened, by 6.05 in a replay, by "
        "0.20 from the checkpoint of step 5."
    ) in text


def test_decisions_that_are_not_in_force_say_so(spiked):
    manual = dict.fromkeys(("onset", "detected", "loss", "median", "threshold"))
    manual |= {"kind": "manual", "rule": "manual", "level": 0, "lr_multiplier": 0.4}
    degraded = "no checkpoint lies 200 steps before step 18: back to the start, from the seed"
    write_journal(
        spiked,
        recovery(1, 10, (10, 35)),
        recovery(2, 0, (0, 75), rule="nonfinite", level=2, loss=None, degraded=degraded),
        recovery(3, 0, (75, 75), **manual),
    )
    page = written(spiked)
    text = Page(page).text
    assert text.count("superseded: a later one went back as far or further") == 2
    assert text.count("decided; the next welm train carries it out") == 1
    assert "At step 20 the loss was no number, several times in a row. It began" in text
    assert "The same trouble again (level 2): further back, and more skipped." in text
    assert "No checkpoint lies 200 steps before step 18: back to the start, from the seed." in text
    assert "20 steps back to the start; past the 75 batches 0 to 74; on with" in text
    assert "A person decided this one." in text
    assert "Decision: back to the start; no skip; on with 0.4 times" in text
    # Nothing is left of what was trained until the next life begins.
    assert "Fewer than two steps are logged" in text


def test_calm_run_says_so_in_one_sentence(run):
    text = Page(written(run)).text
    assert "None: 20 steps were made, and none had to be discarded or refused." in text
    assert "Recovery" not in text and "Refused" not in text and "stopped" not in text


def test_refused_updates_are_counted_once(run):
    more = [at(0, 20, 21, verdict="overflow"), at(0, 20, 21, verdict="overflow")]
    more += [at(0, 20, cursor, loss=math.nan, verdict="nonfinite") for cursor in (22, 23)]
    run_files.append_lines(run.metrics, more)
    text = Page(written(run)).text
    assert "None: 20 steps were made, and none had to be discarded." in text
    assert "1 whose gradients overflowed float16" in text
    assert "2 whose loss or gradients were no numbers" in text


@pytest.fixture
def stopped(spiked):
    """A run that stopped at step 39 of its second attempt, for a person to look.

    Its metrics end with step 40, which was in flight when the trouble was seen.
    """
    place = {"iteration": 39, "step": 39, "cursor": 64}
    incident = {"rule": "big", "onset": place, "detected": place, "loss": 9.0, "median": 3.0}
    incident |= {"threshold": 1.0, "stopped": "going back does not help"}
    run_files.write_json(spiked.diagnosis / "incident.json", incident)
    return spiked


def test_a_run_that_stopped_says_why_at_the_top(stopped):
    text = Page(written(stopped)).text
    top = text[: text.index("Held-out text")]
    assert "Training stopped at step 39 and waits for a person." in top
    assert "the loss jumped, and not for one step alone: 9.000, where 3.000 was usual" in top
    assert "Why it did not go on: going back does not help." in top


def test_a_stop_that_a_person_dealt_with_is_history(stopped):
    record = recovery(2, 30, (55, 80), kind="manual", onset=None, detected=None)
    write_journal(stopped, record)
    decided = Page(written(stopped)).text
    run_files.append_lines(stopped.metrics, [at(2, n, n + 50) for n in range(31, 33)])
    gone_on = Page(written(stopped)).text
    for text in (decided, gone_on):
        assert "waits for a person" not in text
        assert "A person was called at step 39, for the loss jumped" in text
        assert "going back does not help" in text


def test_records_and_suspects_of_others_are_shown_and_never_obeyed(stopped):
    write_journal(stopped, recovery(1, 10, (10, 35), rule=HOSTILE, degraded=HOSTILE))
    rows = [suspect(27, 0, HOSTILE, [HOSTILE], 1)]
    run_files.write_json(stopped.suspects / "000001.json", rows)
    why = {"verdict": HOSTILE, "rise": 1.0, "rise_again": 1.0, "rise_elsewhere": 1.0}
    run_files.write_json(stopped.suspects / "000001_why.json", why | {"elsewhere_step": 5})
    incident = run_files.read_json(stopped.diagnosis / "incident.json")
    incident |= {"rule": HOSTILE, "stopped": HOSTILE}
    run_files.write_json(stopped.diagnosis / "incident.json", incident)
    text = written(stopped)
    assert "<script>" not in text and "<b>便宜" not in text
    # Thrice as before; rule, degraded, verdict; source, document; rule and reason of the stop.
    assert Page(text).text.count(HOSTILE) == 3 + 3 + 2 + 2


def test_an_edited_journal_is_not_reported(spiked):
    record = spiked.journal / "000001.json"
    record.write_text(record.read_text().replace("0.8", "0.9"))
    with pytest.raises(StopAndLook, match=r"000001.json is damaged or was edited"):
        report.write_report(spiked)


def test_what_befell_a_run_ends_with_where_it_stands(spiked, run):
    first, *_, last = recovery_report.told(spiked)
    assert first.startswith("At step 30 the loss jumped")
    assert last == "Training then stood at step 40, with a loss of 3.000."
    (spiked.journal / "000001.json").unlink()
    assert recovery_report.told(spiked)[0] == "No loss spike was noticed."


def test_report_needs_no_jax():
    code = "import sys, welm_jax.report; print({'jax', 'grain', 'gin'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
