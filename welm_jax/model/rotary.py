"""Rotary position embedding in the rotate-half layout, in float32.

Source: Su et al. 2021, as in GPT-NeoX.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BASE = 10_000.0


def angles(positions: Int[Array, "B T"], width: int) -> Float[Array, "B T 1 {width}//2"]:
    """The angle by which each pair of a head turns at each position, in radians, float32.

    Computed once for all layers. The unit axis stands for the heads; `width` is that of the part
    of a head that turns.
    """
    frequencies = BASE ** -(jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return (positions[:, :, None].astype(jnp.float32) * frequencies)[:, :, None, :]


def rotate(
    heads: Float[Array, "B T N H"], angles: Float[Array, "B T 1 pairs"]
) -> Float[Array, "B T N H"]:
    """Turns each pair (i, i + pairs) of every head by its angle; what is beyond stays as it is.

    A product of two rotated heads depends on the difference of their positions only.

    Args:
      heads: queries or keys, any float type; the rotation itself is float32.
      angles: from `angles`, for the same positions.

    Returns:
      The rotated heads in the type they came in.
    """
    pairs = angles.shape[-1]
    wide = heads.astype(jnp.float32)
    first, second, rest = jnp.split(wide, (pairs, 2 * pairs), axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned = [first * cos - second * sin, second * cos + first * sin]
    if rest.shape[-1]:
        turned.append(rest)
    return jnp.concatenate(turned, axis=-1).astype(heads.dtype)
