"""Was it the data or the state? The suspect batches of a recovery, fed again from two states.

What makes it possible: any batch is a pure function of its place in the stream.
"""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean

import jax
import numpy as np

from welm_jax import run_files
from welm_jax.failures import InputError, StopAndLook
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train import lineage, spikes
from welm_jax.train.checkpoints import IsValid, Progress
from welm_jax.train.lineage import Recovery
from welm_jax.train.recovery import Journal
from welm_jax.train.state import TrainState

NOT_A_NUMBER = 10.0  # nats that a loss which is no number counts as


@dataclasses.dataclass(frozen=True, kw_only=True)
class Why:
    """What two replays of the suspect batches say about a recovery.

    Attributes:
      verdict: data if the batches raise the loss from another state too; state if only from the
        one they met; not reproducible if not even from that.
      rise: nats per token, on average over the suspects, above what was usual when it happened.
      rise_again: the same in a replay from the recovery's target.
      rise_elsewhere: the same from another checkpoint.
      elsewhere_step: of that checkpoint.
    """

    verdict: str
    rise: float
    rise_again: float
    rise_elsewhere: float
    elsewhere_step: int


def why(run: RunFolder, event: int) -> Why:
    """Feeds the suspect batches of a recovery again: was it the data or the state?

    Once from the recovery's target as it happened, once from another checkpoint. Nothing is
    saved; a fault that the run was armed with comes again by its own rule.

    Args:
      run: not training at the moment, for it needs the devices.
      event: id of a recovery in the journal.

    Raises:
      InputError: there is no such recovery, it was decided by hand, or its target or any other
        checkpoint is gone.
    """
    records = Journal(run.journal).records()
    if not 1 <= event <= len(records):
        known = f"1 to {len(records)}" if records else "none yet"
        raise InputError(f"there is no recovery {event}; known are {known}")
    record = records[event - 1]
    if record.onset is None:
        raise InputError(f"recovery {event} was decided by hand and has no suspect batches")
    replays = _Replays(run, records, record)
    suspects = lineage.suspects(record, records[: event - 1])
    usual, seen = record.median, _seen(run, suspects)
    again = replays.losses(replays.target(), record.target_cursor, suspects)
    elsewhere = replays.elsewhere(len(suspects))
    other = replays.losses(elsewhere, suspects[0], suspects)
    rise, rise_again = _rise(seen, usual), _rise(again, usual)
    rise_elsewhere = _rise(other, _usual(elsewhere[1], other))
    if rise_again < rise / 2:
        verdict = "not reproducible"
    else:
        verdict = "data" if rise_elsewhere > rise_again / 2 else "state"
    found = Why(
        verdict=verdict,
        rise=rise,
        rise_again=rise_again,
        rise_elsewhere=rise_elsewhere,
        elsewhere_step=elsewhere[1].step,
    )
    run_files.write_json(run.answer_of(event), dataclasses.asdict(found))
    return found


def _rise(losses: Sequence[float | None], usual: float) -> float:
    """How far losses lie above what is usual, in nats; a refused update counts as far above."""
    known = (math.nan if loss is None else loss for loss in losses)
    return fmean(loss - usual if math.isfinite(loss) else NOT_A_NUMBER for loss in known)


def _seen(run: RunFolder, suspects: Sequence[int]) -> list[float | None]:
    """The losses of the suspect batches when it happened, which is when they were fed last."""
    wanted = set(suspects)
    lines = {
        line["cursor"] - 1: math.nan if line["gradient_norm"] is None else line["loss"]
        for line in run_files.read_lines(run.metrics)
        if line["cursor"] - 1 in wanted
    }
    if not lines:
        raise InputError(f"{run.metrics} has none of the batches {suspects[0]} and after")
    return [lines[cursor] for cursor in sorted(lines)]


def _usual(progress: Progress, losses: Sequence[float]) -> float:
    """What a checkpoint's own last losses were; at the very beginning there are none."""
    accepted = progress.history.accepted[-spikes.RAMP_WINDOW :]
    return fmean(accepted) if accepted else losses[0]


class _Replays:
    """The run's own step, batches and checkpoints, without anything being written."""

    def __init__(self, run: RunFolder, records: Sequence[Recovery], record: Recovery):
        self._run, self._records, self._record = run, records, record
        self._parts = RunParts.opened(run)

    def target(self) -> tuple[TrainState, Progress]:
        """The state that went wrong, as it was saved before."""
        step, event = self._record.target_step, self._record.id
        if step == 0:
            with jax.set_mesh(self._parts.mesh):
                return self._parts.new_state(), Progress()
        restored = self._restored(lambda one, attempt: one == step and attempt < event)
        if restored is None:
            raise InputError(
                f"the state that recovery {event} went back to, of step {step}, is gone; ask about "
                "the last recovery"
            )
        return restored

    def elsewhere(self, count: int) -> tuple[TrainState, Progress]:
        """Another checkpoint, from which `count` batches do not lead through the onset."""
        record = self._record
        with self._parts.checkpoints_of(self._run) as checkpoints:
            steps = [one.step for one in checkpoints.saved(lambda step, attempt: True)]
        clear = [
            step
            for step in steps
            if step != record.target_step
            and (step + count < record.onset.step or step > record.detected.step)
        ]
        for nearest in sorted(clear, key=lambda step: abs(step - record.target_step)):
            with contextlib.suppress(StopAndLook):  # a damaged one
                restored = self._restored(lambda one, attempt, nearest=nearest: one == nearest)
                if restored:
                    return restored
        raise InputError(
            f"recovery {record.id} needs a second checkpoint, which the onset at step "
            f"{record.onset.step} does not touch; there are {steps}"
        )

    def losses(
        self, start: tuple[TrainState, Progress], cursor: int, suspects: Sequence[int]
    ) -> list[float]:
        """Trains from a checkpoint on, as it was done; gives the losses of the suspects."""
        state, progress = start
        earlier, parts = self._records[: self._record.id - 1], self._parts
        skipped, attempt, losses = lineage.skipped_ranges(earlier), progress.attempt, []
        with jax.set_mesh(parts.mesh):
            for at, batch in parts.batches(cursor, skipped):
                if at > suspects[-1]:
                    break
                step = int(state.step)
                for due in lineage.applicable(earlier):
                    if due.id > attempt and due.target_step == step:
                        attempt, state = due.id, parts.with_first_loss_scale(state)
                rate = lineage.multiplier(self._records, attempt)
                rate *= parts.config["FaultConfig"].rate(step)
                state, metrics = parts.train_step(state, batch, np.float32(rate))
                if at in suspects:
                    refused = not np.isfinite(metrics["gradient_norm"].item())
                    losses.append(math.nan if refused else metrics["loss"].item())
        return losses

    def _restored(self, is_wanted: IsValid) -> tuple[TrainState, Progress] | None:
        parts = self._parts
        with jax.set_mesh(parts.mesh), parts.checkpoints_of(self._run) as checkpoints:
            return checkpoints.restore(parts.like, is_wanted)
