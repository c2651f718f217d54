"""From hidden vectors to the next id. Processors of the scores have their place in `scores_after`.

It knows nothing of caches or of the tokens before.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from welm_jax.model import axes, loss
from welm_jax.model.decoder import Decoder


def scores_after(decoder: Decoder, hidden: Float[Array, "B T D"]) -> Float[Array, "B V"]:
    """Float32 scores of the id that follows each row's last token.

    The ids of the vocabulary's padding rows score -1e30. Whatever else forbids or favours ids
    (later rooms) changes the scores here, between the model and the choice.
    """
    scores = loss.logits(hidden[:, -1:], decoder.head_matrix(), decoder.config.vocab_size)
    return jax.reshard(scores[:, 0], axes.spec("batch", "whole_vocabulary"))


def row_keys(key: Key[Array, ""], rows: int) -> Key[Array, " B"]:
    """One random key for each row, so that a row's draws do not depend on its neighbours."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))


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
