import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_decoder import TINY
from welm_jax.failures import InputError
from welm_jax.train import loss_scale
from welm_jax.train.loss_scale import LossScaleConfig

HALF = dataclasses.replace(TINY, compute_dtype="float16")


@functools.partial(jax.jit, static_argnums=0)
def scan(config, finite):
    """The scale, the good steps and the hysteresis after each iteration."""

    def iterate(now, finite):
        now = loss_scale.adjusted(now, finite, config)
        return now, (now.scale, now.good_steps, now.hysteresis_left)

    return jax.lax.scan(iterate, loss_scale.initial(config, HALF), finite)[1]


def after_each(pattern, **config):
    """The same for a pattern of `.` (finite) and `x` (overflow), as rows of numbers."""
    finite = np.array([letter == "." for letter in pattern])
    return np.stack(scan(LossScaleConfig(**config), finite), axis=1).tolist()


@pytest.mark.parametrize(
    ("pattern", "scales"),
    [
        ("x", [16]),  # the first overflow is forgiven
        ("xx", [16, 8]),  # the second halves
        ("xxxx", [16, 8, 4, 2]),  # and each one after it
        ("x..x", [16, 16, 16, 8]),  # finite ones do not buy forgiveness back
        ("...", [16, 16, 32]),  # three in a row double it
        ("..x...", [16, 16, 16, 16, 16, 32]),  # an overflow begins the count anew
        ("......", [16, 16, 32, 32, 32, 64]),
        ("x...x", [16, 16, 16, 32, 32]),  # growth brings forgiveness back,
        ("x...xx", [16, 16, 16, 32, 32, 16]),  # once
    ],
)
def test_sequences_worked_by_hand(pattern, scales):
    assert [row[0] for row in after_each(pattern, initial=16.0, window=3)] == scales


def test_what_it_remembers_worked_by_hand():
    """Scale, good steps, and which overflow from now on halves."""
    assert after_each(".x...", initial=4.0, window=3) == [
        [4, 1, 2],
        [4, 0, 1],
        [4, 1, 1],
        [4, 2, 1],
        [8, 0, 2],
    ]


def test_it_stays_between_its_bounds():
    assert [row[0] for row in after_each("xxxx", initial=2.0)] == [2, 1, 1, 1]
    assert [row[0] for row in after_each("...", initial=2.0**31, window=1)] == [2**32] * 3


def test_the_window_is_a_thousand_iterations():
    scales = [row[0] for row in after_each("." * 2001)]
    assert scales == [2**16] * 999 + [2**17] * 1000 + [2**18] * 2


def reference(pattern, initial, window):
    """The rules in plain Python: a counter of overflows that only growth sets back."""
    scale, good_steps, overflows, scales = initial, 0, 0, []
    for letter in pattern:
        if letter == "x":
            overflows += 1
            good_steps = 0
            if overflows >= 2:
                scale = max(scale / 2, 1)
        else:
            good_steps += 1
            if good_steps == window:
                scale, good_steps, overflows = min(2 * scale, 2**32), 0, 0
        scales.append(scale)
    return scales


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.6])
@pytest.mark.parametrize("window", [1, 4, 20])
def test_random_patterns_follow_the_reference(rate, window):
    for seed in range(5):
        overflows = np.random.default_rng(seed).random(500) < rate
        pattern = "".join("x" if overflow else "." for overflow in overflows)
        found = [row[0] for row in after_each(pattern, initial=2.0**10, window=window)]
        assert found == reference(pattern, 2.0**10, window)


def test_only_float16_is_scaled():
    needed = {
        dtype: loss_scale.is_needed(dataclasses.replace(TINY, compute_dtype=dtype))
        for dtype in ("bfloat16", "float16", "float32")
    }
    assert needed == {"bfloat16": False, "float16": True, "float32": False}
    off = loss_scale.initial(LossScaleConfig(), TINY)
    assert off.scale == 1 and off.scale.dtype == jnp.float32


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"initial": 0.5}, "LossScaleConfig.initial = 0.5; it must be a power of two between 1"),
        ({"initial": 1000.0}, "initial = 1000.0; it must be a power of two"),
        ({"initial": 2.0**33}, "such as 65536"),
        ({"initial": float("nan")}, "initial = nan"),
        ({"initial": float("inf")}, "initial = inf"),
        ({"window": 0}, "LossScaleConfig.window = 0; it must be 1 or more"),
    ],
)
def test_impossible_scales_are_refused(config, text):
    with pytest.raises(InputError, match=text):
        LossScaleConfig(**config)
