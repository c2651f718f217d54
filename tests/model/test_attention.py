import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests.tiny_decoder import mesh_of
from welm_jax.model import attention, axes

ROWS, LENGTH, HEADS, WIDTH = 2, 8, 4, 8
CAUSAL = np.broadcast_to(np.tri(LENGTH, dtype=bool), (ROWS, 1, LENGTH, LENGTH))


def mixed(queries, keys, values, mask, dtype):
    """The mixed values, then the gradients of the sum of their squares to all three inputs."""

    def squares(*inputs):
        out = attention.masked(*inputs, jnp.asarray(mask))
        return jnp.sum(out.astype(jnp.float32) ** 2), out

    heads = NamedSharding(mesh_of(), axes.spec("batch", "length", "heads", "head_width"))
    with jax.set_mesh(mesh_of()):
        inputs = [jax.device_put(array.astype(dtype), heads) for array in (queries, keys, values)]
        gradients, out = jax.jit(jax.grad(squares, (0, 1, 2), has_aux=True))(*inputs)
    assert {array.dtype for array in (out, *gradients)} == {jnp.dtype(dtype)}
    return [np.asarray(array, np.float64) for array in (out, *gradients)]


def test_float16_and_float32_agree():
    """Two implementations, on inputs that both types hold exactly."""
    shape = (3, ROWS, LENGTH, HEADS, WIDTH)
    inputs = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    for half, single in zip(
        mixed(*inputs, CAUSAL, jnp.float16), mixed(*inputs, CAUSAL, jnp.float32), strict=True
    ):
        np.testing.assert_allclose(half, single, rtol=0, atol=2e-3 * np.abs(single).max())


def test_scores_beyond_float16_still_choose():
    """300 x 300 x 8 = 720,000, against 717,600 for the first key, which is a little shorter.

    Divided by sqrt 8 they differ by 848, so all weight lies on the second key, but for the first
    query: it may not see that one.
    """
    queries = np.full((1, 2, 1, WIDTH), 300.0)
    first, second = 299 / 300, 1.0
    keys = queries * np.reshape([first, second], (1, 2, 1, 1))
    values = np.ones_like(queries) * np.reshape([1.0, 2.0], (1, 2, 1, 1))
    out, *gradients = mixed(queries, keys, values, CAUSAL[:1, :, :2, :2], jnp.float16)
    np.testing.assert_array_equal(out, values)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("platform", "dtype", "length", "width", "kernel"),
    [
        ("cuda", jnp.bfloat16, 2048, 128, "cudnn"),
        ("gpu", jnp.float16, 2048, 80, "cudnn"),
        ("cuda", jnp.float32, 2048, 128, "xla"),
        ("cuda", jnp.bfloat16, 2048, 136, "xla"),
        ("cuda", jnp.bfloat16, 2048, 20, "xla"),
        ("tpu", jnp.bfloat16, 2048, 128, "splash"),
        ("tpu", jnp.bfloat16, 2048, 80, "xla"),
        ("tpu", jnp.bfloat16, 192, 128, "xla"),
        ("tpu", jnp.float16, 2048, 128, "xla"),
        ("cpu", jnp.bfloat16, 2048, 128, "xla"),
    ],
)
def test_each_platform_has_its_kernel_where_the_kernel_can(platform, dtype, length, width, kernel):
    assert attention.kernel_for(platform, jnp.dtype(dtype), length, width) == kernel


def test_causal_is_masked_by_a_triangle_and_scores_made_again_change_nothing():
    inputs = np.random.default_rng(1).normal(size=(3, ROWS, LENGTH, HEADS, WIDTH))
    expected = mixed(*inputs, CAUSAL, jnp.float32)

    def squares(keeps_scores, *inputs):
        out = attention.causal(*inputs, None, keeps_scores)
        return jnp.sum(out**2), out

    heads = NamedSharding(mesh_of(), axes.spec("batch", "length", "heads", "head_width"))
    with jax.set_mesh(mesh_of()):
        placed = [jax.device_put(array.astype(np.float32), heads) for array in inputs]
        for keeps_scores in (True, False):
            run = jax.jit(jax.grad(squares, (1, 2, 3), has_aux=True), static_argnums=0)
            gradients, out = run(keeps_scores, *placed)
            for one, other in zip((out, *gradients), expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6)
