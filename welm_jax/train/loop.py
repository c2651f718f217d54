"""The training loop: batches in, states out, callbacks in between.

It does not know where batches come from, what a callback does, or how a run ends; it keeps one
step in flight, so that the devices never wait for the host.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
from jaxtyping import PyTree

from welm_jax.failures import InputError, require_positive
from welm_jax.train.checkpoints import Progress
from welm_jax.train.step import Batch

Callback = Callable[[PyTree, Progress], None]  # gets the state
OnStep = Callable[[Mapping[str, int | float], float | None], None]


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


def run(
    state: PyTree,
    progress: Progress,
    *,
    train_step: Callable[[PyTree, Batch], tuple[PyTree, dict]],
    batches: Iterable[tuple[int, Batch]],
    last_step: int,
    on_step: OnStep,
    every: Sequence[tuple[int, Callback]],
    stopping: Callable[[], bool],
) -> tuple[PyTree, Progress]:
    """Trains to the last step, or until asked to stop.

    Args:
      state: consumed; the first step donates it.
      progress: where `state` stands.
      train_step: the jitted step.
      batches: (cursor, batch on devices), beginning at progress.cursor.
      last_step: the step after which training is done.
      on_step: told of each step once its numbers are known: the record, and the seconds it took
        (None for a step that compiled or came after a callback).
      every: (steps, callback); called after each multiple of its steps, with no step in flight.
      stopping: asked after each step; true ends the loop early.

    Returns:
      The state and progress after the last step made.
    """
    batches = iter(batches)
    in_flight: dict | None = None
    finished_at: float | None = None

    def settle() -> None:
        nonlocal progress, in_flight, finished_at
        if in_flight is None:
            return
        numbers = {name: value.item() for name, value in jax.device_get(in_flight).items()}
        now = time.perf_counter()  # after blocking on the result: dispatch returns at once
        seconds = None if finished_at is None else now - finished_at
        batch_tokens = int(numbers.pop("tokens"))
        progress = Progress(
            step=progress.step + 1,
            cursor=progress.cursor + 1,
            tokens=progress.tokens + batch_tokens,
        )
        place = {"step": progress.step, "cursor": progress.cursor, "tokens": progress.tokens}
        on_step({**place, "batch_tokens": batch_tokens, **numbers}, seconds)
        in_flight, finished_at = None, now

    for step in range(progress.step + 1, last_step + 1):
        _, batch = next(batches)
        state, metrics = train_step(state, batch)
        settle()
        in_flight = metrics
        due = [callback for steps, callback in every if step % steps == 0]
        if due or stopping():
            settle()
            for callback in due:
                callback(state, progress)
            finished_at = None if due else finished_at  # a callback's time is no step's
            if stopping():
                break
    settle()
    return state, progress
