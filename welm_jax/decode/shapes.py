"""The few array shapes that decoding compiles for, whatever the lengths of prompts."""

import math

import jax

from welm_jax.model import axes


def bucket(length: int, shortest: int) -> int:
    """The smallest of shortest, 1.5 x shortest, 2 x shortest, 3 x, 4 x, ... that holds a length.

    From `shortest` on at most a third of a row is padding, and 2 log2(longest / shortest) + 1
    lengths serve all.
    """
    doubled = shortest * 2 ** max(math.ceil(math.log2(length / shortest)), 0)  # exact below 2^50
    middle = doubled * 3 // 4
    return middle if doubled > shortest and length <= middle else doubled


def most_rows(length: int, batch_tokens: int) -> int:
    """How many rows of a length are computed together: about batch_tokens, a share a device."""
    ways = batch_ways()
    return max(batch_tokens // length // ways, 1) * ways


def padded_rows(rows: int, most: int) -> int:
    """The number of rows that a batch is filled up to: of which there are few, at most `most`."""
    ways = batch_ways()
    return min(bucket(-(-rows // ways), 1) * ways, most)


def batch_ways() -> int:
    """Parts in which the mesh that is set splits a batch."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in axes.RULES["batch"])
