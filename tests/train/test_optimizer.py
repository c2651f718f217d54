import jax.numpy as jnp
import numpy as np
import pytest

from welm_jax.failures import InputError
from welm_jax.train import optimizer
from welm_jax.train.optimizer import OptimizerConfig


def test_the_schedule_worked_by_hand():
    """Peak 0.01 after 4 steps, a cosine over the next 16 down to 0.001, and flat from there."""
    schedule = optimizer.make_schedule(
        OptimizerConfig(max_learning_rate=0.01, warmup_steps=4, decay_steps=20)
    )
    by_hand = {
        0: 0.0,
        1: 0.0025,
        4: 0.01,
        8: 0.001 + 0.009 * (1 + np.sqrt(0.5)) / 2,  # a quarter of the cosine
        12: 0.0055,
        20: 0.001,
        500: 0.001,
    }
    for step, rate in by_hand.items():
        assert float(schedule(jnp.int32(step))) == pytest.approx(rate, rel=1e-6, abs=1e-9), step


def test_without_warm_up_the_first_step_is_the_peak():
    config = OptimizerConfig(max_learning_rate=0.01, warmup_steps=0, decay_steps=20)
    assert float(optimizer.make_schedule(config)(jnp.int32(0))) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"beta1": 1.0}, "beta1 = 1.0; it must lie between 0 and 0.9999"),
        ({"clip_norm": -1.0}, "clip_norm = -1.0; it must lie between"),
        ({"max_learning_rate": 0.0}, "max_learning_rate = 0.0; it must lie between 1e-12 and 1"),
        ({"warmup_steps": 20}, r"warmup_steps = 20 must lie in \[0, decay_steps = 20\)"),
        ({"warmup_steps": -1}, "warmup_steps = -1 must lie in"),
    ],
)
def test_impossible_schedules_are_refused(change, text):
    given = {"max_learning_rate": 0.01, "warmup_steps": 4, "decay_steps": 20}
    with pytest.raises(InputError, match=text):
        OptimizerConfig(**{**given, **change})
