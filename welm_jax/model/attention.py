"""Scaled dot-product attention behind one function, the seam for faster kernels."""

import jax
from jaxtyping import Array, Bool, Float


def attend(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B S N H"],
    values: Float[Array, "B S N H"],
    mask: Bool[Array, "B 1 T S"],
) -> Float[Array, "B T N H"]:
    """Mixes values by softmax(queries . keys / sqrt(H)) over the key slots the mask allows.

    Softmax is float32 whatever the inputs are.
    """
    return jax.nn.dot_product_attention(queries, keys, values, mask=mask, implementation="xla")
