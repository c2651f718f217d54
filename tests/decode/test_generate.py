import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_decoder import TINY, UNTIED, mesh_of, placed, random_parameters
from welm_jax.decode import strides
from welm_jax.decode.generate import generate, programs
from welm_jax.decode.sampling import Limits, NoRepeatedNgrams, Sampling
from welm_jax.failures import InputError, StopAndLook
from welm_jax.model import loss
from welm_jax.model.decoder import Assembler

EOD = 1
PROMPTS = [[1, 17, 5, 99], [1], [1, 30, 31, 32, 33, 34, 35, 36]]
ASSEMBLE = Assembler(TINY)
PARAMETERS = random_parameters(TINY)


def continuations(prompts, *, mesh=None, new=6, temperature=0.0, seed=0, eod_id=EOD, **more):
    mesh = mesh or mesh_of()
    with jax.set_mesh(mesh):
        found = generate(
            ASSEMBLE,
            placed(PARAMETERS, mesh),
            prompts,
            max_new_tokens=new,
            eod_id=eod_id,
            how=Sampling(
                temperature=temperature,
                limits=more.pop("limits", Limits()),
                processors=more.pop("processors", ()),
            ),
            seed=seed,
            **more,
        )
        found = dict(found)
    return [found[number] for number in range(len(prompts))]


def best_next_ids(rows):
    """By the full forward, without a cache: the likeliest id after each token of each row."""

    @jax.jit
    def likeliest(parameters, tokens):
        decoder = ASSEMBLE(parameters)
        positions = jnp.tile(jnp.arange(tokens.shape[1]), (len(rows), 1))
        hidden = decoder(tokens, positions, jnp.ones_like(positions))
        return loss.logits(hidden, decoder.head_matrix(), TINY.vocab_size).argmax(-1)

    width = max(map(len, rows))
    padded = np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
    with jax.set_mesh(mesh_of()):
        return np.asarray(likeliest(PARAMETERS, padded))


def test_greedy_is_the_argmax_of_the_full_forward_at_every_step():
    new = continuations(PROMPTS, eod_id=0)
    best = best_next_ids([prompt + row for prompt, row in zip(PROMPTS, new, strict=True)])
    for prompt, row, chosen in zip(PROMPTS, new, best, strict=True):
        assert row == chosen[len(prompt) - 1 : len(prompt) + len(row) - 1].tolist()
    assert len({tuple(row) for row in new}) == len(new)  # the prompts matter


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_continuation_does_not_depend_on_its_neighbours(temperature):
    """Beside a longer prompt the first one begins with empty slots; alone it does not."""
    together = continuations(PROMPTS, temperature=temperature, seed=3)
    assert continuations(PROMPTS[:1], temperature=temperature, seed=3) == together[:1]
    others = [PROMPTS[0], [2], [7] * len(PROMPTS[2])]
    assert continuations(others, temperature=temperature, seed=3)[0] == together[0]


def test_the_seed_alone_decides_what_is_sampled():
    first = continuations(PROMPTS, temperature=1.0, seed=7)
    assert continuations(PROMPTS, temperature=1.0, seed=7) == first
    assert continuations(PROMPTS, temperature=1.0, seed=8) != first


def test_the_same_prompt_twice_is_sampled_twice():
    first, second, _ = continuations([[1, 5], [1, 5], PROMPTS[2]], temperature=1.0)
    assert first != second


def test_meshes_give_the_ids_of_one_device():
    """Three prompts on two data replicas: a row is added and taken away again."""
    for temperature in (0.0, 1.0):
        expected = continuations(PROMPTS, temperature=temperature)
        spread = continuations(PROMPTS, mesh=mesh_of(2, 1, 2), temperature=temperature)
        assert spread == expected


def test_neither_the_batch_nor_the_length_that_prompts_are_filled_up_to_matters():
    prompts = [[1, *range(5, 5 + length)] for length in (33, 3, 5, 0)]
    expected = continuations(prompts, temperature=1.0)
    assert continuations(prompts, temperature=1.0, batch_tokens=1) == expected
    assert continuations(prompts[:1] + [[1]] * 4, temperature=1.0)[0] == expected[0]


@pytest.mark.parametrize(
    "slots", [(32, 40), pytest.param((32, 40, 48, 56, 64), marks=pytest.mark.slow)]
)
def test_few_programs_serve_all_lengths(slots):
    new = 5 + len(slots)  # as no other test has it: nothing is compiled yet
    with jax.set_mesh(mesh_of()):
        before, most = programs(slots[-1])
    continuations([[1] * length for length in range(1, slots[-1] - 3)], new=new)
    with jax.set_mesh(mesh_of()):
        # One for the prompts of a length, one for what is added to them.
        assert programs(slots[-1])[0] - before == 2 * len(slots) <= most


def test_a_stop_ends_a_row_after_the_token_that_completed_it():
    """Stops after id a is followed by id b, found in what greedy decoding gives."""
    whole = continuations(PROMPTS, eod_id=0)
    first, second = whole[1][1:3]
    stops = np.zeros((3, TINY.vocab_size), np.int32)
    stops[:, first] = 1
    stops[1, second] = 2
    stops[2] = 2
    cut = continuations(PROMPTS, eod_id=0, stops=stops)
    assert cut[1] == whole[1][:3]
    for row, of_whole in zip(cut, whole, strict=True):
        assert row == of_whole[: len(row)]


