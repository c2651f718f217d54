"""What compares the golden run's figures, and what is committed of them; .ci makes the run."""

import copy
import json
import math
import sys

import pytest

from beam_pipelines.document import DeadLetterReason
from tests import golden_run

FILES = sorted(golden_run.GOLDEN.glob("run_jax_*.json"))
FIGURES = {file: json.loads(file.read_text()) for file in FILES}
FILE = FILES[0]


def altered(value):
    """Another value of the same kind, just beyond the tolerance if it may be rounded."""
    if isinstance(value, float):
        return value + 1.1 * golden_run.TOLERANCE * max(1.0, abs(value))
    return {str: lambda: value + "0", int: lambda: value + 1, type(None): lambda: 0.0}[
        type(value)
    ]()


def places(value, way=()):
    """The way to each figure."""
    if not isinstance(value, dict | list):
        yield way
        return
    for part in value if isinstance(value, dict) else range(len(value)):
        yield from places(value[part], (*way, part))


def test_each_figure_that_differs_is_named_and_no_other():
    figures = FIGURES[FILE]
    ways = list(places(figures))
    assert len(ways) > 200
    for way in ways:
        got = copy.deepcopy(figures)
        *parents, last = way
        holder = got
        for part in parents:
            holder = holder[part]
        holder[last] = altered(holder[last])
        [line] = golden_run.differences(figures, got)
        assert line.startswith(" / ".join(map(str, way)) + ": expected ")


@pytest.mark.parametrize(
    ("expected", "got", "lines"),
    [
        (6.5, 6.5 + 6e-5, []),
        (6.5, 6.5 + 7e-5, ["loss: expected 6.5, got 6.50007"]),
        (0.0, 1e-5, []),
        (0.0, 1.1e-5, ["loss: expected 0.0, got 1.1e-05"]),
        (7, 7.0, ["loss: expected 7, got 7.0"]),
        (None, 7.0, ["loss: expected null, got 7.0"]),
        (7.0, math.nan, ["loss: expected 7.0, got NaN"]),
        (True, 1, ["loss: expected true, got 1"]),
        ([1, 2], [1], ["loss / 1: expected 2, got nothing"]),
        ([1], [1, 2], ["loss / 1: expected nothing, got 2"]),
    ],
)
def test_numbers_with_a_fraction_may_differ_a_little_and_nothing_else(expected, got, lines):
    assert golden_run.differences({"loss": expected}, {"loss": got}) == lines


def test_each_jax_that_the_lock_names_has_figures_and_they_round_alone_differently():
    lock = (golden_run.ROOT / "requirements/lock.txt").read_text()
    named = {line.split()[0][5:] for line in lock.splitlines() if line.startswith("jax==")}
    assert {golden_run.figures_file(jax) for jax in named} == set(FILES)
    for part in ("curation", "tokens", "recovery_journal"):
        assert len({json.dumps(figures[part]) for figures in FIGURES.values()}) == 1


def test_what_was_planted_is_among_the_figures():
    documents = FIGURES[FILE]["curation"]["documents"]
    dropped = {name.split(", ")[-1] for name, count in documents.items() if count}
    assert dropped >= {"exact_duplicate", "near_duplicate", "contaminated", "offensive"}
    assert len(dropped & set(DeadLetterReason)) == 2
    [record] = FIGURES[FILE]["recovery_journal"]
    assert record["rule"] == "nonfinite" and record["target_step"] < record["onset"]["step"]
    losses = FIGURES[FILE]["losses"]
    assert len(losses) == 20 and None in losses.values()
    assert any(place.split(", ")[1] == "attempt 1" for place in losses)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_figures_are_committed_without_a_line_that_explains_them(file):
    [*_, line] = [
        line
        for line in golden_run.CHANGES.read_text().splitlines(keepends=True)
        if line.startswith(f"- `{file.name}`")
    ]
    assert line == golden_run.changes_line(file, line.rstrip("\n").partition(": ")[2])


def called(monkeypatch, tmp_path, got, *flags):
    """The command on figures that no run was made for, with files of its own."""
    file, changes = tmp_path / FILE.name, tmp_path / "CHANGES.md"
    if not file.exists():
        file.write_bytes(FILE.read_bytes())
    monkeypatch.setattr(golden_run, "figures", lambda _: got)
    monkeypatch.setattr(golden_run, "figures_file", lambda *_: file)
    monkeypatch.setattr(golden_run, "CHANGES", changes)
    monkeypatch.setattr(sys, "argv", ["golden_run", *flags])
    golden_run.main()
    return file, changes


def test_a_difference_is_printed_with_what_to_do_and_writing_it_explains_it(
    monkeypatch, tmp_path, capsys
):
    figures = FIGURES[FILE]
    called(monkeypatch, tmp_path, figures)
    assert capsys.readouterr().out.endswith(f"figures are those of {FILE.name}\n")
    other = copy.deepcopy(figures)
    other["curation"]["ledger_digest"] = "abc"
    with pytest.raises(SystemExit, match=r'golden_run --write "WHAT CHANGED THEM') as ended:
        called(monkeypatch, tmp_path, other)
    assert str(ended.value).startswith(f"golden run: 1 figure differs from {FILE.name}\n")
    digest = figures["curation"]["ledger_digest"]
    named = f'curation / ledger_digest: expected "{digest}", got "abc"\n'
    assert capsys.readouterr().out == named
    file, changes = called(monkeypatch, tmp_path, other, "--write", "A rule more.")
    assert json.loads(file.read_text()) == other
    assert changes.read_text() == golden_run.changes_line(file, "A rule more.")
    called(monkeypatch, tmp_path, other, "--write", "Nothing is other now.")
    assert "Nothing is other now." not in changes.read_text()
    file.write_bytes(b"{}")
    called(monkeypatch, tmp_path, other, "--write", "A first time.")
    assert json.loads(file.read_text()) == other


def test_a_jax_without_figures_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(golden_run, "GOLDEN", tmp_path)
    monkeypatch.setattr(golden_run, "figures", lambda _: {})
    monkeypatch.setattr(golden_run, "version", lambda _: "0.99.3")
    monkeypatch.setattr(sys, "argv", ["golden_run"])
    with pytest.raises(SystemExit, match="there are no figures in .*run_jax_0.99.json\nIf your"):
        golden_run.main()


@pytest.mark.parametrize("why", [" ", "one\ntwo"])
def test_writing_takes_one_line_that_says_why(monkeypatch, tmp_path, capsys, why):
    with pytest.raises(SystemExit) as ended:
        called(monkeypatch, tmp_path, {}, "--write", why)
    assert ended.value.code == 2
    assert "--write takes one line that says what changed the figures" in capsys.readouterr().err


def test_a_command_that_fails_ends_it_with_what_it_printed(monkeypatch, tmp_path):
    failing = ["-c", "import sys; print('no room'); sys.exit(3)"]
    monkeypatch.setattr(golden_run, "commands", lambda _: [failing])
    with pytest.raises(SystemExit, match="no room\n\nstatus 3 of python -c import sys"):
        golden_run.figures(tmp_path)
