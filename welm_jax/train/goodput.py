"""Where a run's wall time goes: to steps, or to what is around them.

A life of the run is one file, written anew with each checkpoint, so that a kill loses little.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from welm_jax import run_files

STARTING, COMPILING, STEPS = "starting", "compiling", "steps"


class Clock:
    """Splits the time since it was made among activities; each moment counts for one."""

    def __init__(self):
        self._seconds: dict[str, float] = {}
        self._activity, self._since = STARTING, time.perf_counter()

    @contextlib.contextmanager
    def on(self, activity: str) -> Iterator[None]:
        """What is done in this block counts for an activity, and not for the one around it."""
        former = self._switched(activity)
        try:
            yield
        finally:
            self._switched(former)

    def at_first(self, first: str, later: str) -> str:
        """An activity until it has taken place once, then another."""
        return later if first in self._seconds else first

    def seconds(self) -> dict[str, float]:
        """Seconds of each activity so far."""
        self._switched(self._activity)
        return dict(self._seconds)

    def _switched(self, activity: str) -> str:
        now, former = time.perf_counter(), self._activity
        self._seconds[former] = self._seconds.get(former, 0.0) + now - self._since
        self._activity, self._since = activity, now
        return former


def life_file(folder: epath.Path) -> epath.Path:
    """A file for this life of the run, after those of the lives before it."""
    lives = sum(1 for _ in folder.iterdir()) if folder.exists() else 0
    return folder / f"{lives + 1:06d}.json"


def of_lives(folder: epath.Path) -> dict[str, float]:
    """Seconds of each activity, all lives of a run together."""
    total: dict[str, float] = {}
    for file in sorted(folder.iterdir()) if folder.exists() else []:
        for activity, seconds in run_files.read_json(file).items():
            total[activity] = total.get(activity, 0.0) + seconds
    return total


def shares(seconds: Mapping[str, float], discarded: float = 0.0) -> list[tuple[str, float]]:
    """Each activity's share of the wall time, the largest first.

    Args:
      seconds: of each activity.
      discarded: seconds of steps that a rollback threw away; they are no goodput.
    """
    total = sum(seconds.values())
    parts = dict(seconds)
    if discarded:
        parts[STEPS] = max(parts.get(STEPS, 0.0) - discarded, 0.0)
        parts["discarded steps"] = discarded
    named = ((activity, part / total) for activity, part in parts.items() if total)
    return sorted(named, key=lambda one: -one[1])


def percentiles(seconds: Sequence[float]) -> dict[int, float]:
    """The median, 90th and 99th percentile of step times, by the nearest rank; empty of none."""
    ordered = sorted(seconds)
    return {
        percent: ordered[min(len(ordered) - 1, percent * len(ordered) // 100)]
        for percent in (50, 90, 99)
        if ordered
    }
