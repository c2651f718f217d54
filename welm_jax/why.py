"""Was it the data or the state? The suspect batches of a recovery, fed again from two states.

What makes it possible: any batch is a pure function of its place in the stream.
"""

import contextlib
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, median

import jax
import numpy as np

from welm_jax import run_files
from welm_jax.failures import InputError, StopAndLook
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train import lineage
from welm_jax.train.checkpoints import IsValid, Progress
from welm_jax.train.lineage import Recovery
from welm_jax.train.recovery import Journal
from welm_jax.train.state import TrainState

CALM = 32  # batches before the suspects, whose losses are what was usual
NOT_A_NUMBER = 10.0  # nats that a loss which is no number counts as


@dataclasses.dataclass(frozen=True, kw_only=True)
class Why:
    """What two replays of the suspect batches say about a recovery.

    Attributes:
      verdict: data if the batches raise the loss from another state too; state if only from the
        one they met; not reproducible if not even from that.
      rise: nats per token, on average over the suspects that stood out when it happened, above
        the median of the batches around them.
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
    places = [*replays.calm_before(suspects[0]), *suspects]
    seen, bad = _seen(run, places, suspects)
    again = replays.losses(replays.target(), record.target_cursor, places)
    elsewhere = replays.elsewhere(len(places))
    other = replays.losses(elsewhere, places[0], places)
    rise, rise_again, rise_elsewhere = (
        _rise(losses, bad, record.median) for losses in (seen, again, other)
    )
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


def _seen(
    run: RunFolder, places: Sequence[int], suspects: Sequence[int]
) -> tuple[dict[int, float], set[int]]:
    """The loss at each place when it happened, and the suspects that stood out then.

    What was suspect was fed last when it happened, for from then on it was skipped.
    """
    wanted = set(places)
    lines = {line["cursor"] - 1: line for line in run.iterations() if line["cursor"] - 1 in wanted}
    bad = {at for at in suspects if at in lines and lines[at]["verdict"] != "accepted"}
    if not wanted <= lines.keys():
        raise InputError(f"{run.metrics} lacks some of the batches {places[0]} to {places[-1]}")
    losses = {
        at: math.nan if None in (line["loss"], line["gradient_norm"]) else line["loss"]
        for at, line in lines.items()
    }
    return losses, bad or set(suspects[-CALM:])  # a slow ramp may have no outlier


def _rise(losses: Mapping[int, float], bad: Collection[int], known: float) -> float:
    """How far the bad batches' losses lie above the others', in nats; no number counts as far."""
    others = [loss for at, loss in losses.items() if at not in bad and math.isfinite(loss)]
    usual = median(others) if others else known
    return fmean(
        losses[at] - usual if math.isfinite(losses[at]) else NOT_A_NUMBER for at in sorted(bad)
    )


class _Replays:
    """The run's own step, batches and checkpoints, without anything being written."""

    def __init__(self, run: RunFolder, records: Sequence[Recovery], record: Recovery):
        self._run, self._records, self._record = run, records, record
        self._earlier = records[: record.id - 1]
        self._parts = RunParts.opened(run)

    def calm_before(self, place: int) -> list[int]:
        """The last batches fed before a place, none from before the recovery's target."""
        skipped = lineage.skipped_ranges(self._earlier)
        begin = self._record.target_cursor
        fed = [at for at in range(begin, place) if lineage.advance(at, 0, skipped) == at]
        return fed[-CALM:]

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
        self, start: tuple[TrainState, Progress], cursor: int, places: Sequence[int]
    ) -> dict[int, float]:
        """Trains from a checkpoint on, as it was done; gives the losses at these places."""
        state, progress = start
        parts, wanted = self._parts, set(places)
        skipped, attempt, losses = lineage.skipped_ranges(self._earlier), progress.attempt, {}
        with jax.set_mesh(parts.mesh):
            for at, batch in parts.batches(cursor, skipped):
                if at > places[-1]:
                    break
                step = int(state.step)
                for due in lineage.due(self._earlier, attempt):
                    if due.target_step == step:
                        attempt, state = due.id, parts.with_first_loss_scale(state)
                rate = lineage.multiplier(self._records, attempt)
                rate *= parts.config["FaultConfig"].rate(step)
                state, metrics = parts.train_step(state, batch, np.float32(rate))
                if at in wanted:
                    refused = not np.isfinite(metrics["gradient_norm"].item())
                    losses[at] = math.nan if refused else metrics["loss"].item()
        return losses

    def _restored(self, is_wanted: IsValid) -> tuple[TrainState, Progress] | None:
        parts = self._parts
        with jax.set_mesh(parts.mesh), parts.checkpoints_of(self._run) as checkpoints:
            return checkpoints.restore(parts.like, is_wanted)
