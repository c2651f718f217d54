"""Crashes at every boundary between two writes of fuzzed runs: is anything decided ever lost?

    python -m benchmarks.recovery_crashes --schedules 10000

Each schedule (spikes, refused updates) is run to its end by the real loop and journal around a
model that is a hash. It dies the first time it comes by each write boundary: before and after each
checkpoint, each journal record and each deletion; then it starts again from what lies in the
folder. At some starts a checkpoint has been damaged meanwhile, at some a record is half written.
Half of the schedules lie behind a file backend that can neither append nor rename.

Counted, with what is committed by then: starts from a state that was fed what a record skips, and
batches that are fed though a record skips them. In the end the state must equal that of a run that
was given the finished journal and never crashed.
"""

import argparse
import itertools
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from unittest import mock

from etils import epath

from benchmarks import bars
from tests.bucket import BucketPath
from tests.train import toy_runs
from tests.train.toy_runs import Schedule, ToyState
from welm_jax.failures import StopAndLook
from welm_jax.train import faults
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import SpikeConfig

NONE_OF = ("lost skips", "abandoned lineages", "other endings")
DAMAGED = 0.1  # share of the starts before which a checkpoint is spoilt


class Crash(BaseException):
    """Not an Exception: nobody may catch it."""


def crash_everywhere(folder: epath.Path, seed: int) -> Counter:
    """Runs one schedule through all its crashes and counts what happened, lost and abandoned."""
    schedule, draw = Schedule.drawn(seed), random.Random(seed)
    journal, passed, counts = Journal(folder / "recovery_journal"), set(), Counter()

    def boundary(name: str) -> None:
        if name not in passed:
            passed.add(name)
            raise Crash(name)

    with mock.patch.object(faults, "write_boundary", boundary):
        for _ in itertools.count():
            try:
                ended = _ended(folder, schedule, _watch(journal, counts))
                break
            except Crash as crash:
                counts["crashes"] += 1
                _meanwhile(folder, str(crash), len(journal.records()), draw)
    counts["recoveries"] = len(journal.records())
    if isinstance(ended, str):  # which checkpoints were damaged may decide that
        counts["stopped"] = 1
    else:
        counts["other endings"] = ended != _undisturbed(folder, schedule, journal)
    return counts


def _ended(folder: epath.Path, schedule: Schedule, watch: Callable = lambda *_: None):
    """The state and progress at the end, or why a person must look."""
    config = SpikeConfig(rollback_steps=50, skip_batches=40, max_skipped_fraction=1.0)
    try:
        return toy_runs.run(folder, schedule, config, watch)
    except StopAndLook as error:
        if "the loss went wrong" not in str(error):
            raise  # the loop found a fault of its own
        return str(error)


def _watch(journal: Journal, counts: Counter) -> Callable[[ToyState, int], None]:
    """Looks at each state and batch with what is committed by then."""
    records, step_before = [], None

    def watch(state: ToyState, cursor: int) -> None:
        nonlocal records, step_before
        if step_before is None or state.step <= step_before:  # a start, or a rollback
            records = journal.records()
            for record in records:
                after = {cursor for cursor, _, _ in state.updates[record.target_step :]}
                counts["abandoned lineages"] += not after.isdisjoint(range(*record.skipped))
        step_before = state.step
        for record in records:
            skips = state.step >= record.target_step and cursor in range(*record.skipped)
            counts["lost skips"] += skips

    return watch


def _meanwhile(folder: epath.Path, crash: str, committed: int, draw: random.Random) -> None:
    """What a crash leaves, and what happens before the next start."""
    if crash.startswith("record") and crash.endswith("comes"):
        (folder / "recovery_journal").mkdir(parents=True, exist_ok=True)
        cut = '{\n "id": 1,\n "kind": "automatic"'[: draw.randint(0, 33)]
        record = folder / "recovery_journal" / f"{committed + 1:06d}.json"
        record.write_text(cut, encoding="utf-8")
    checkpoints = folder / "checkpoints"
    files = sorted(checkpoints.iterdir()) if checkpoints.exists() else []
    if draw.random() < DAMAGED and len(files) > 2:
        draw.choice(files).write_text("damaged", encoding="utf-8")


def _undisturbed(folder: epath.Path, schedule: Schedule, journal: Journal):
    """How a run ends that was given the journal and never crashed."""
    clean = folder / "clean"
    for record in journal.records():
        Journal(clean / "recovery_journal").commit(record)
    return _ended(clean, schedule)


def _one(seed: int) -> Counter:
    with tempfile.TemporaryDirectory() as folder:
        return crash_everywhere((epath.Path, BucketPath)[seed % 2](folder), seed)


def main() -> int:
    """Runs the schedules on all cores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first schedule")
    options = parser.parse_args()
    total, seeds = Counter(), range(options.first, options.first + options.schedules)
    with multiprocessing.get_context("spawn").Pool() as pool:
        for done, counts in enumerate(pool.imap_unordered(_one, seeds), start=1):
            total += counts
            if done % 500 == 0:
                print(f"{done} schedules: {dict(total)}", flush=True)
    print(f"in all: {dict(total)}")
    measured = [(bar, total[bar], "== 0") for bar in NONE_OF]
    return bars.ended([*measured, ("crashes", total["crashes"], f">= {25 * options.schedules}")])


if __name__ == "__main__":
    sys.exit(main())
