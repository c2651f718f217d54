"""The few array shapes that decoding compiles for, whatever the lengths of prompts."""

import math

import jax

from welm_jax.model import axes


def bucket(length: int, shortest: int) -> int:
    """The smallest of `shortest` and the lengths beyond it, four to each doubling, that holds one.

    From `shortest` on at most a fifth of a row is padding, and 4 log2(longest / shortest) + 1
    lengths serve all.
    """
    doubled = max(power_of_two(length), shortest)
    step = max(doubled // 8, 1)
    return doubled if doubled == shortest else -(-length // step) * step


def power_of_two(number: int) -> int:
    """The smallest that is no less than a number."""
    return 1 << (number - 1).bit_length()


def lengths(longest: int, shortest: int) -> list[int]:
    """The lengths up to that of `longest` that rows are filled up to."""
    return sorted({bucket(length, shortest) for length in range(1, longest + 1)})


def most_rows(length: int, batch_tokens: int) -> int:
    """How many rows of a length are computed together: about batch_tokens, a share a device."""
    ways = batch_ways()
    return max(batch_tokens // length // ways, 1) * ways


def padded_rows(rows: int, most: int) -> int:
    """The number of rows that a batch is filled up to: a power of two a device, at most `most`.

    Fewer than lengths are, for it is the last batch of a length alone that has room for more.
    """
    ways = batch_ways()
    return min(power_of_two(-(-rows // ways)) * ways, most)


def row_numbers(length: int, batch_tokens: int) -> list[int]:
    """The numbers of rows of a length that batches are filled up to."""
    most = most_rows(length, batch_tokens)
    return sorted({padded_rows(rows, most) for rows in range(1, most + 1)})


def batch_ways() -> int:
    """Parts in which the mesh that is set splits a batch."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in axes.RULES["batch"])
