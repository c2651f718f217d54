"""Digests of arrays on devices: numbers that change if what they are of does.

Knows nothing of files: what is compared with what, and when, is the business of checkpoints.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree, Shaped, UInt32

from welm_jax.model import axes

PLACE_FACTOR = np.uint32(0x9E3779B1)  # 2^32 over the golden ratio: spreads neighbouring places
FIRST_FACTOR, SECOND_FACTOR = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)

# XLA for CPUs sums in stages, for the accuracy of floats, and keeps a copy of the array between
# them. Sums of integers are exact in any order.
IN_ONE_STAGE = {"xla_disable_hlo_passes": "tree_reduction_rewriter"}


def records(tree: PyTree) -> dict[str, dict[str, Any]]:
    """Shape, dtype and digest of each leaf, ready for JSON; waits until they are computed.

    A leaf that is `...`, as Orbax has it for one that was not asked for, is left out.

    Returns:
      Name of the leaf's path -> `shape` (list), `dtype` (name), `digest` (0 to 2^32 - 1).
    """
    named = {name: leaf for name, leaf in _named(tree).items() if leaf is not ...}
    return {
        name: {
            "shape": list(leaf.shape),
            "dtype": leaf.dtype.name,
            # One after another: CPU devices that reduce several at once may wait for each other.
            "digest": jax.device_get(_digest(leaf)).item(),
        }
        for name, leaf in named.items()
    }


def misfits(found: Mapping[str, Mapping[str, Any]], like: PyTree) -> list[str]:
    """What is wrong with recorded leaves where others are wanted, a phrase for each.

    Args:
      found: as `records` gives them.
      like: arrays or their shapes.
    """
    texts = {name: f"{one['dtype']}{one['shape']}" for name, one in found.items()}
    wanted = {name: f"{leaf.dtype.name}{list(leaf.shape)}" for name, leaf in _named(like).items()}
    return [
        f"{name} is {texts.get(name, 'missing')}, wanted {wanted.get(name, 'nothing')}"
        for name in {**wanted, **texts}
        if texts.get(name) != wanted.get(name)
    ]


def _named(tree: PyTree) -> dict[str, Any]:
    return {axes.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def digest(leaf: Shaped[Array, "..."]) -> UInt32[Array, ""]:
    """The sum modulo 2^32 of every element's bits, mixed with the element's place; jittable.

    For each place the mix is one to one in the bits (xor, odd factors and xor-shifts can all be
    undone), so a change of one element always changes the sum; other changes escape once in 2^32.
    Since sums of integers do not depend on their order, the digest does not depend on the mesh. All
    of it fuses into the reduction: no copy of the leaf is made.

    Args:
      leaf: numbers of 8, 16 or 32 bits, in any sharding.

    Source: the mix is lowbias32 of Chris Wellons's hash-prospector.
    """
    unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    bits = lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    mixed = bits ^ (_places(leaf.shape) * PLACE_FACTOR)
    mixed = (mixed ^ (mixed >> 16)) * FIRST_FACTOR
    mixed = (mixed ^ (mixed >> 15)) * SECOND_FACTOR
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


# A program for each shape: moments have those of the weights, and what is read back has all again.
_digest = jax.jit(digest, compiler_options=IN_ONE_STAGE)


def _places(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The place of each element in row-major order, modulo 2^32."""
    places = jnp.zeros((), jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        places += lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return places
