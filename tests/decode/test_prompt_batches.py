import jax
import numpy as np
import pytest

from tests.tiny_decoder import mesh_of
from welm_jax.decode.prompt_batches import most_programs, prompt_batches, until_end


def batches(lengths, mesh_shape=(1, 1, 1), **more):
    """Of prompts whose ids are their numbers."""
    prompts = [[number] * length for number, length in enumerate(lengths)]
    asked = {"max_new_tokens": 5, "rows_each": 1, "batch_tokens": 600, **more}
    with jax.set_mesh(mesh_of(*mesh_shape)):
        return list(prompt_batches(prompts, vocab_size=1000, **asked))


@pytest.mark.parametrize("mesh_shape", [(1, 1, 1), (2, 2, 2)])
def test_every_prompt_is_in_one_batch_and_ends_where_writing_begins(mesh_shape):
    lengths = np.random.default_rng(0).integers(1, 100, 50).tolist()
    found = batches(lengths, mesh_shape)
    assert sorted(number for batch in found for number in batch.numbers) == list(range(50))
    for batch in found:
        assert batch.is_filler.sum() == len(batch.tokens) - len(batch.numbers)
        for number, row, empty in zip(batch.numbers, batch.tokens, batch.empty, strict=False):
            length = len(row) - empty - 5
            assert row.tolist() == [-1] * empty + [number] * length + [-1] * 5
            assert length == lengths[number]
        assert batch.tokens[len(batch.numbers) :].max(initial=-1) == -1


@pytest.mark.parametrize(
    ("mesh_shape", "rows_each"), [((1, 1, 1), 1), ((2, 2, 1), 1), ((1, 1, 1), 3)]
)
def test_shapes_are_as_few_as_most_programs_says(mesh_shape, rows_each):
    """In many calls; each needs two for each length at most. All of them come up."""
    shapes = set()
    for seed in range(150):
        random = np.random.default_rng(seed)
        asked = random.integers(1, random.choice([33, 65]), random.integers(1, 40)).tolist()
        found = [
            batch.tokens.shape
            for batch in batches(asked, mesh_shape, rows_each=rows_each, max_new_tokens=1)
        ]
        lengths = {slots for _, slots in found}
        assert len(set(found)) <= 2 * len(lengths)
        shapes |= set(found)
    with jax.set_mesh(mesh_of(*mesh_shape)):
        most = most_programs(64, 600 // rows_each)
    assert 0.7 * most < len(shapes) <= most


def test_a_row_ends_where_its_document_or_what_was_written_does():
    assert until_end([5, 6, 0, 7], eod_id=0) == [5, 6]
    assert until_end([5, 6, -1, -1], eod_id=0) == [5, 6]
    assert until_end([5, 6], eod_id=0) == [5, 6]
