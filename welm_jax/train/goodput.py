"""Where a run's wall time goes: to steps, or to what is around them.

A life of the run is one file, written anew every half a minute, so that a kill loses little.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from welm_jax import run_files

STARTING, COMPILING, STEPS, AROUND = "starting", "compiling", "steps", "around steps"
DOWN = "down between lives"
WRITTEN_SECONDS = 30  # at least, between two writings of a life


class Clock:
    """Splits the time since a moment among activities; each moment counts for one.

    Args:
      began: the moment, by time.perf_counter; now unless given.
    """

    def __init__(self, began: float | None = None):
        self._seconds: dict[str, float] = {}
        self._activity = STARTING
        self._since = time.perf_counter() if began is None else began

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


class Life:
    """This life of a run: a file after those of the lives before it.

    Its keys: `until`, the moment of writing (seconds since 1970), and `seconds` of each activity.

    Args:
      folder: of all lives.
      clock: of this one.
      writes: whether this process does; of several the first.
    """

    def __init__(self, folder: epath.Path, clock: Clock, writes: bool = True):
        self.file = folder / f"{len(_files(folder)) + 1:06d}.json"
        self._clock, self._due, self._writes = clock, 0.0, writes

    def write(self, now: bool = False) -> None:
        """Writes the life so far, if that is due or asked for."""
        if self._writes and (now or time.monotonic() >= self._due):
            self._due = time.monotonic() + WRITTEN_SECONDS
            run_files.write_json(
                self.file, {"until": time.time(), "seconds": self._clock.seconds()}
            )


def of_lives(folder: epath.Path) -> dict[str, float]:
    """Seconds of each activity, all lives of a run together, and of what lay between them.

    Between them nobody trained: from a life's last writing to the next one's beginning.
    """
    total: dict[str, float] = {}
    before = None
    for file in _files(folder):
        life = run_files.read_json(file)
        for activity, seconds in life["seconds"].items():
            total[activity] = total.get(activity, 0.0) + seconds
        if before is not None:
            began = life["until"] - sum(life["seconds"].values())
            total[DOWN] = total.get(DOWN, 0.0) + max(began - before, 0.0)
        before = life["until"]
    return total


def _files(folder: epath.Path) -> list[epath.Path]:
    return sorted(folder.glob("[0-9]*.json")) if folder.exists() else []


def shares(seconds: Mapping[str, float], wasted: float = 0.0) -> list[tuple[str, float]]:
    """Each activity's share of the wall time, the largest first.

    Args:
      seconds: of each activity.
      wasted: seconds of steps that came to nothing; they are no goodput.
    """
    total = sum(seconds.values())
    parts = dict(seconds)
    if wasted:
        parts[STEPS] = max(parts.get(STEPS, 0.0) - wasted, 0.0)
        parts["steps discarded, refused or made again"] = wasted
    named = ((activity, part / total) for activity, part in parts.items() if total)
    return sorted(named, key=lambda one: -one[1])


def percentiles(seconds: Sequence[float]) -> dict[int, float]:
    """The median, 90th and 99th percentile of step times, by the nearest rank; empty of none."""
    ordered = sorted(seconds)
    return {
        percent: ordered[-(-percent * len(ordered) // 100) - 1]
        for percent in (50, 90, 99)
        if ordered
    }
