"""The training loop: batches in, states out, and back from a loss spike by itself.

It keeps one step in flight, so that the devices never wait for the host. It does not know where
batches come from, what a callback does, or where things lie.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array

from welm_jax.failures import InputError, StopAndLook, require_positive
from welm_jax.train import goodput, hosts, lineage, recovery, rollback, spikes
from welm_jax.train.checkpoints import IsValid, Progress
from welm_jax.train.faults import FaultConfig
from welm_jax.train.goodput import Clock
from welm_jax.train.lineage import Recovery, Saved
from welm_jax.train.recovery import Journal
from welm_jax.train.rollback import Exhausted
from welm_jax.train.spikes import Incident, Place, Reading, SpikeConfig
from welm_jax.train.step import Batch

State = Any  # a TrainState; the loop only hands it on
Callback = Callable[[State, Progress], None]
OnStep = Callable[[Mapping[str, int | float | str], float | None], None]


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long a run is and how often it speaks.

    Attributes:
      train_steps: optimizer steps in all.
      seed: of the parameters' initial values.
      log_every_steps: steps between two lines on the console.
      evaluate_every_steps: steps between two held-out evaluations.
    """

    train_steps: int
    seed: int = 0
    log_every_steps: int = 10
    evaluate_every_steps: int = 1000

    def __post_init__(self):
        require_positive(self, "train_steps", "log_every_steps", "evaluate_every_steps")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"LoopConfig.seed = {self.seed}; it must lie in [0, 2^32)")


@runtime_checkable
class Store(Protocol):
    """What the loop asks of checkpoints; `checkpoints.Checkpoints` is one."""

    def restore(self, like: State, is_valid: IsValid) -> tuple[State, Progress] | None:
        """The newest sound checkpoint of those that are valid, of a step and an attempt."""

    def saved(self, is_valid: IsValid) -> Sequence[Saved]:
        """All that are valid, oldest first."""

    def delete_invalid(self, is_valid: IsValid) -> None:
        """Removes the others."""

    def check(self) -> None:
        """Raises if a save in the background failed."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run trains with.

    Attributes:
      train_step: the jitted step; consumes the state, takes the learning rate's multiplier.
      like: shapes, types and shardings of the state.
      new_state: makes the state before the first step.
      reset_loss_scale: gives a state its first loss scale again.
      batches: from a cursor and the skipped ranges to (cursor, batch on devices), without end.
      checkpoints: where states are kept.
      journal: where recoveries are decided.
      train_steps: the step after which training is done.
      spikes: what a spike is and what to do.
      faults: what to plant.
      on_restored: called with what training goes on from, each time that it was restored.
      every: (steps, callback); called after each multiple of its steps, with no step in flight.
      on_step: told of each iteration once its numbers are known, and of the seconds it took (None
        if it compiled or came after a callback).
      on_incident: told of each incident, and of the decision or why there is none, before it is
        committed.
      stopping: asked after each step; true ends the loop early.
      say: tells a person.
      clock: told what the time is spent on.
    """

    train_step: Callable[[State, Batch, np.float32], tuple[State, dict[str, Array]]]
    like: State
    new_state: Callable[[], State]
    reset_loss_scale: Callable[[State], State]
    batches: Callable[[int, Sequence[tuple[int, int]]], Iterator[tuple[int, Batch]]]
    checkpoints: Store
    journal: Journal
    train_steps: int
    spikes: SpikeConfig
    faults: FaultConfig
    on_restored: Callback
    every: Sequence[tuple[int, Callback]]
    on_step: OnStep
    on_incident: Callable[[Incident, Recovery | Exhausted], None]
    stopping: Callable[[], bool]
    say: Callable[[str], None]
    clock: Clock = field(default_factory=Clock)


