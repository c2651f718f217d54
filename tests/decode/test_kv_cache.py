import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import FLOAT32_ATOL
from tests.tiny_decoder import TINY, mesh_of, random_parameters
from welm_jax.decode import kv_cache
from welm_jax.model import loss
from welm_jax.model.decoder import Assembler

ASSEMBLE = Assembler(TINY)
PARAMETERS = random_parameters(TINY)
LENGTH = 12
TOKENS = np.random.default_rng(0).integers(0, 120, (3, LENGTH)).astype(np.int32)


@jax.jit
def forward(parameters, tokens):
    decoder = ASSEMBLE(parameters)
    positions = jnp.tile(jnp.arange(tokens.shape[1]), (len(tokens), 1))
    hidden = decoder(tokens, positions, jnp.ones_like(positions))
    return loss.logits(hidden, decoder.head_matrix(), TINY.vocab_size)


@jax.jit
def stride(parameters, cache, tokens):
    decoder = ASSEMBLE(parameters)
    hidden, cache = kv_cache.extend(decoder, cache, tokens)
    return loss.logits(hidden, decoder.head_matrix(), TINY.vocab_size), cache


def full_logits(tokens):
    with jax.set_mesh(mesh_of()):
        return np.asarray(forward(PARAMETERS, tokens))


def cached_logits(tokens, strides, empty):
    """The same logits, computed `strides` tokens at a time on a growing cache."""
    pieces = []
    with jax.set_mesh(mesh_of()):
        cache = kv_cache.make_cache(TINY, tokens.shape[1] + 2, jnp.array(empty, jnp.int32))
        for tokens_now in np.split(tokens, np.cumsum(strides)[:-1], axis=1):
            piece, cache = stride(PARAMETERS, cache, tokens_now)
            pieces.append(np.asarray(piece))
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("strides", [[1] * LENGTH, [8, 1, 1, 1, 1]])
def test_cached_logits_equal_the_full_forward_at_every_position(strides):
    np.testing.assert_allclose(
        cached_logits(TOKENS, strides, empty=[0, 0, 0]), full_logits(TOKENS), atol=FLOAT32_ATOL
    )


def test_empty_slots_before_a_row_change_nothing():
    """Row 1 begins 5 slots later; what lies in its empty slots is any ids."""
    shifted = TOKENS.copy()
    shifted[1, 5:] = TOKENS[1, : LENGTH - 5]
    logits = cached_logits(shifted, [8, 1, 1, 1, 1], empty=[0, 5, 0])
    expected = full_logits(TOKENS)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[1, 5:], expected[1, : LENGTH - 5], atol=FLOAT32_ATOL)
    np.testing.assert_allclose(logits[0], expected[0], atol=FLOAT32_ATOL)
