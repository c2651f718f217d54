"""The short form of benchmarks/recovery_crashes.py, and that it can fail."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from etils import epath

from benchmarks.recovery_crashes import crash_everywhere
from tests.train import toy_runs
from welm_jax.train import lineage, loop
from welm_jax.train.recovery import Journal


@pytest.mark.parametrize("schedules", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_schedules_crash_at_every_write_boundary_and_lose_nothing(schedules):
    line = [sys.executable, "-m", "benchmarks.recovery_crashes", "--schedules", str(schedules)]
    ended = subprocess.run(line, capture_output=True, text=True)  # without run-time type checks
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary, *bars = ended.stdout.splitlines()
    assert [json.loads(bar)["value"] for bar in bars[:3]] == [0, 0, 0]
    counts = json.loads(summary.split(": ", 1)[1].replace("'", '"'))
    assert counts["crashes"] > 25 * schedules and counts["recoveries"] >= schedules


def test_the_loops_own_books_stop_a_start_from_an_abandoned_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(lineage, "is_valid", lambda step, attempt, journal: True)
    assert counted(tmp_path)["StopAndLook"]


def test_it_is_caught_if_an_abandoned_checkpoint_passes_for_a_recovered_one(tmp_path, monkeypatch):
    plain = toy_runs.ToyCheckpoints.restore

    def restore(checkpoints, like, is_valid):
        found = plain(checkpoints, like, is_valid)
        records = Journal(checkpoints.folder.parent / "recovery_journal").records()
        return found and (found[0], replace(found[1], attempt=len(records)))

    monkeypatch.setattr(lineage, "is_valid", lambda step, attempt, journal: True)
    monkeypatch.setattr(loop, "_check_books", lambda *_: None)
    monkeypatch.setattr(toy_runs.ToyCheckpoints, "restore", restore)
    assert counted(tmp_path)["abandoned lineages"]


def test_it_is_caught_if_a_decision_is_forgotten_at_a_start(tmp_path, monkeypatch):
    monkeypatch.setattr(lineage, "skipped_ranges", lambda journal: ())
    assert counted(tmp_path)["lost skips"]


def test_it_is_caught_if_a_decision_takes_effect_before_its_step(tmp_path, monkeypatch):
    plain = lineage.multiplier
    newest = lambda records, attempt: plain(records, len(records))  # noqa: E731
    monkeypatch.setattr(lineage, "multiplier", newest)
    assert counted(tmp_path)["other endings"]


def counted(tmp_path):
    """What is counted until something is, in at most 20 schedules."""
    counts = Counter()
    for seed in range(20):
        try:
            counts += crash_everywhere(epath.Path(tmp_path / f"{seed}"), seed)
        except Exception as error:  # a broken loop may also trip over its own books
            counts[type(error).__name__] += 1
        if counts - Counter(crashes=counts["crashes"], recoveries=counts["recoveries"]):
            break
    return counts


def test_a_journal_behind_a_backend_without_append_and_rename(tmp_path):
    from tests.bucket import BucketPath
    from tests.train.test_recovery import FIRST

    folder = BucketPath(tmp_path)
    with pytest.raises(OSError, match="does not open with 'a'"):
        (folder / "file").open("a")
    (folder / "file").write_text("x")
    with pytest.raises(OSError, match="does not rename"):
        (folder / "file").rename(folder / "other")
    journal = Journal(folder / "recovery_journal")
    journal.commit(FIRST)
    assert journal.records() == [FIRST]
