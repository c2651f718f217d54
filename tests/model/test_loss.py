import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests.conftest import SHARDED_RTOL
from tests.tiny_decoder import mesh_of
from welm_jax.model import axes, loss

ROWS, LENGTH, WIDTH, VOCABULARY, PADDED = 2, 8, 16, 120, 1024
RANDOM = np.random.default_rng(0)
HIDDEN = RANDOM.normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32)
HEAD = RANDOM.normal(size=(PADDED, WIDTH)).astype(np.float32)
TARGETS = RANDOM.integers(0, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
WEIGHTS = (RANDOM.random((ROWS, LENGTH)) < 0.6).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def value_and_grad(chunks, hidden, head, targets, weights):
    def of(hidden, head):
        return loss.summed_loss(
            hidden, head, targets, weights, vocab_size=VOCABULARY, chunks=chunks
        )

    return jax.value_and_grad(of, (0, 1))(hidden, head)


def loss_and_gradients(chunks=1, mesh=None, hidden=HIDDEN, head=HEAD, weights=WEIGHTS):
    mesh = mesh or mesh_of()
    names = (("batch", "length", "width"), ("vocabulary", "width"), *[("batch", "length")] * 2)
    with jax.set_mesh(mesh):
        arrays = [
            jax.device_put(array, NamedSharding(mesh, axes.spec(*axis_names)))
            for array, axis_names in zip((hidden, head, TARGETS, weights), names, strict=True)
        ]
        return jax.tree.map(np.asarray, value_and_grad(chunks, *arrays))


@pytest.fixture(scope="module")
def plain():
    return loss_and_gradients()


def assert_close(found, expected):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(
            one, other, rtol=0, atol=SHARDED_RTOL * np.abs(other).max()
        ),
        found,
        expected,
    )


def test_the_loss_equals_numpys(plain):
    logits = (HIDDEN @ HEAD[:VOCABULARY].T).astype(np.float64)
    chosen = np.take_along_axis(logits, TARGETS[:, :, None], 2)[:, :, 0]
    losses = np.log(np.exp(logits).sum(-1)) - chosen
    assert plain[0] == pytest.approx((losses * WEIGHTS).sum(), rel=1e-6)


def test_chunks_change_nothing(plain):
    assert_close(loss_and_gradients(4), plain)


def test_a_vocabulary_split_over_devices_changes_nothing(plain):
    assert_close(loss_and_gradients(2, mesh_of(2, 1, 4)), plain)


def test_padding_rows_of_the_vocabulary_do_not_matter_and_do_not_learn(plain):
    noisy = HEAD.copy()
    noisy[VOCABULARY:] = 1e3
    found, gradients = loss_and_gradients(head=noisy)
    assert found == plain[0]
    assert not gradients[1][VOCABULARY:].any()


def test_tokens_of_weight_0_do_not_matter(plain):
    hidden = np.where(WEIGHTS[:, :, None] > 0, HIDDEN, 7.0)
    found, gradients = loss_and_gradients(hidden=hidden.astype(np.float32))
    assert found == pytest.approx(plain[0], rel=1e-6)
    assert not gradients[0][WEIGHTS == 0].any()


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    """ln 120 = 4.787492 nats a token, whatever the targets: 16 tokens cost 76.599871."""
    found, _ = loss_and_gradients(head=np.zeros_like(HEAD), weights=np.ones_like(WEIGHTS))
    assert found == pytest.approx(76.599871, rel=1e-6)


def test_logits_are_float32_from_bfloat16_factors():
    with jax.set_mesh(mesh_of()):
        logits = loss.logits(
            jnp.asarray(HIDDEN, jnp.bfloat16), jnp.asarray(HEAD, jnp.bfloat16), VOCABULARY
        )
    assert logits.dtype == jnp.float32
    assert (np.asarray(logits)[..., VOCABULARY:] == -1e30).all()


def test_chunks_need_a_fraction_of_the_memory():
    """Bytes beside arguments and results, for 8 chunks of a row against the plain form."""

    def temporaries(chunks):
        names = (("batch", "length", "width"), ("vocabulary", "width"), *[("batch", "length")] * 2)
        arrays = (np.zeros((4, 64, 16), np.float32), np.zeros((20_480, 16), np.float32))
        arrays += (np.zeros((4, 64), np.int32), np.zeros((4, 64), np.float32))
        with jax.set_mesh(mesh_of()):
            shapes = [
                jax.ShapeDtypeStruct(
                    one.shape, one.dtype, sharding=NamedSharding(mesh_of(), axes.spec(*name))
                )
                for one, name in zip(arrays, names, strict=True)
            ]
            compiled = value_and_grad.lower(chunks, *shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(8) < temporaries(1) / 4
