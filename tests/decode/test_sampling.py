import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_decoder import mesh_of
from welm_jax.decode import sampling
from welm_jax.decode.sampling import NEVER, Limits, NoRepeatedNgrams
from welm_jax.failures import InputError
from welm_jax.model import axes

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


@pytest.mark.parametrize(
    ("size", "forbidden"),
    [
        (1, [[1, 2, 3, 4], [5], [0, 1, 2]]),  # whatever is there
        (2, [[2, 4], [], [1, 2]]),  # 1 is followed by 4 and 2; 0 by 1 and 2
        (3, [[2], [], []]),  # 3 1 is followed by 2; 2 0 ends the row
        (4, [[], [], []]),  # 2 3 1 and 0 2 0 are there once, at the end
        (9, [[], [], []]),  # more than there are ids
    ],
)
def test_no_ids_follow_each_other_twice(size, forbidden):
    tokens = [[1, 4, 3, 1, 2, 3, 1], [-1, -1, -1, -1, -1, -1, 5], [-1, -1, 0, 1, 0, 2, 0]]
    with jax.set_mesh(mesh_of()):
        found = NoRepeatedNgrams(size=size)(jnp.zeros((3, 6)), jnp.array(tokens))
    assert [np.flatnonzero(row == NEVER).tolist() for row in np.asarray(found)] == forbidden


def test_a_processor_sees_each_rows_ids_end_together_wherever_its_rows_are():
    """One of our own adds the last id but one to the scores: 7 of the first row, -1 of the last."""
    tokens = np.array(
        [[5, 7, 6, -1, -1], [-1, 3, 4, -1, -1], [-1, 9, 8, -1, -1], [-1, -1, 2, -1, -1]]
    )

    def own(scores, tokens):
        return scores + tokens[:, -2:-1]

    for shape in [(1, 1, 1), (2, 2, 2)]:
        with jax.set_mesh(mesh_of(*shape)):
            scores, ids = jax.reshard((np.zeros((4, 2), np.float32), tokens), axes.spec("batch"))
            found = jax.jit(sampling.processed, static_argnums=0)((own,), scores, ids, 3)
        assert np.asarray(found).tolist() == [[7, 7], [3, 3], [9, 9], [-1, -1]]


def test_ngrams_of_no_size_are_refused():
    with pytest.raises(InputError, match="NoRepeatedNgrams of size 0; it must be 1 or more"):
        NoRepeatedNgrams(size=0)
