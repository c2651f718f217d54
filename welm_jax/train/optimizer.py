"""AdamW, its schedule and its clipping, from optax.

The learning rate is applied in the step, not in here, so that it never lives in a checkpoint.
"""

from dataclasses import dataclass

import jax
import optax
from jaxtyping import PyTree

from welm_jax.failures import InputError

EPSILON = 1e-8  # of Adam, and of the clipping


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up from 0 and a cosine down to a tenth.

    Attributes:
      max_learning_rate: peak, reached after the warm-up (Table 2: 1.2e-4, 0.9e-4, 0.5e-4).
      warmup_steps: steps of linear growth from 0; the paper names no number.
      decay_steps: step at which the cosine ends, warm-up included.
      end_fraction: learning rate after that, as a fraction of the peak.
      beta1: decay of the first moment.
      beta2: decay of the second moment.
      weight_decay: on matrices and embeddings only. The paper is silent; GPT-3's.
      clip_norm: largest global gradient norm. The paper is silent; GPT-3's.

    Source: WeLM section 3.2.
    """

    max_learning_rate: float
    warmup_steps: int
    decay_steps: int
    end_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    def __post_init__(self):
        for field, low, high in (
            ("max_learning_rate", 1e-12, 1),
            ("end_fraction", 0, 1),
            ("beta1", 0, 0.9999),
            ("beta2", 0, 0.9999),
            ("weight_decay", 0, 1),
            ("clip_norm", EPSILON, 1e6),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise InputError(
                    f"OptimizerConfig.{field} = {value}; it must lie between {low} and {high}"
                )
        if not 0 <= self.warmup_steps < self.decay_steps:
            raise InputError(
                f"OptimizerConfig.warmup_steps = {self.warmup_steps} must lie in "
                f"[0, decay_steps = {self.decay_steps}); shorten the warm-up or train longer"
            )


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """The learning rate as a function of the step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.max_learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.decay_steps,
        end_value=config.max_learning_rate * config.end_fraction,
    )


def make_adam(config: OptimizerConfig) -> optax.GradientTransformation:
    """The running moments; its state is what a checkpoint keeps of the optimizer."""
    return optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=EPSILON)


def decays(parameters: PyTree) -> PyTree:
    """1.0 for each matrix and embedding, 0.0 for each bias and LayerNorm weight."""

    def is_matrix(path, _):
        return float(jax.tree_util.keystr(path[-1:], simple=True) in ("kernel", "embedding"))

    return jax.tree_util.tree_map_with_path(is_matrix, parameters)
