import jax.numpy as jnp
import numpy as np

from welm_jax.model import rotary

RANDOM = np.random.default_rng(0)
QUERY, KEY = RANDOM.normal(size=(2, 1, 1, 2, 16)).astype(np.float32)


def rotated(heads, position):
    return rotary.rotate(jnp.asarray(heads), rotary.angles(jnp.array([[position]]), 16))


def product(query_position, key_position):
    rotated_query, rotated_key = rotated(QUERY, query_position), rotated(KEY, key_position)
    return np.asarray((rotated_query * rotated_key).sum(-1))[0, 0]


def test_rotation_by_zero_positions_is_identity():
    np.testing.assert_array_equal(rotated(QUERY, 0), QUERY)


def test_products_depend_on_the_difference_of_positions_only():
    for shift in (1, 10, 100):
        np.testing.assert_allclose(product(9 + shift, 4 + shift), product(9, 4), atol=1e-4)
    assert np.abs(product(9, 5) - product(9, 4)).max() > 0.1
    assert np.abs(product(4, 9) - product(9, 4)).max() > 0.1  # the sign counts


def test_rotation_worked_by_hand():
    """Width 4: pairs (0, 2) and (1, 3) turn by 1 and by 1 / 100 a position."""
    heads = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    turned = rotary.rotate(heads, rotary.angles(jnp.array([[2]]), 4))[0, 0, 0]
    np.testing.assert_allclose(
        turned, [np.cos(2), np.cos(0.02), np.sin(2), np.sin(0.02)], atol=1e-6
    )


def test_rotation_is_float32_inside_and_keeps_the_type_outside():
    half = rotary.rotate(jnp.asarray(QUERY, jnp.bfloat16), rotary.angles(jnp.array([[1000]]), 16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        half.astype(jnp.float32), rotated(QUERY, 1000), rtol=2**-7, atol=2**-7
    )
