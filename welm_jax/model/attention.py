"""Scaled dot-product attention behind one function, the seam for faster kernels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from welm_jax.model import axes


def attend(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B S N H"],
    values: Float[Array, "B S N H"],
    mask: Bool[Array, "B 1 T S"],
) -> Float[Array, "B T N H"]:
    """Mixes values by softmax(queries . keys / sqrt(H)) over the key slots the mask allows.

    Softmax is float32 whatever the inputs are.
    """
    heads = axes.spec("batch", "length", "heads", "head_width")
    rows = axes.spec("batch", "one", "length", "slot")

    # No head and no row needs another's: each device attends for its own. Left to sharding types,
    # jax 0.12 forgets the batch axis of a single row, and cuDNN's kernel does not differentiate.
    @jax.shard_map(in_specs=(heads, heads, heads, rows), out_specs=heads)
    def own(queries, keys, values, mask):
        if queries.dtype == jnp.float16:
            return _plain(queries, keys, values, mask)
        return jax.nn.dot_product_attention(queries, keys, values, mask=mask, implementation="xla")

    return own(queries, keys, values, jax.reshard(mask, rows))


def _plain(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B S N H"],
    values: Float[Array, "B S N H"],
    mask: Bool[Array, "B 1 T S"],
) -> Float[Array, "B T N H"]:
    """The definition, for float16: jax's own form asks for products that only GPUs have."""
    scores = jnp.einsum("btnh,bsnh->bnts", queries, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(mask, scores / queries.shape[-1] ** 0.5, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, values)