def run(training: Training) -> tuple[State, Progress]:
    """Trains to the last step, or until asked to stop.

    When the loss goes wrong, training starts again from a checkpoint of some hundred steps before,
    skips the batches that follow it, and goes on with a lower learning rate and a fresh loss scale.
    A rollback in the process and a restart of it are the same path, for all that is decided stands
    in the journal; nothing is compiled anew.

    Returns:
      The state and progress after the last step made.

    Raises:
      StopAndLook: a spike that no recovery is left for, or a journal and checkpoints that do not
        belong together.

    Source: WeLM section 3.2.
    """
    with training.clock.on(goodput.AROUND):
        return _run(training)


def _run(training: Training) -> tuple[State, Progress]:
    state, progress = None, Progress()
    while True:
        records = training.journal.records()
        if state is None:
            with training.clock.on("restoring or initialising"):
                state, progress = _newest_valid(training, records)
            training.on_restored(state, progress)
        due = next(iter(lineage.due(records, progress.attempt)), None)
        if due and due.target_step == progress.step:
            state, progress = _applied(training, due, state, progress)
            continue
        last_step = due.target_step if due else training.train_steps
        state, progress, incident = _train_to(last_step, training, records, state, progress)
        if incident:
            state = None  # the spiked weights make room for those of the checkpoint
            with training.clock.on("recovering"):
                _decide(training, records, incident)
        elif not due or progress.step < last_step:  # done, or asked to stop
            return state, progress


def _newest_valid(training: Training, records: Sequence[Recovery]) -> tuple[State, Progress]:
    """Where the lineage that the journal decided goes on; what it abandoned is removed."""
    is_valid = functools.partial(lineage.is_valid, journal=records)
    state, progress = training.checkpoints.restore(training.like, is_valid) or (
        training.new_state(),
        Progress(),
    )
    training.checkpoints.delete_invalid(is_valid)  # only now: all may be needed by a person
    if progress.attempt > len(records):
        raise StopAndLook(
            f"the checkpoint of step {progress.step} follows recovery {progress.attempt}, but the "
            f"journal ends with {len(records)}; restore recovery_journal from a copy"
        )
    if progress.step >= training.train_steps:
        training.say(
            f"step {progress.step} was made before, and LoopConfig.train_steps = "
            f"{training.train_steps}: nothing is left to do"
        )
    else:
        where = f"going on from step {progress.step}" if progress.step else "from the beginning"
        training.say(f"{where} to {training.train_steps}")
    return state, progress


def _applied(
    training: Training, due: Recovery, state: State, progress: Progress
) -> tuple[State, Progress]:
    """A recovery takes effect, at its target step exactly."""
    training.say(f"recovery {due.id} takes effect at step {progress.step}")
    history = spikes.recovered(progress.history)
    return training.reset_loss_scale(state), replace(progress, attempt=due.id, history=history)


def _decide(training: Training, records: Sequence[Recovery], incident: Incident) -> None:
    """Commits what is done about an incident.

    Raises:
      StopAndLook: nothing that could be done without a person.
    """

    def decide() -> Recovery | Exhausted:
        if training.spikes.action == "stop":
            return Exhausted(reason="SpikeConfig.action is 'stop'")
        saved = training.checkpoints.saved(functools.partial(lineage.is_valid, journal=records))
        return rollback.plan(incident, saved, records, training.spikes, training.train_steps)

    decision = recovery.agreed(decide, (incident, lineage.skipped_ranges(records)))

    def write() -> None:
        training.on_incident(incident, decision)
        if isinstance(decision, Recovery):
            training.journal.commit(decision)

    hosts.by_first(write)  # nobody reads the journal before the record is in it
    if isinstance(decision, Exhausted):
        raise StopAndLook(
            f"the loss went wrong at step {incident.onset.step} ({incident.rule}): "
            f"{decision.reason}"
        )


