"""Scaled dot-product attention behind two functions, by the kernel that suits the devices."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from welm_jax.model import axes, masks

Kernel = Literal["xla", "cudnn", "splash"]


def kernel_for(platform: str, dtype: jnp.dtype, length: int, head_width: int) -> Kernel:
    """Which kernel whole sequences take: cuDNN's on GPUs, splash on TPUs, XLA's for the rest.

    Args:
      platform: of the devices, as jax names it.
      dtype: of the queries. cuDNN knows no float32, splash no float16.
      length: T; splash takes multiples of the TPU's 128 lanes.
      head_width: H. cuDNN wants a multiple of 8 up to 128, splash one of 128.
    """
    if platform in ("gpu", "cuda") and dtype in (jnp.bfloat16, jnp.float16):
        return "cudnn" if head_width % 8 == 0 and head_width <= 128 else "xla"
    if platform == "tpu" and dtype in (jnp.bfloat16, jnp.float32):
        return "splash" if length % 128 == head_width % 128 == 0 else "xla"
    return "xla"


def causal(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B T N H"],
    values: Float[Array, "B T N H"],
    segment_ids: Int[Array, "B T"] | None,
    keeps_scores: bool = True,
) -> Float[Array, "B T N H"]:
    """Mixes the values of each token and those before it, by softmax(queries . keys / sqrt(H)).

    Softmax is float32 whatever the inputs are.

    Args:
      queries: of whole sequences, as keys and values are.
      keys: rotated, as queries.
      values: what is mixed.
      segment_ids: tokens see only their own segment; None if there is one segment.
      keeps_scores: whether the backward pass may find the T x T scores that XLA's form makes, or
        has to make them again. The other kernels never keep any.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    length, width = queries.shape[1], queries.shape[-1]
    kernel = kernel_for(device.platform, queries.dtype, length, width)

    def own(queries, keys, values, *segment_ids):
        if kernel == "splash":
            from welm_jax.model import splash  # Pallas takes long to import, and is for TPUs alone

            return splash.causal(queries, keys, values, *segment_ids)
        mask = masks.causal(*segment_ids * 2) if segment_ids else None
        return _product(queries, keys, values, mask, kernel)

    if kernel == "xla" and not keeps_scores:
        own = jax.checkpoint(own, prevent_cse=False)
    segments = () if segment_ids is None else (segment_ids,)
    return _per_device(own, queries, keys, values, *segments)


def masked(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B S N H"],
    values: Float[Array, "B S N H"],
    mask: Bool[Array, "B 1 T S"],
) -> Float[Array, "B T N H"]:
    """The same over the key slots that a mask allows; at least one for each query."""

    def own(queries, keys, values, mask):
        return _product(queries, keys, values, mask, "xla")

    return _per_device(own, queries, keys, values, mask)


def _per_device(own, queries: Array, keys: Array, values: Array, *of_rows: Array) -> Array:
    """Lets each device attend for its rows and heads: none of them needs another's.

    Left to sharding types, jax 0.12 forgets the batch axis of a single row, and cuDNN's kernel
    does not differentiate.
    """
    heads = axes.spec("batch", "length", "heads", "head_width")
    rows = (axes.spec("batch"),) * len(of_rows)
    specs = (heads, heads, heads, *rows)
    of_rows = tuple(jax.reshard(array, axes.spec("batch")) for array in of_rows)
    # Kernels cannot tell jax along which axes their results vary.
    run = jax.shard_map(own, in_specs=specs, out_specs=heads, check_vma=False)
    return run(queries, keys, values, *of_rows)


def _product(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B S N H"],
    values: Float[Array, "B S N H"],
    mask: Bool[Array, "B 1 T S"] | None,
    kernel: Literal["xla", "cudnn"],
) -> Float[Array, "B T N H"]:
    """Attention over what the mask allows, or over a token and those before it."""
    if queries.dtype == jnp.float16 and kernel == "xla":
        return _plain(queries, keys, values, mask)
    return jax.nn.dot_product_attention(
        queries, keys, values, mask=mask, is_causal=mask is None, implementation=kernel
    )


def _plain(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B S N H"],
    values: Float[Array, "B S N H"],
    mask: Bool[Array, "B 1 T S"] | None,
) -> Float[Array, "B T N H"]:
    """The definition, for float16: jax's own form asks for products that only GPUs have."""
    if mask is None:
        length = queries.shape[1]
        mask = jnp.tril(jnp.ones((length, length), bool))
    scores = jnp.einsum("btnh,bsnh->bnts", queries, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(mask, scores / queries.shape[-1] ** 0.5, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, values)
