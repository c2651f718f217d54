"""From hidden vectors to the next id. It knows nothing of caches."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from welm_jax.failures import InputError
from welm_jax.model import axes, loss
from welm_jax.model.decoder import Decoder

NEVER = -1e30  # the score of an id that cannot be chosen
HOTTEST = 1e6  # a temperature at which all ids are alike; float32 and NEVER hold far beyond

# (scores [B, V] float32, ids so far [B, S]) -> other scores, on the device. The ids are those of
# prompt and continuation and end with the last slot; -1 stands before them. A program is compiled
# for each processor, so pass the same object, or equal ones that hash alike.
Processor = Callable[[Array, Array], Array]


@dataclass(frozen=True, kw_only=True)
class NoRepeatedNgrams:
    """A processor that forbids what would make n ids follow each other for a second time.

    The prompt counts too. Source: Hugging Face's no_repeat_ngram_size.

    Attributes:
      size: n, 1 or more.
    """

    size: int

    def __post_init__(self):
        if self.size < 1:
            raise InputError(f"NoRepeatedNgrams of size {self.size}; it must be 1 or more")

    def __call__(
        self, scores: Float[Array, "B V"], tokens: Int[Array, "B S"]
    ) -> Float[Array, "B V"]:
        """The scores, and -1e30 for ids that would repeat."""
        before, (rows, slots) = self.size - 1, tokens.shape
        if slots <= before:
            return scores
        repeats = jnp.ones((rows, slots - before), bool)  # of each slot that has enough before it
        for back in range(1, before + 1):
            repeats &= tokens[:, before - back : slots - back] == tokens[:, slots - back, None]
        # Where a row is shorter than n - 1, its -1 meet no other -1 that a token follows.
        forbidden = jnp.where(repeats, tokens[:, before:], -1)
        forbidden = jnp.where(forbidden < 0, scores.shape[1], forbidden)  # beyond: dropped
        return scores.at[jnp.arange(rows)[:, None], forbidden].set(NEVER, mode="drop")


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
      processors: change the scores before that, in this order.
      limits: which ids there are to choose from, at that temperature. They are no processors,
        which do not know it.
    """

    temperature: float = 0.0
    processors: tuple[Processor, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self):
        if not 0 <= self.temperature <= HOTTEST:
            raise InputError(
                f"temperature = {self.temperature}; it must be 0 (likeliest) or a number above, up "
                f"to {HOTTEST:g}"
            )
        if self.limits.top_k < 0:
            raise InputError(f"top_k = {self.limits.top_k}; it must be 0 (all) or more")
        if not 0 < self.limits.top_p <= 1:
            raise InputError(f"top_p = {self.limits.top_p}; it must lie in (0, 1]")


def require_seed(seed: int) -> None:
    """Raises InputError for a seed of which jax would take the last 32 bits alone."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed = {seed}; it must lie in [0, 2^32)")


def scores_after(decoder: Decoder, hidden: Float[Array, "B T D"]) -> Float[Array, "B V"]:
    """Float32 scores of the id that follows each row's last token.

    The ids of the vocabulary's padding rows score -1e30.
    """
    scores = loss.logits(hidden[:, -1:], decoder.head_matrix(), decoder.config.vocab_size)
    return jax.reshard(scores[:, 0], axes.spec("batch", "whole_vocabulary"))


def are_numbers(scores: Float[Array, "B V"]) -> Bool[Array, " B"]:
    """Whether all scores of a row are finite: of others the largest is any."""
    return jnp.all(jnp.isfinite(scores), axis=-1)


def processed(
    processors: tuple[Processor, ...],
    scores: Float[Array, "B V"],
    tokens: Int[Array, "B S"],
    end: Int[Array, ""],
) -> Float[Array, "B V"]:
    """The scores after the processors, which run where the rows are and need know no mesh.

    Args:
      processors: in their order.
      scores: float32, from scores_after.
      tokens: ids of prompts and what was written; -1 elsewhere.
      end: slot that is written next.
    """
    if not processors:
        return scores
    return axes.per_device(lambda rows, end: applied(processors, *rows, end), (scores, tokens), end)


def applied(
    processors: tuple[Processor, ...],
    scores: Float[Array, "B V"],
    tokens: Int[Array, "B S"],
    end: Int[Array, ""],
) -> Float[Array, "B V"]:
    """The same where arrays are those of one device."""
    so_far = jnp.roll(tokens, -end, axis=1)  # what is not written comes before the prompt
    for processor in processors:
        scores = processor(scores, so_far)
    return scores


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
    if 0 < limits.top_k < ordered.shape[1]:
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