def _train_to(
    last_step: int,
    training: Training,
    records: Sequence[Recovery],
    state: State,
    progress: Progress,
) -> tuple[State, Progress, Incident | None]:
    """Trains up to a step, or until an incident or being asked to stop."""
    multiplier = lineage.multiplier(records, progress.attempt)
    skipped = lineage.skipped_ranges(records)
    _check_books(progress, skipped)
    batches = training.batches(progress.cursor, skipped)
    in_flight: tuple[int, dict[str, Array]] | None = None
    finished_at: float | None = None
    incident: Incident | None = None

    def settle() -> None:
        nonlocal progress, in_flight, finished_at, incident
        if in_flight is None:
            return
        (cursor, metrics), in_flight = in_flight, None
        with training.clock.on(goodput.STEPS):
            numbers = {name: value.item() for name, value in jax.device_get(metrics).items()}
        now = time.perf_counter()  # after blocking on the result: dispatch returns at once
        seconds = None if finished_at is None else now - finished_at
        progress, record, found = _counted(training, progress, cursor, numbers)
        finished_at, incident = now, incident or found
        training.on_step({**record, "lr_multiplier": multiplier}, seconds)
        training.checkpoints.check()

    while (begun := progress.step + (in_flight is not None)) < last_step:  # if none is refused
        with training.clock.on("waiting for data"):
            cursor, batch = next(batches)
        rate = np.float32(multiplier * training.faults.rate(begun))
        with training.clock.on(training.clock.at_first(goodput.COMPILING, goodput.STEPS)):
            state, metrics = training.train_step(state, batch, rate)
        settle()  # the iteration before, while the devices work on this one
        in_flight = cursor, metrics
        made = begun + 1
        due = [callback for steps, callback in training.every if made % steps == 0]
        stopping = training.stopping()
        if due or stopping or incident or made == last_step or training.faults.is_by_step:
            settle()
        if incident or stopping:
            break
        if due and progress.step == made:
            _check_books(progress, skipped)
            for callback in due:
                with training.clock.on(callback.__name__):
                    callback(state, progress)
            finished_at = None  # a callback's time is no step's
    _check_books(progress, skipped)
    return state, progress, incident


def _counted(
    training: Training, progress: Progress, cursor: int, numbers: dict[str, float]
) -> tuple[Progress, dict[str, Any], Incident | None]:
    """Counts and judges an iteration: the progress after it, its record, what it set off."""
    refused = not (math.isfinite(numbers["loss"]) and math.isfinite(numbers["gradient_norm"]))
    counted = numbers.pop("tokens")  # not finite where the loss weights are not
    batch_tokens = 0 if refused else int(counted)
    progress = replace(
        progress,
        step=progress.step + (not refused),
        cursor=cursor + 1,
        guarded=progress.guarded + refused,
        tokens=progress.tokens + batch_tokens,
    )
    reading = Reading(
        place=Place(iteration=progress.iteration, step=progress.step, cursor=progress.cursor),
        loss=numbers["loss"],
        gradient_norm=numbers["gradient_norm"],
        loss_scale=numbers.get("loss_scale"),  # float16 has one
    )
    history, verdict, incident = spikes.judge(progress.history, reading, training.spikes)
    if incident and training.spikes.action == "log":
        training.say(f"step {progress.step}: would go back, for the loss is {incident.rule}")
        history, incident = spikes.ignored(history), None
    progress = replace(progress, history=history)
    record = {
        "attempt": progress.attempt,
        "step": progress.step,
        "cursor": progress.cursor,
        "guarded": progress.guarded,
        "tokens": progress.tokens,
        "batch_tokens": batch_tokens,
        **numbers,
        "verdict": verdict,
    }
    return progress, record, incident


def _check_books(progress: Progress, skipped: Sequence[tuple[int, int]]) -> None:
    """Every batch behind us was fed once or skipped; if not, there is a fault in here."""
    behind = sum(max(0, min(end, progress.cursor) - begin) for begin, end in skipped)
    if progress.cursor != progress.iteration + behind:
        raise StopAndLook(
            f"cursor {progress.cursor} is not {progress.iteration} iterations and {behind} skipped "
            "batches: the journal is not this run's, or there is a fault in welm_jax"
        )
