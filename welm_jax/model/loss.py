"""Next-token cross-entropy, computed a piece of the sequence at a time.

Float32 logits of 62,464 ids cost half a gigabyte for each sequence of 2,048; in 16 chunks the
gradient needs a fifth of the memory, for one matrix product more.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from welm_jax.model import axes


def logits(
    hidden: Float[Array, "B T D"], head: Float[Array, "V D"], vocab_size: int
) -> Float[Array, "B T V"]:
    """Float32 scores of every id; ids of the padding rows score -1e30, that is, never."""
    scores = jnp.einsum(
        "btd,vd->btv",
        hidden,
        head,
        preferred_element_type=jnp.float32,
        out_sharding=axes.spec("batch", "length", "vocabulary"),
    )
    return jnp.where(_ids_like(scores) < vocab_size, scores, -1e30)


def token_losses(scores: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """Negative log-likelihood of each target in nats, float32."""
    # A comparison instead of a gather: the vocabulary axis may be split over devices.
    is_target = _ids_like(scores) == targets[:, :, None]
    return jax.nn.logsumexp(scores, axis=-1) - jnp.sum(scores, axis=-1, where=is_target)


def summed_loss(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    *,
    vocab_size: int,
    chunks: int,
) -> Float[Array, ""]:
    """Weighted sum, not mean, of the token losses in nats: microbatches then add up exactly.

    Args:
      hidden: the decoder's output.
      head: its head_matrix.
      targets: ids below vocab_size wherever the weight is not 0.
      weights: 1 where a token counts, 0 on padding.
      vocab_size: ids that exist; the rest of V is padding.
      chunks: pieces of the sequence whose logits exist one at a time; divides T. 1 is the plain
        form.
    """

    def chunk_loss(total, chunk):
        hidden, targets, weights = chunk
        losses = token_losses(logits(hidden, head, vocab_size), targets)
        return total + jnp.sum(losses * weights), None

    def split(array):
        batch, length, *rest = array.shape
        return jnp.moveaxis(array.reshape(batch, chunks, length // chunks, *rest), 1, 0)

    pieces = jax.tree.map(split, (hidden, targets, weights))
    return jax.lax.scan(jax.checkpoint(chunk_loss), jnp.float32(0), pieces)[0]


def _ids_like(scores: Float[Array, "B T V"]) -> Int[Array, "1 1 V"]:
    ids = jnp.arange(scores.shape[-1], dtype=jnp.int32)
    return jax.reshard(ids, axes.spec("vocabulary"))[None, None, :]
