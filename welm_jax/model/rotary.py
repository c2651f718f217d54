"""Rotary position embedding over the whole head, in the rotate-half layout, in float32.

Source: Su et al. 2021, as in GPT-NeoX with `rotary_pct = 1.0`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BASE = 10_000.0


def angles(positions: Int[Array, "B T"], head_width: int) -> Float[Array, "B T 1 {head_width}//2"]:
    """The angle by which each pair of a head turns at each position, in radians, float32.

    Computed once for all layers. The unit axis stands for the heads.
    """
    frequencies = BASE ** -(jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
    return (positions[:, :, None].astype(jnp.float32) * frequencies)[:, :, None, :]


def rotate(
    heads: Float[Array, "B T N H"], angles: Float[Array, "B T 1 H//2"]
) -> Float[Array, "B T N H"]:
    """Turns each pair (i, i + H/2) of every head by its angle.

    A product of two rotated heads depends on the difference of their positions only.

    Args:
      heads: queries or keys, any float type; the rotation itself is float32.
      angles: from `angles`, for the same positions.

    Returns:
      The rotated heads in the type they came in.
    """
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(heads.dtype)
