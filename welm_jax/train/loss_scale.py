"""The dynamic loss scale of float16: what the loss is multiplied with before the backward pass.

Float16 ends at 65,504 and knows nothing below 6e-8. Scaled, small gradients stay above that; a
scale that is too large shows as a gradient that is not finite. This file decides the next scale
and nothing else: the step scales, unscales and refuses updates.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from welm_jax.failures import InputError, require_positive
from welm_jax.model.config import ModelConfig

# Ours, as Megatron and DeepSpeed have them; the paper names no number. The cap is our own.
FACTOR = 2.0
MINIMUM, MAXIMUM = 1.0, 2.0**32
HYSTERESIS = 2  # overflows until the scale falls, counted anew when it grows


@dataclass(frozen=True, kw_only=True)
class LossScaleConfig:
    """Where the loss scale starts and how fast it may grow; acts on float16 alone.

    Attributes:
      initial: first scale, and that after a recovery: a power of two, so that scaling rounds
        nothing. DeepSpeed's default; Megatron's 2^32 costs some sixteen refused iterations.
      window: finite iterations in a row after which the scale doubles.

    Source: WeLM section 3.2 (dynamic loss scaling, Micikevicius et al. 2018, no constants given).
    """

    initial: float = 2.0**16
    window: int = 1000

    def __post_init__(self):
        is_power = MINIMUM <= self.initial <= MAXIMUM and math.frexp(self.initial)[0] == 0.5
        if not is_power:
            raise InputError(
                f"LossScaleConfig.initial = {self.initial}; it must be a power of two between 1 "
                "and 2^32, such as 65536"
            )
        require_positive(self, "window")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LossScale:
    """The scale and what it remembers; part of the state and so of every checkpoint.

    Attributes:
      scale: what the loss is multiplied with, float32; always a power of two.
      good_steps: finite iterations since it last changed or an overflow came, int32.
      hysteresis_left: the overflow that will halve it, counted from now, int32; 1 is the next.
    """

    scale: Float[Array, ""]
    good_steps: Int[Array, ""]
    hysteresis_left: Int[Array, ""]


def is_needed(config: ModelConfig) -> bool:
    """Whether a model's gradients must be scaled; bfloat16 has float32's range."""
    return config.compute_dtype == "float16"


def initial(config: LossScaleConfig, model: ModelConfig) -> LossScale:
    """The scale before the first iteration, and again after a recovery.

    Args:
      config: names the first scale.
      model: whose gradients are scaled; if they need not be, the scale is 1.
    """
    return LossScale(
        scale=jnp.float32(config.initial if is_needed(model) else 1.0),
        good_steps=jnp.int32(0),
        hysteresis_left=jnp.int32(HYSTERESIS),
    )


def adjusted(loss_scale: LossScale, finite: Bool[Array, ""], config: LossScaleConfig) -> LossScale:
    """The scale for the next iteration.

    The first overflow after the scale grew is forgiven, every later one halves it: a lone bad
    batch costs no range, a scale that is too large falls at once. Finite iterations alone do not
    buy forgiveness back.

    Args:
      loss_scale: the one this iteration used.
      finite: whether loss and gradients were.
      config: names the window.
    """
    scale, left = loss_scale.scale, loss_scale.hysteresis_left
    good_steps = jnp.where(finite, loss_scale.good_steps + 1, 0)
    grows = good_steps >= config.window
    lowered = jnp.where(left > 1, scale, jnp.maximum(scale / FACTOR, MINIMUM))
    raised = jnp.where(grows, jnp.minimum(scale * FACTOR, MAXIMUM), scale)
    left_after_overflow = jnp.maximum(left - 1, 1)
    return LossScale(
        scale=jnp.where(finite, raised, lowered),
        good_steps=jnp.where(grows, 0, good_steps),
        hysteresis_left=jnp.where(finite, jnp.where(grows, HYSTERESIS, left), left_after_overflow),
    )
