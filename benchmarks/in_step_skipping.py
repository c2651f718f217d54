"""The peers' answer to loss spikes: refuse the update of a step that stands out, and go on.

What OLMo-core (SkipStepOptimizer), MaxText (skip_step_on_spikes) and Levanter (SkipStepConfig) do:
the update of a step is not made if its loss or its gradient norm lies more than 6 standard
deviations above the mean of the last 128. Nothing is gone back from, and no batch is skipped that
was not fed. One thing differs in their favour: a loss that is not finite enters no window, where it
would make them refuse the next 128 steps. A refused update is replaced by one more step, as in our
own loop.
"""

import math
import statistics
from collections import deque
from collections.abc import Callable

WINDOW, LEAST, DEVIATIONS = 128, 64, 6.0


def stands_out(value: float, before: deque[float]) -> bool:
    """Whether a number lies far above those before it, which it joins; outliers do, too."""
    if not math.isfinite(value):
        return True
    far = len(before) >= LEAST and (
        value > statistics.fmean(before) + DEVIATIONS * statistics.pstdev(before)
    )
    before.append(value)
    return far


def guarded(train_step: Callable) -> Callable:
    """The train step that gives back its old state where the loss or the norm stands out.

    The loop then reads an infinite norm, and counts the update as refused.
    """
    import jax
    import jax.numpy as jnp

    losses, norms = deque(maxlen=WINDOW), deque(maxlen=WINDOW)

    def step(state, batch, rate):
        kept = jax.tree.map(jnp.copy, state)  # the step consumes the state it is given
        state, metrics = train_step(state, batch, rate)
        outlier = stands_out(metrics["loss"].item(), losses)
        outlier |= stands_out(metrics["gradient_norm"].item(), norms)  # asked either way
        if outlier:
            return kept, {**metrics, "gradient_norm": jnp.float32(math.inf)}
        return state, metrics

    return step
