"""Attention of whole sequences on TPUs, by the splash kernel that jax brings.

Compiled ahead of time for TPUs in a test; never timed, for want of one.
"""

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel,
    splash_attention_mask,
)
from jaxtyping import Array, Float, Int


def causal(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B T N H"],
    values: Float[Array, "B T N H"],
    segment_ids: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """See attention.causal; the arrays of one device, H a multiple of 128."""
    _, length, heads, width = queries.shape
    mask = splash_attention_mask.CausalMask((length, length))
    kernel = splash_attention_kernel.make_splash_mha_single_device(
        splash_attention_mask.MultiHeadMask([mask] * heads)
    )
    per_head = [array.swapaxes(1, 2) for array in (queries * width**-0.5, keys, values)]
    segments = None
    if segment_ids is not None:
        segments = splash_attention_kernel.SegmentIds(q=segment_ids, kv=segment_ids)
    return jax.vmap(kernel)(*per_head, segments).swapaxes(1, 2)
