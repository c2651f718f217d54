"""A run whose model is a hash: everything of a recovery but the arithmetic, in microseconds a step.

The state is the list of what it was trained on, so that two runs ended alike exactly if their
states are equal. Its losses follow from the cursor and the step, with spikes where a schedule
plants them; its checkpoints are JSON files.
"""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from etils import epath

from welm_jax.train import faults, lineage, loop
from welm_jax.train.checkpoints import Progress
from welm_jax.train.faults import FaultConfig
from welm_jax.train.lineage import Saved
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import History, SpikeConfig

EVERY_STEPS = 50
FIRST_SCALE = 2.0**16


@dataclass(frozen=True)
class ToyState:
    """What a lineage was trained on: (cursor, learning rate, loss scale) of every update."""

    updates: tuple[tuple[int, float, float], ...] = ()
    scale: float = FIRST_SCALE

    @property
    def step(self) -> int:
        return len(self.updates)


@dataclass(frozen=True)
class Schedule:
    """What happens to a run: seeds and places.

    Attributes:
      train_steps: in all.
      bad_cursors: batches whose loss jumps.
      bad_steps: states whose loss jumps, whatever they are fed.
      overflows: batches whose gradients are not finite.
    """

    train_steps: int = 700
    bad_cursors: frozenset[int] = frozenset()
    bad_steps: frozenset[int] = frozenset()
    overflows: frozenset[int] = frozenset()

    @classmethod
    def drawn(cls, seed: int) -> "Schedule":
        draw = random.Random(seed)
        bad = set()
        for _ in range(draw.choice((1, 1, 2))):
            begin, length = draw.randint(240, 620), draw.randint(2, 30)
            bad |= set(range(begin, begin + length))
        overflows = {draw.randint(0, 900) for _ in range(draw.randint(0, 8))}
        return cls(
            train_steps=draw.randint(500, 800),
            bad_cursors=frozenset(bad),
            overflows=frozenset(overflows - bad),
        )

    def step(self, state: ToyState, cursor: int, rate: float):
        """The next state and the metrics; a pure function, as the real step is."""
        noise = random.Random(cursor).gauss(0, 0.02)
        bad = cursor in self.bad_cursors or state.step in self.bad_steps
        loss = 2 + 4 * math.exp(-state.step / 100) + noise + 3.0 * bad
        overflow = cursor in self.overflows
        metrics = {
            "loss": loss,
            "gradient_norm": math.inf if overflow else 1.0,
            "learning_rate": rate,
            "tokens": 8.0,
            "loss_scale": state.scale,
        }
        if overflow:
            state = replace(state, scale=max(state.scale / 2, 1.0))
        else:
            state = replace(state, updates=(*state.updates, (cursor, rate, state.scale)))
        return state, {name: np.float64(value) for name, value in metrics.items()}


@dataclass
class ToyCheckpoints:
    """A folder of JSON files by the rules of the real ones: whole or skipped, kept if valid."""

    folder: epath.Path
    said: list[str] = field(default_factory=list)

    def save(self, state: ToyState, progress: Progress) -> None:
        content = json.dumps([asdict(progress), state.updates, state.scale])
        faults.write_boundary(f"checkpoint {progress.step} of {progress.attempt} comes")
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{progress.step}"
        file.write_text(hashlib.sha256(content.encode()).hexdigest() + content)
        faults.write_boundary(f"checkpoint {progress.step} of {progress.attempt} is written")

    def _all(self) -> dict[int, tuple[Progress, ToyState]]:
        found = {}
        for file in self.folder.iterdir() if self.folder.exists() else ():
            digest, content = file.read_text()[:64], file.read_text()[64:]
            if hashlib.sha256(content.encode()).hexdigest() != digest:
                continue
            host, updates, scale = json.loads(content)
            progress = Progress(**{**host, "history": History.from_json(host["history"])})
            found[int(file.name)] = progress, ToyState(tuple(map(tuple, updates)), scale)
        return found

    def restore(self, like, is_valid) -> tuple[ToyState, Progress] | None:
        for _, (progress, state) in sorted(self._all().items(), reverse=True):
            if is_valid(progress.step, progress.attempt):
                return state, progress
        return None

    def saved(self, is_valid) -> list[Saved]:
        return [
            Saved(step=step, cursor=progress.cursor)
            for step, (progress, _) in sorted(self._all().items())
            if is_valid(step, progress.attempt)
        ]

    def delete_invalid(self, is_valid) -> None:
        for step, (progress, _) in sorted(self._all().items(), reverse=True):
            if not is_valid(step, progress.attempt):
                (self.folder / f"{step}").unlink()
                faults.write_boundary(f"checkpoint {step} of {progress.attempt} is gone")

    def check(self) -> None:
        pass


def training(
    folder: epath.Path,
    schedule: Schedule,
    spike_config: SpikeConfig | None = None,
    watch: Callable[[ToyState, int], None] = lambda state, cursor: None,
    on_step: Callable = lambda record, seconds: None,
    incidents: list | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> loop.Training:
    """What the loop needs to train in a folder, from what lies there.

    Args:
      folder: holds `checkpoints` and `recovery_journal`.
      schedule: what happens.
      spike_config: by default all is recovered from, however much is skipped.
      watch: told of each state and the cursor it is fed.
      on_step: the loop's.
      incidents: where (incident, decision) are put.
      stopping: the loop's.
    """
    checkpoints = ToyCheckpoints(folder / "checkpoints")
    told = [] if incidents is None else incidents

    def train_step(state, cursor, rate):
        watch(state, cursor)
        return schedule.step(state, cursor, float(rate))

    def batches(cursor: int, skipped) -> Iterator[tuple[int, int]]:
        for number in itertools.count():
            at = lineage.advance(cursor, number, skipped)
            yield at, at

    return loop.Training(
        train_step=train_step,
        like=None,
        new_state=ToyState,
        reset_loss_scale=lambda state: replace(state, scale=FIRST_SCALE),
        batches=batches,
        checkpoints=checkpoints,
        journal=Journal(folder / "recovery_journal"),
        train_steps=schedule.train_steps,
        spikes=spike_config or SpikeConfig(max_skipped_fraction=1.0),
        faults=FaultConfig(),
        on_restored=lambda state, progress: None,
        every=[(EVERY_STEPS, checkpoints.save)],
        on_step=on_step,
        on_incident=lambda *one: told.append(one),
        stopping=stopping,
        say=lambda text: None,
    )


def run(*where, **how) -> tuple[ToyState, Progress]:
    """Trains as `training` describes it; like the real one it saves how it ended."""
    what = training(*where, **how)
    ended = loop.run(what)
    what.checkpoints.save(*ended)
    return ended
