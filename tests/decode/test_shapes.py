import jax
import pytest

from tests.tiny_decoder import mesh_of
from welm_jax.decode import shapes


def test_a_length_is_filled_up_by_a_fifth_of_the_whole_at_most():
    found = [shapes.bucket(length, 32) for length in range(1, 2049)]
    assert sorted(set(found))[:10] == [32, 40, 48, 56, 64, 80, 96, 112, 128, 160]
    assert len(set(found)) == 4 * 6 + 1
    for length, filled in enumerate(found, 1):
        assert length <= filled and (filled - length <= filled / 5 or filled == 32)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 1)])
def test_rows_fill_devices_evenly_and_memory_no_further(shape):
    ways = shape[0] * shape[1]
    with jax.set_mesh(mesh_of(*shape)):
        assert shapes.most_rows(100, 1000) == {1: 10, 4: 8}[ways]
        assert shapes.most_rows(5000, 1000) == ways
        most = shapes.most_rows(100, 1000)
        found = {shapes.padded_rows(rows, most) for rows in range(1, most + 1)}
        assert found == {1: {1, 2, 4, 8, 10}, 4: {4, 8}}[ways]
        assert all(shapes.padded_rows(rows, most) >= rows for rows in range(1, most + 1))
