"""From hidden vectors to the next id. It knows nothing of caches or of the tokens before."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from welm_jax.failures import InputError
from welm_jax.model import axes, loss
from welm_jax.model.decoder import Decoder

NEVER = -1e30  # the score of an id that cannot be chosen


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which ids may be chosen at all; a program is compiled for each.

    Attributes:
      top_k: the likeliest ones, so many of them; 0 is all.
      top_p: the likeliest ones that together have at least this probability; 1 is all.
    """

    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an id is chosen.

    Attributes:
      temperature: 0 takes the likeliest; 1 draws from the model's distribution.
      limits: which ids there are to choose from, at that temperature.
    """

    temperature: float = 0.0
    limits: Limits = Limits()

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(
                f"temperature = {self.temperature}; it must be 0 (likeliest) or a finite number "
                "above"
            )
        if self.limits.top_k < 0:
            raise InputError(f"top_k = {self.limits.top_k}; it must be 0 (all) or more")
        if not 0 < self.limits.top_p <= 1:
            raise InputError(f"top_p = {self.limits.top_p}; it must lie in (0, 1]")


def scores_after(decoder: Decoder, hidden: Float[Array, "B T D"]) -> Float[Array, "B V"]:
    """Float32 scores of the id that follows each row's last token.

    The ids of the vocabulary's padding rows score -1e30.
    """
    scores = loss.logits(hidden[:, -1:], decoder.head_matrix(), decoder.config.vocab_size)
    return jax.reshard(scores[:, 0], axes.spec("batch", "whole_vocabulary"))


def within(
    limits: Limits, scores: Float[Array, "B V"], temperature: Float[Array, ""]
) -> Float[Array, "B V"]:
    """The scores, and -1e30 for what the limits leave out; of equal ones none or all are.

    Args:
      limits: see Limits.
      scores: float32, from scores_after.
      temperature: at which top_p counts probabilities.
    """
    if limits == Limits():
        return scores
    ordered = jnp.sort(scores, axis=-1, descending=True)
    if limits.top_k:
        ordered = jnp.where(jnp.arange(ordered.shape[1]) < limits.top_k, ordered, NEVER)
    shares = jax.nn.softmax(ordered / jnp.maximum(temperature, 1e-6), axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares
    least = jnp.min(
        jnp.where((before < limits.top_p) & (ordered > NEVER), ordered, jnp.inf), axis=-1
    )
    return jnp.where(scores >= least[:, None], scores, NEVER)


def row_keys(key: Key[Array, ""], numbers: Int[Array, " B"]) -> Key[Array, " B"]:
    """A random key for each row, by its number, so that its draws do not depend on neighbours."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def pick(
    scores: Float[Array, "B V"],
    keys: Key[Array, " B"],
    step: Int[Array, ""],
    temperature: Float[Array, ""],
) -> Int[Array, " B"]:
    """Draws an id from softmax(scores / temperature) for each row.

    The largest of scores + temperature x Gumbel noise is such a draw; so written, temperature 0
    is the greedy choice (the lowest id among equals) and divides by nothing.

    Args:
      scores: float32, from scores_after.
      keys: from row_keys, the same at every step.
      step: number of the draw; another step draws other noise.
      temperature: 0 or more; 1 is the model's own distribution.
    """
    width = scores.shape[-1:]
    noise = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, step), width))(keys)
    noise = jax.reshard(noise, axes.spec("batch", "whole_vocabulary"))
    return jnp.argmax(scores + temperature * noise, axis=-1).astype(jnp.int32)
