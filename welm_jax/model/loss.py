"""Next-token cross-entropy, computed a piece of the sequence at a time.

Float32 logits of 62,464 ids cost half a gigabyte for each sequence of 2,048.
"""

import functools

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
        head.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
        out_sharding=axes.spec("batch", "length", "vocabulary"),
    )
    return jnp.where(_ids_like(scores) < vocab_size, scores, -1e30)


def token_losses(scores: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """Negative log-likelihood of each target in nats, float32."""
    # A comparison instead of a gather: the vocabulary axis may be split over devices.
    is_target = _ids_like(scores) == targets[:, :, None]
    return jax.nn.logsumexp(scores, axis=-1) - jnp.sum(scores, axis=-1, where=is_target)


def token_losses_of(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    *,
    vocab_size: int,
    chunks: int,
) -> Float[Array, "B T"]:
    """The loss of each token in nats, float32; see summed_loss."""
    head = head.astype(hidden.dtype)

    def losses(_, chunk):
        hidden, targets = chunk
        return None, token_losses(logits(hidden, head, vocab_size), targets)

    found = jax.lax.scan(losses, None, _pieces(chunks, hidden, targets))[1]
    return _of_rows(jnp.moveaxis(found, 0, 1).reshape(targets.shape))


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

    Differentiated, it forms its gradients while the logits exist, so that nothing is computed
    twice; sums over tokens are float32. The weights have no gradient.

    Args:
      hidden: the decoder's output.
      head: its head_matrix.
      targets: ids below vocab_size wherever the weight is not 0.
      weights: what a token counts, 0 on padding. A gradient in float16 is scaled by them.
      vocab_size: ids that exist; the rest of V is padding.
      chunks: pieces of the sequence whose logits exist one at a time; divides T. 1 is the plain
        form.
    """
    return _summed_loss(vocab_size, chunks, hidden, head, targets, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _summed_loss(vocab_size, chunks, hidden, head, targets, weights):
    head = head.astype(hidden.dtype)

    def add(totals, chunk):  # a row's, so that devices add theirs up once, not for each chunk
        hidden, targets, weights = chunk
        losses = token_losses(logits(hidden, head, vocab_size), targets)
        return totals + jnp.sum(losses * weights, axis=1), None

    nothing = _of_rows(jnp.zeros_like(weights[:, 0]))
    return jnp.sum(jax.lax.scan(add, nothing, _pieces(chunks, hidden, targets, weights))[0])


def _with_gradients(vocab_size, chunks, hidden, head, targets, weights):
    whole, head_type = head.astype(hidden.dtype), jax.typeof(head).sharding.spec
    partial = jax.P(*head_type.partitions, unreduced=head_type.reduced)

    def add(sums, chunk):
        totals, head_gradient = sums
        hidden, targets, weights = chunk
        scores = logits(hidden, whole, vocab_size)
        losses = token_losses(scores, targets)
        off = jax.nn.softmax(scores) - (_ids_like(scores) == targets[:, :, None])
        off = (off * weights[:, :, None]).astype(hidden.dtype)
        stream = axes.spec("batch", "length", "width")
        hidden_gradient = jnp.einsum("btv,vd->btd", off, whole, out_sharding=stream)
        head_gradient += jnp.einsum(
            "btv,btd->vd",
            off,
            hidden,
            preferred_element_type=jnp.float32,
            out_sharding=partial,
        )
        totals += jnp.sum(losses * weights, axis=1)
        return (totals, head_gradient), hidden_gradient

    no_loss = _of_rows(jnp.zeros_like(weights[:, 0]))
    nothing = no_loss, jax.reshard(jnp.zeros(head.shape), partial)
    (totals, head_gradient), hidden_gradients = jax.lax.scan(
        add, nothing, _pieces(chunks, hidden, targets, weights)
    )
    hidden_gradient = _of_rows(jnp.moveaxis(hidden_gradients, 0, 1).reshape(hidden.shape))
    return jnp.sum(totals), (hidden_gradient, head_gradient, head)


def _backward(vocab_size, chunks, kept, factor):
    hidden_gradient, head_gradient, head = kept
    reduced = jax.P(reduced=jax.typeof(head).sharding.spec.reduced)
    return (
        hidden_gradient * factor.astype(hidden_gradient.dtype),
        (head_gradient * jax.reshard(factor, reduced)).astype(head.dtype),
        None,
        None,
    )


_summed_loss.defvjp(_with_gradients, _backward)


def _pieces(chunks: int, *arrays: Array) -> tuple[Array, ...]:
    """Each [B, T, ...] as [chunks, B, T / chunks, ...]."""

    def split(array):
        batch, length, *rest = array.shape
        pieces = _of_rows(array.reshape(batch, chunks, length // chunks, *rest))
        return jnp.moveaxis(pieces, 1, 0)

    return tuple(map(split, arrays))


def _of_rows(array: Array) -> Array:
    """The array with its first axis where rows live: jax forgets that of a single row."""
    return jax.reshard(array, axes.spec("batch"))


def _ids_like(scores: Float[Array, "B T V"]) -> Int[Array, "1 1 V"]:
    ids = jnp.arange(scores.shape[-1], dtype=jnp.int32)
    return jax.reshard(ids, axes.spec("vocabulary"))[None, None, :]
