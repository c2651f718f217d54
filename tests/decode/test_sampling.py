import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_decoder import mesh_of
from welm_jax.decode import sampling
from welm_jax.decode.sampling import Limits

PROBABILITIES = np.array([0.5, 0.25, 0.15, 0.1, 0.0])


def draws(temperature, rows=20_000, seed=0):
    scores = np.where(PROBABILITIES > 0, np.log(PROBABILITIES.clip(1e-9)), -1e30)
    with jax.set_mesh(mesh_of()):
        keys = sampling.row_keys(jax.random.key(seed), jnp.arange(rows))
        tiled = jnp.tile(scores.astype(np.float32), (rows, 1))
        picked = sampling.pick(tiled, keys, jnp.int32(0), jnp.float32(temperature))
        return np.bincount(np.asarray(picked), minlength=5)


def chi_square(counts, probabilities):
    expected = counts.sum() * probabilities
    return (((counts - expected) ** 2) / expected)[probabilities > 0].sum()


def test_draws_follow_the_distribution_at_temperature_1():
    """Three degrees of freedom: 16.3 is exceeded once in a thousand seeds; this seed is fixed."""
    counts = draws(1.0)
    assert counts[4] == 0
    assert chi_square(counts[:4], PROBABILITIES[:4]) < 16.3


def test_temperature_2_takes_the_square_root_of_the_odds():
    flattened = np.sqrt(PROBABILITIES[:4])
    counts = draws(2.0)
    assert chi_square(counts[:4], flattened / flattened.sum()) < 16.3
    assert chi_square(counts[:4], PROBABILITIES[:4]) > 100  # the bound can be exceeded


def test_temperature_0_takes_the_likeliest():
    assert draws(0.0).tolist() == [20_000, 0, 0, 0, 0]


def test_an_id_with_score_minus_1e30_is_never_drawn():
    assert draws(1e6)[4] == 0


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(), [0, 1, 2, 3]),
        (Limits(top_k=2), [0, 1]),
        (Limits(top_p=0.5), [0]),
        (Limits(top_p=0.51), [0, 1]),
        (Limits(top_p=0.9), [0, 1, 2]),
        (Limits(top_k=2, top_p=0.9), [0, 1]),  # of .667 and .333
        (Limits(top_k=2, top_p=0.6), [0]),
    ],
)
def test_limits_keep_the_likeliest(limits, kept):
    """Of .5, .25, .15 and .1, in an order of their own."""
    order = np.array([2, 0, 3, 1])
    scores = jnp.asarray(np.log(PROBABILITIES[:4])[order][None], jnp.float32)
    found = np.asarray(sampling.within(limits, scores, jnp.float32(1)))[0]
    assert sorted(order[found > -1e29]) == kept


def test_top_p_counts_at_the_temperature():
    """At temperature 2 the roots of .5, .25, .15, .1 are shares of .37, .26, .2, .17."""
    scores = jnp.asarray(np.log(PROBABILITIES[:4])[None], jnp.float32)
    found = np.asarray(sampling.within(Limits(top_p=0.5), scores, jnp.float32(2)))[0]
    assert (found > -1e29).tolist() == [True, True, False, False]