def test_only_the_likeliest_ids_are_drawn_if_so_asked():
    """Over many seeds: top_k 1 is greedy, top_k 3 knows three first ids."""
    greedy = continuations(PROMPTS, eod_id=0)
    draws = {"temperature": 5.0, "eod_id": 0}
    for limits in (Limits(top_k=1), Limits(top_p=1e-6)):
        assert continuations(PROMPTS, limits=limits, **draws) == greedy

    def first_ids(limits):
        return {
            token
            for seed in range(16)
            for row in continuations([PROMPTS[0]] * 4, limits=limits, seed=seed, **draws)
            for token in row[:1]
        }

    three = first_ids(Limits(top_k=3))
    assert len(three) == 3 and greedy[0][0] in three
    assert len(first_ids(Limits())) > 20


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_processors_decide_what_may_be_chosen(shape):
    """No id twice, the prompt's included; the plain continuation has some twice."""
    once = (NoRepeatedNgrams(size=1),)
    new = continuations(PROMPTS, eod_id=0, processors=once, mesh=mesh_of(*shape))
    for prompt, row in zip(PROMPTS, new, strict=True):
        assert len({*prompt, *row}) == len(prompt) + len(row) == len(prompt) + 6
    plain = continuations(PROMPTS, eod_id=0)
    assert any(len({*row}) < len(row) for row in plain)


def test_it_ends_before_the_end_of_document():
    """With an id that greedy decoding came to as the end of documents."""
    whole = continuations(PROMPTS, eod_id=0)
    eod_id = whole[0][2]
    cut = continuations(PROMPTS, eod_id=eod_id)
    assert cut == [row[: row.index(eod_id)] if eod_id in row else row for row in whole]
    assert len(cut[0]) <= 2


def test_padding_rows_of_the_vocabulary_are_never_emitted():
    """At a temperature that makes all ids alike, 900 of 1,024 draws would be padding."""
    emitted = set()
    for seed in range(10):
        rows = continuations(PROMPTS, temperature=1e4, eod_id=0, seed=seed)
        emitted.update(token for row in rows for token in row)
    assert max(emitted) < TINY.vocab_size
    assert len(emitted) > 60


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prompts": [[1], []]}, "prompt 1 is empty; give it a token"),
        ({"prompts": [[1, 120]]}, "prompt 0 holds id 120, but the model knows ids 0 to 119"),
        ({"prompts": [[-1]]}, "prompt 0 holds id -1"),
        ({"new": 0}, "max_new_tokens = 0; it must be 1 or more"),
        ({"temperature": -0.5}, r"temperature = -0.5; it must be 0 \(likeliest\)"),
        ({"temperature": float("nan")}, "temperature = nan"),
        (
            {"temperature": 1e39},
            r"temperature = 1e\+39; it must be 0 .* or a number above, up to 1e\+06",
        ),
        ({"seed": 2**32}, r"seed = 4294967296; it must lie in \[0, 2\^32\)"),
        ({"seed": -1}, r"seed = -1; it must lie in"),
        ({"seed": 2**63}, "seed = 9223372036854775808; it must lie in"),
        ({"limits": Limits(top_k=-1)}, r"top_k = -1; it must be 0 \(all\) or more"),
        ({"limits": Limits(top_p=0.0)}, r"top_p = 0.0; it must lie in \(0, 1\]"),
    ],
)
def test_wrong_requests_are_refused(change, text):
    with pytest.raises(InputError, match=text):
        continuations(**{"prompts": PROMPTS, **change})


@pytest.mark.parametrize("limits", [Limits(top_k=10**30), Limits(top_k=TINY.vocab_size + 9)])
def test_more_ids_than_there_are_leave_all(limits):
    draws = {"temperature": 1.0, "seed": 3}
    assert continuations(PROMPTS, limits=limits, **draws) == continuations(PROMPTS, **draws)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_in_how_many_calls_it_is_done_does_not_matter(monkeypatch, temperature):
    """An id a call, all at once, and as the clock has it."""
    expected = continuations(PROMPTS, new=40, temperature=temperature, eod_id=0)
    assert [*map(len, expected)] == [40] * 3 or temperature
    for seconds, growth in ((0.0, 1), (1e9, 1000)):
        monkeypatch.setattr(strides, "SECONDS", seconds)
        monkeypatch.setattr(strides, "GROWTH", growth)
        assert continuations(PROMPTS, new=40, temperature=temperature, eod_id=0) == expected


def test_scores_that_are_no_numbers_are_told_and_not_an_empty_text():
    """Of the one prompt that ever reads the id with a broken embedding, and only if it is read."""
    untied, broken = Assembler(UNTIED), random_parameters(UNTIED)
    broken["embed"]["embedding"][99] = np.nan
    with jax.set_mesh(mesh_of()):
        ask = functools.partial(generate, untied, placed(broken, mesh_of()), eod_id=0)
        with pytest.raises(StopAndLook, match="likelihoods are no numbers in 1 of 3 answers"):
            list(ask(PROMPTS, max_new_tokens=4))
        assert len(list(ask(PROMPTS[1:], max_new_tokens=4))) == 2


def test_no_prompts_give_no_continuations():
    assert continuations([]) == []
