"""Beam search: greedy with one beam, an exhaustive search with enough, and cases by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_decoder import TINY, mesh_of, placed, random_parameters
from welm_jax.decode import beam_search, strides
from welm_jax.decode.beam_search import BeamSearch
from welm_jax.decode.generate import generate
from welm_jax.decode.sampling import NoRepeatedNgrams
from welm_jax.failures import InputError, StopAndLook
from welm_jax.model import loss
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Assembler

EOD = 1
PROMPTS = [[1, 17, 5, 99], [1], [1, 30, 31, 32, 33, 34, 35, 36]]
ASSEMBLE, PARAMETERS = Assembler(TINY), random_parameters(TINY)
THREE = BeamSearch(beams=3, processors=(NoRepeatedNgrams(size=2),))

# A decoder of four ids, whose best continuations differ by prompt.
FEW = ModelConfig(
    num_layers=1,
    num_heads=2,
    d_model=16,
    vocab_size=4,
    compute_dtype="float32",
    ties_embeddings=False,
)
OF_FEW = Assembler(FEW)
FEW_PROMPTS = [[2], [1, 3, 0], [3, 3], [0, 2, 0, 2, 3], [1], [2, 2, 2], [0], [3, 0, 0, 1]]


def listed(found, prompts):
    found = dict(found)
    return [found[number] for number in range(len(prompts))]


def searched(prompts, *, mesh=None, new=6, eod_id=EOD, how=THREE, **more):
    mesh = mesh or mesh_of()
    with jax.set_mesh(mesh):
        parameters = placed(PARAMETERS, mesh)
        found = beam_search.search(
            ASSEMBLE, parameters, prompts, max_new_tokens=new, eod_id=eod_id, how=how, **more
        )
        return listed(found, prompts)


def greedy(prompts, eod_id):
    with jax.set_mesh(mesh_of()):
        found = generate(ASSEMBLE, PARAMETERS, prompts, max_new_tokens=6, eod_id=eod_id)
        return listed(found, prompts)


def test_one_beam_is_greedy():
    """With an id for the end that greedy decoding does not come to, and one that it does."""
    whole = greedy(PROMPTS, eod_id=0)
    one = BeamSearch(beams=1)
    assert searched(PROMPTS, eod_id=0, how=one) == whole
    found = searched(PROMPTS, eod_id=whole[0][2], how=one)
    assert found == greedy(PROMPTS, eod_id=whole[0][2])
    assert len(found[0]) < len(whole[0])


def test_neither_company_nor_order_nor_mesh_matters():
    """Eight devices: four have a prompt or a row that fills up, each with two for its heads."""
    expected = searched(PROMPTS)
    assert searched(PROMPTS[::-1], batch_tokens=1) == expected[::-1]
    assert searched(PROMPTS, mesh=mesh_of(2, 2, 2)) == expected
    assert len({tuple(row) for row in expected}) == len(expected)


@jax.jit
def log_probabilities(parameters, tokens):
    decoder = OF_FEW(parameters)
    hidden = decoder(tokens, jnp.tile(jnp.arange(tokens.shape[1]), (len(tokens), 1)))
    scores = loss.logits(hidden, decoder.head_matrix(), FEW.vocab_size)
    return jax.nn.log_softmax(scores[..., : FEW.vocab_size])


def best_of_all(parameters, prompt, new, ends):
    """The hypothesis likeliest by id among all sequences, by the full forward pass."""
    sequences = np.array(list(itertools.product(range(FEW.vocab_size), repeat=new)), np.int32)
    tokens = np.concatenate([np.tile(prompt, (len(sequences), 1)), sequences], axis=1)
    with jax.set_mesh(mesh_of()):
        padded = np.pad(tokens, ((0, 0), (0, 8 - tokens.shape[1]))).astype(np.int32)
        logs = np.asarray(log_probabilities(parameters, padded))
    scores = {}
    for row, ids in enumerate(sequences.tolist()):
        length = next((at for at in range(1, new) if ends(ids[:at])), new)
        of_ids = logs[row, np.arange(length) + len(prompt) - 1, ids[:length]]
        scores[tuple(ids[:length])] = of_ids.mean()
    return max(scores, key=scores.get)


@pytest.mark.parametrize(("seed", "with_stop"), [(11, False), (17, False), (19, True)])
def test_enough_beams_find_the_best_of_all_sequences(seed, with_stop):
    """Of 4 ids there are 12 hypotheses at most at the second of 3 steps: 12 beams lose none.

    The stop is id 2 followed by id 3.
    """
    parameters = random_parameters(FEW, seed)
    stops = np.array([[0, 0, 1, 0], [0, 0, 1, 2 if with_stop else 0], [2, 2, 2, 2]], np.int32)

    def ends(ids):
        return ids[-1] == EOD or (with_stop and ids[-2:] == [2, 3])

    best = [best_of_all(parameters, prompt, 3, ends) for prompt in FEW_PROMPTS]
    assert len(set(best)) > 4
    assert ((2, 3) in best) == with_stop
    with jax.set_mesh(mesh_of()):
        found = beam_search.search(
            OF_FEW,
            parameters,
            FEW_PROMPTS,
            max_new_tokens=3,
            eod_id=EOD,
            how=BeamSearch(beams=12),
            stops=stops,
        )
        found = listed(found, FEW_PROMPTS)
    assert found == [[token for token in ids if token != EOD] for ids in best]


grown = jax.jit(beam_search.grown, static_argnums=(0, 1))


def by_table(table, how, max_new_tokens):
    """The search step by step, over p(id | the id before); id 0 begins a document and ends it."""
    tokens = jnp.array([[0] + [-1] * max_new_tokens])
    held = beam_search.begun(how, tokens, jnp.array([False]))
    scores, fed = np.log(np.maximum(table, 1e-30)), np.zeros((how.beams, 1), int)
    for step in range(max_new_tokens):
        of_fed = jnp.asarray(scores[np.asarray(fed)[:, 0]], jnp.float32)
        stops = jnp.zeros((2, len(table)), jnp.int32)
        numbers = jnp.int32(step), jnp.int32(0)
        held, _, fed = grown(how, max_new_tokens, held, of_fed, *numbers, stops)
        yield held


def test_two_beams_find_what_greedy_decoding_misses():
    """Greedy: .6 x .4 = .24. The other beam: .4 x .9 = .36."""
    table = np.array([[0, 0.6, 0.4], [0.3, 0.3, 0.4], [0.05, 0.9, 0.05]])
    *_, one = by_table(table, BeamSearch(beams=1), 2)
    *_, two = by_table(table, BeamSearch(beams=2), 2)
    assert one.best.tolist() == [[0, 1, 2]]
    assert two.best.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(one.best_score, np.log(0.24) / 2, rtol=1e-6)
    np.testing.assert_allclose(two.best_score, np.log(0.36) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("length_penalty", "done"), [(0.0, [True, True, True]), (1.0, [False, True, True])]
)
def test_a_search_ends_when_nothing_that_goes_on_can_beat_what_ended(length_penalty, done):
    """The end has probability .6; what goes on, of .4, then .4 x .9 = .36, would end by 1.

    .4 is no more than .6. But by the id, log(.4) / 3 = -.31 for three ids is more than
    log(.6) = -.51 for one. One step later two have ended, which is as many as there are beams.
    """
    table = np.array([[0.6, 0.4, 0], [0.1, 0.0, 0.9], [1.0, 0, 0]])
    how = BeamSearch(beams=2, length_penalty=length_penalty)
    steps = list(by_table(table, how, 3))
    assert [bool(beam_search.is_done(how, 3, held)[0]) for held in steps] == done


def test_in_how_many_calls_it_is_done_does_not_matter(monkeypatch):
    expected = searched(PROMPTS, new=20)
    for seconds, growth in ((0.0, 1), (1e9, 1000)):
        monkeypatch.setattr(strides, "SECONDS", seconds)
        monkeypatch.setattr(strides, "GROWTH", growth)
        assert searched(PROMPTS, new=20) == expected


def test_scores_that_are_no_numbers_are_told_and_not_an_empty_text():
    """Of the second step alone: whatever id comes first, its embedding is broken."""
    broken = random_parameters(FEW, 11)
    asked = [[2], [2, 2]]
    broken["embed"]["embedding"][[0, 1, 3]] = np.nan
    with jax.set_mesh(mesh_of()), pytest.raises(StopAndLook, match="numbers in [12] of 2 answers"):
        list(
            beam_search.search(
                OF_FEW, broken, asked, max_new_tokens=3, eod_id=EOD, how=BeamSearch(beams=4)
            )
        )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"how": {"beams": 0}}, r"beams = 0; it must be 1 \(greedy\) or more"),
        ({"how": {"length_penalty": -1.0}}, r"length_penalty = -1.0; it must be 0 \(none\)"),
        ({"how": {"length_penalty": float("nan")}}, "length_penalty = nan"),
        ({"prompts": [[1], []]}, "prompt 1 is empty; give it a token"),
        ({"new": 0}, "max_new_tokens = 0; it must be 1 or more"),
    ],
)
def test_wrong_requests_are_refused(change, text):
    with pytest.raises(InputError, match=text):
        searched(**{"prompts": PROMPTS, **change, "how": BeamSearch(**change.get("how", {}))})
