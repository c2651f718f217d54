"""Candidates that share a row score as each alone, whatever else is computed with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import FLOAT32_ATOL
from tests.tiny_decoder import TINY, mesh_of, placed, random_parameters
from welm_jax.decode import rank
from welm_jax.decode.rank import Question
from welm_jax.failures import InputError
from welm_jax.model import loss, masks
from welm_jax.model.decoder import Assembler

ASSEMBLE, PARAMETERS = Assembler(TINY), random_parameters(TINY)


def questions(seed=0, count=6):
    """Prompts of 1 to 40 ids, with 1 to 5 candidates of 1 to 9 ids each."""
    random = np.random.default_rng(seed)

    def ids(most):
        return random.integers(0, TINY.vocab_size, random.integers(1, most)).tolist()

    return [
        Question(prompt=ids(41), candidates=[ids(10) for _ in range(random.integers(1, 6))])
        for _ in range(count)
    ]


def scored(asked, mesh=None, row_tokens=96, batch_tokens=256):
    mesh = mesh or mesh_of()
    with jax.set_mesh(mesh):
        found = rank.log_likelihoods(
            ASSEMBLE,
            placed(PARAMETERS, mesh),
            asked,
            row_tokens=row_tokens,
            batch_tokens=batch_tokens,
        )
        found = dict(found)
    assert sorted(found) == list(range(len(asked)))
    return [found[number] for number in range(len(asked))]


@jax.jit
def full_logits(parameters, tokens):
    decoder = ASSEMBLE(parameters)
    hidden = decoder(tokens, jnp.arange(tokens.shape[1])[None])
    return loss.logits(hidden, decoder.head_matrix(), TINY.vocab_size)


def alone(prompt, candidate):
    """The plain forward pass over prompt and candidate, and nothing else."""
    ids = np.array([[*prompt, *candidate]], np.int32)
    with jax.set_mesh(mesh_of()):
        logits = full_logits(PARAMETERS, np.pad(ids, ((0, 0), (0, 64 - ids.shape[1]))))
    logs = np.asarray(jax.nn.log_softmax(np.asarray(logits), axis=-1))[0]
    return np.array([logs[len(prompt) - 1 + at, token] for at, token in enumerate(candidate)])


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=FLOAT32_ATOL)


def test_candidates_of_one_row_score_as_each_alone():
    asked = questions()
    expected = [[alone(one.prompt, candidate) for candidate in one.candidates] for one in asked]
    assert_same(scored(asked), expected)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 1, 4)])
def test_meshes_give_the_scores_of_one_device(shape):
    """Two rows of one length and one of another."""
    asked = [questions()[at] for at in (1, 4, 2)]
    assert_same(scored(asked, mesh_of(*shape)), scored(asked))


def test_neither_order_nor_company_nor_the_split_into_rows_matters():
    asked = questions()
    expected = scored(asked)
    assert_same(scored(asked[::-1], batch_tokens=32), expected[::-1])
    assert_same(scored(asked, row_tokens=1), expected)
    turned = [dataclasses.replace(one, candidates=one.candidates[::-1]) for one in asked]
    assert_same(scored(turned), [one[::-1] for one in expected])


def test_were_candidates_to_see_each_other_it_would_show(monkeypatch):
    asked = [one for one in questions() if len(one.candidates) > 1]
    expected = scored(asked)
    monkeypatch.setattr(masks, "shared_prompt", lambda ids: masks.causal(ids * 0, ids * 0))
    jax.clear_caches()
    found = scored(asked)
    jax.clear_caches()
    worst = max(
        np.abs(one - other).max()
        for ours, theirs in zip(found, expected, strict=True)
        for one, other in zip(ours[1:], theirs[1:], strict=True)
    )
    assert worst > 0.01
    for ours, theirs in zip(found, expected, strict=True):  # the first has nobody before it
        np.testing.assert_allclose(ours[0], theirs[0], atol=FLOAT32_ATOL)


def test_any_number_of_places_is_scored():
    """Filled up, there are 4, 5, 6 or 7 of a power of two, here 7 of 16; logits come in parts."""
    candidates = [[*range(7)], [*range(7, 112)]]
    [found] = scored([Question(prompt=[1], candidates=candidates)], row_tokens=512)
    assert [len(one) for one in found] == [7, 105]
    assert_same([found[:1]], [[alone([1], candidates[0])]])


@pytest.mark.parametrize(
    ("longest", "few"), [(40, 4), pytest.param(96, 12, marks=pytest.mark.slow)]
)
def test_few_programs_serve_all_lengths(longest, few):
    asked = [
        one
        for one in questions(seed=2, count=40)
        if len(one.prompt) + sum(map(len, one.candidates)) <= longest
    ]
    with jax.set_mesh(mesh_of()):
        before, most = rank.programs(longest, 256)
    scored(asked)
    with jax.set_mesh(mesh_of()):
        found = rank.programs(longest, 256)[0] - before
    assert 0 < found <= few < most


@pytest.mark.parametrize("calls", [40, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mesh_shape", [(1, 1, 1), (2, 2, 2)])
def test_shapes_are_as_few_as_programs_says(monkeypatch, mesh_shape, calls):
    """In many calls; each needs two for each length and number of places at most."""
    mesh, seen, of_all_calls = mesh_of(*mesh_shape), set(), set()
    with jax.set_mesh(mesh):
        most = rank.programs(96, 256)[1]

    def note(_, __, tokens, *others):
        seen.add((tokens.shape, others[-1].shape[1]))
        return np.zeros(others[-1].shape, np.float32)

    monkeypatch.setattr(rank, "_scores", note)
    for seed in range(calls):
        scored(questions(seed=seed, count=1 + seed % 30), mesh)
        assert len(seen) <= 2 * len({(tokens[1], places) for tokens, places in seen})
        of_all_calls |= seen
        seen.clear()
    assert most / 4 < len(of_all_calls) <= most


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(prompt=[], candidates=[[1]]), "question 0 has an empty prompt or candidate"),
        (Question(prompt=[1], candidates=[[1], []]), "has an empty prompt or candidate"),
        (Question(prompt=[1], candidates=[]), "has an empty prompt or candidate"),
        (Question(prompt=[1], candidates=[[120]]), "from 1 to 120, but the model knows 0 to 119"),
    ],
)
def test_what_cannot_be_scored_is_refused(question, words):
    with pytest.raises(InputError, match=words):
        scored([question])
