"""Decoding loops, some steps in one call of the devices: Python answers signals only in between."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from welm_jax.failures import StopAndLook

SECONDS = 0.5  # that a call should take
GROWTH = 16  # most that a call may be longer than the one before
FIXED = 32  # steps of a call in a run of several processes, whose clocks are not the same

# What the loop goes on with; ids written so far; `status`.
Stride = tuple[PyTree, Int[Array, "B new"], Int[Array, "3"]]


def status(step: Int[Array, ""], goes_on: Bool[Array, " B"], lost: Bool[Array, " B"]) -> Array:
    """What the host has to know: steps made, whether any row goes on, rows without numbers."""
    return jax.reshard(jnp.stack([step, jnp.any(goes_on), jnp.sum(lost)]), jax.P())


def run(
    begin: Callable[[], Stride],
    advance: Callable[[PyTree, np.int32], Stride],
    *,
    most_steps: int,
    rows: int,
) -> np.ndarray:
    """Runs a loop to its end: the ids it wrote, [B, new].

    Args:
      begin: makes the first step.
      advance: makes further steps, up to a number of them in all, and may stop earlier.
      most_steps: at which the loop ends.
      rows: that are somebody's.

    Raises:
      StopAndLook: the scores of some rows are NaN or infinite.
    """
    is_alone = jax.process_count() == 1
    stride = 1 if is_alone else FIXED
    state, written, told = begin()
    while True:
        began = time.perf_counter()
        step, goes_on, lost = np.asarray(told).tolist()  # waits
        if lost:
            raise StopAndLook(f"the model's likelihoods are no numbers in {lost} of {rows} answers")
        if not goes_on or step == most_steps:
            return np.asarray(written)
        state, written, told = advance(state, np.int32(min(step + stride, most_steps)))
        if is_alone:
            told.block_until_ready()
            longer = stride * SECONDS / (time.perf_counter() - began)
            stride = max(1, min(GROWTH * stride, int(longer)))
