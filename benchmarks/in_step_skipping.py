"""The peers' answer to loss spikes: refuse the update of a step that stands out, and go on.

What OLMo-core (SkipStepOptimizer), MaxText (skip_step_on_spikes) and Levanter (SkipStepConfig) do:
the update of a step is not made if its loss or its gradient norm lies more than 6 standard
deviations above the mean of the last 128. Nothing is gone back from, and no batch is skipped that
was not fed. In one thing this is kinder than they are: what is not finite enters no window, where
it would make them refuse the next 128 steps. A refused update is made up for, as our own loop does.
"""

import math
import statistics
from collections import deque
from collections.abc import Callable

WINDOW, LEAST, DEVIATIONS = 128, 64, 6.0


class StandsOut:
    """Whether a number lies far above the mean of those before it; outliers enter the window."""

    def __init__(self):
        self._before: deque[float] = deque(maxlen=WINDOW)

    def __call__(self, value: float) -> bool:
        before = self._before
        if not math.isfinite(value):
            return True
        enough = len(before) >= LEAST
        mean, deviation = (statistics.fmean(before), statistics.pstdev(before)) if enough else (0, 0)
        before.append(value)
        return enough and value > mean + DEVIATIONS * deviation


def guarded(train_step: Callable) -> Callable:
    """The train step that gives back its old state where the loss or the norm stands out.

    The loop then reads an infinite norm, and counts the update as refused.
    """
    import jax
    import jax.numpy as jnp

    loss_stands_out, norm_stands_out = StandsOut(), StandsOut()

    def step(state, batch, rate):
        kept = jax.tree.map(jnp.copy, state)  # the step consumes the state it is given
        state, metrics = train_step(state, batch, rate)
        # Both are asked, for each keeps a window.
        outlier = loss_stands_out(metrics["loss"].item())
        outlier |= norm_stands_out(metrics["gradient_norm"].item())
        if outlier:
            return kept, {**metrics, "gradient_norm": jnp.float32(math.inf)}
        return state, metrics

    return step
