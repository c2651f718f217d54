import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.tiny_decoder import mesh_of
from welm_jax.train import digests

MIX_OF = 2**32  # all numbers below are modulo this


def by_hand(array):
    """The definition, an element at a time, in Python's whole numbers."""
    total = 0
    unsigned = np.dtype(f"uint{8 * array.dtype.itemsize}")
    for place, bits in enumerate(array.reshape(-1).view(unsigned).tolist()):
        mixed = bits ^ (place * 0x9E3779B1) % MIX_OF
        mixed = (mixed ^ (mixed >> 16)) * 0x7FEB352D % MIX_OF
        mixed = (mixed ^ (mixed >> 15)) * 0x846CA68B % MIX_OF
        total += mixed ^ (mixed >> 16)
    return total % MIX_OF


def an_array(dtype, shape=(4, 6, 8), seed=0):
    numbers = np.random.default_rng(seed).normal(0, 100, shape)
    return np.asarray(jnp.asarray(numbers).astype(dtype))


DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32, jnp.int8, jnp.uint32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_digest_is_its_definition_on_any_mesh(dtype):
    array = an_array(dtype)
    places = [
        (mesh_of(), PartitionSpec()),
        (mesh_of(2, 2, 2), PartitionSpec("fsdp", None, "tensor")),
        (mesh_of(2, 2, 2), PartitionSpec(("data", "fsdp"))),
        (mesh_of(1, 1, 8), PartitionSpec(None, None, "tensor")),
    ]
    for mesh, spec in places:
        with jax.set_mesh(mesh):
            leaf = jax.device_put(array, NamedSharding(mesh, spec))
            assert digests.records({"a": leaf})["a"]["digest"] == by_hand(array)


def test_scalars_and_empty_arrays_have_one_too():
    with jax.set_mesh(mesh_of()):
        tree = {"scalar": jnp.float32(1.5), "empty": jnp.zeros((3, 0))}
        found = digests.records(tree)
    assert found["scalar"]["digest"] == by_hand(np.float32([1.5]))
    assert found["empty"]["digest"] == 0


def test_every_single_flipped_bit_changes_it():
    array = an_array(jnp.bfloat16, (3, 4))
    digest = jax.jit(digests.digest)
    with jax.set_mesh(mesh_of()):
        whole = int(digest(array))
        for at, bit in itertools.product(range(array.size), range(16)):
            flipped = array.copy()
            flipped.reshape(-1).view(np.uint16)[at] ^= 1 << bit
            assert int(digest(flipped)) != whole


def test_moved_numbers_and_lost_pieces_change_it():
    array = an_array(jnp.float32, (16, 16))
    lost = array.copy()
    lost[4:8] = 0
    swapped = array.copy()
    swapped[0, [0, 1]] = array[0, [1, 0]]
    changed = [array.T.copy(), np.roll(array, 1), array[::-1].copy(), lost, swapped, -array]
    with jax.set_mesh(mesh_of()):
        found = [int(digests.digest(jnp.asarray(one))) for one in (array, *changed)]
    assert len(set(found)) == len(found)


def test_zero_and_minus_zero_and_each_nan_are_different_bits():
    bits = np.uint32([0, 0x8000_0000, 0x7FC0_0000, 0x7FC0_0001, 0xFFC0_0000])
    with jax.set_mesh(mesh_of()):
        found = {int(digests.digest(jnp.asarray(one.view(np.float32)))) for one in bits}
    assert len(found) == len(bits)


@pytest.mark.parametrize("axes", [(1, 1, 1), (2, 2, 2)])
def test_no_copy_of_an_array_is_made(axes):
    mesh = mesh_of(*axes)
    with jax.set_mesh(mesh):
        spec = PartitionSpec(None, "fsdp", "tensor")
        array = jax.device_put(an_array(jnp.float32, (8, 256, 512)), NamedSharding(mesh, spec))
        for one in (array, array.astype(jnp.bfloat16)):
            memory = digests._digest.lower(one).compile().memory_analysis()
            assert memory.argument_size_in_bytes == one.nbytes / mesh.size * mesh.shape["data"]
            assert memory.temp_size_in_bytes < 1024


def test_records_bear_plain_names_and_can_be_json():
    with jax.set_mesh(mesh_of()):
        found = digests.records({"adam": {"count": jnp.int32(7)}, "w": jnp.zeros((2, 3))})
    assert {name: (one["shape"], one["dtype"]) for name, one in found.items()} == {
        "adam/count": ([], "int32"),
        "w": ([2, 3], "float32"),
    }
    assert json.loads(json.dumps(found)) == found


def test_misfits_name_what_is_there_and_what_is_wanted():
    found = {
        "same": {"shape": [2], "dtype": "float32", "digest": 1},
        "shape": {"shape": [2, 3], "dtype": "float32", "digest": 1},
        "dtype": {"shape": [2], "dtype": "float32", "digest": 1},
        "extra": {"shape": [], "dtype": "int32", "digest": 1},
    }
    like = {
        "same": jax.ShapeDtypeStruct((2,), jnp.float32),
        "shape": jax.ShapeDtypeStruct((3, 2), jnp.float32),
        "dtype": jax.ShapeDtypeStruct((2,), jnp.bfloat16),
        "lacking": jax.ShapeDtypeStruct((), jnp.float32),
    }
    assert digests.misfits(found, like) == [
        "dtype is float32[2], wanted bfloat16[2]",
        "lacking is missing, wanted float32[]",
        "shape is float32[2, 3], wanted float32[3, 2]",
        "extra is int32[], wanted nothing",
    ]
    assert digests.misfits(found, {}) != []
    assert digests.misfits({}, {}) == []
