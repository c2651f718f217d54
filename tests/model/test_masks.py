import jax.numpy as jnp
import numpy as np

from welm_jax.model import masks


def test_two_documents_worked_by_hand():
    segments = jnp.array([[1, 1, 2, 2]])
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    np.testing.assert_array_equal(masks.causal(segments, segments)[0, 0], expected)


def test_late_queries_see_the_slots_before_them():
    """Two queries in slots 2 and 3 of five; slot 0 is empty."""
    mask = masks.causal(jnp.ones((1, 2), int), jnp.array([[0, 1, 1, 1, 1]]), jnp.int32(2))
    np.testing.assert_array_equal(mask[0, 0], [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0]])
