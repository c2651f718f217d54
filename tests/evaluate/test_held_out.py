import itertools
import math
from dataclasses import asdict
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.begun_run import begun_run
from tests.conftest import SHARDED_RTOL
from tests.evaluate.small_datasets import SEQUENCE_TOKENS, TEXTS, VOCAB_SIZE, write_datasets
from tests.tiny_decoder import mesh_of, placed, random_parameters
from welm_jax import loaded_run, run_files, runs
from welm_jax.data.token_dataset import TokenDataset, read_metadata
from welm_jax.evaluate import count_models, held_out
from welm_jax.failures import InputError
from welm_jax.model import axes, loss
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Assembler
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train.checkpoints import Progress

MODEL = ModelConfig(
    num_layers=2, num_heads=4, d_model=16, vocab_size=VOCAB_SIZE, compute_dtype="float32"
)
ASSEMBLE = Assembler(MODEL)
PARAMETERS = random_parameters(MODEL)


def mixture(folders):
    sources = [
        {"name": name, "folder": folder, "fingerprint": read_metadata(folder)[1]}
        for name, folder in folders.items()
    ]
    return {"sources": sources}


def scores(folders, parameters=PARAMETERS, mesh=None, masks_documents=False, **options):
    mesh = mesh or mesh_of()
    with jax.set_mesh(mesh):
        found = held_out.bits_per_character(
            ASSEMBLE, placed(parameters, mesh), mixture(folders), masks_documents, **options
        )
    return {score.source: score for score in found}


@jax.jit
def logits_of_row(parameters, tokens):
    """A batch of one row, so that nothing else can matter."""
    positions = jnp.arange(SEQUENCE_TOKENS)
    inputs = (
        jax.reshard(row[None], axes.spec("batch", "length"))
        for row in (tokens, positions, jnp.ones_like(positions))
    )
    decoder = ASSEMBLE(parameters)
    return loss.logits(decoder(*inputs), decoder.head_matrix(), VOCAB_SIZE)[0, :, :VOCAB_SIZE]


def row_nats(folder):
    """The cost of each row by itself, one position after the other: no batch, no weights."""
    with jax.set_mesh(mesh_of()):
        parameters = placed(PARAMETERS, mesh_of())
        return [row_cost(parameters, row) for row in TokenDataset(folder, "heldout")]


def row_cost(parameters, row):
    logits = np.asarray(logits_of_row(parameters, jnp.array(row[:-1])), np.float64)
    spread = np.log(np.exp(logits).sum(axis=1))
    targets = [(at, token) for at, token in enumerate(row[1:]) if token != 0]
    return sum(spread[at] - logits[at, token] for at, token in targets)


def test_uniform_logits_cost_log_v_bits_a_token(folders, tokenizer):
    flat = jax.tree.map(np.zeros_like, PARAMETERS)
    found = scores(folders, flat)
    assert list(found) == ["news", "books", "all"]
    for source, score in found.items():
        documents = [
            text for name in TEXTS if source in (name, "all") for text in TEXTS[name]["heldout"]
        ]
        tokens = sum(len(tokenizer.encode(text)) + 1 for text in documents)
        characters = sum(map(len, documents))
        assert (score.tokens, score.characters) == (tokens, characters)
        np.testing.assert_allclose(
            score.bits_per_character, tokens * math.log2(VOCAB_SIZE) / characters, rtol=1e-6
        )
        np.testing.assert_allclose(score.loss, math.log(VOCAB_SIZE), rtol=1e-6)


def test_batches_agree_with_a_plain_loop_over_rows(folders):
    found = scores(folders)
    nats = {source: sum(row_nats(folder)) for source, folder in folders.items()}
    for source in folders:
        characters = sum(map(len, TEXTS[source]["heldout"]))
        expected = nats[source] / math.log(2) / characters
        np.testing.assert_allclose(found[source].bits_per_character, expected, rtol=SHARDED_RTOL)
    together = sum(nats.values()) / found["all"].tokens
    np.testing.assert_allclose(found["all"].loss, together, rtol=SHARDED_RTOL)


def test_with_masks_a_document_costs_what_it_costs_alone(tmp_path, tokenizer):
    """What of it lies in a row, in a row of its own."""
    folders = write_datasets(tmp_path, tokenizer, together=True)
    found = scores(folders, masks_documents=True)["news"]
    nats = 0.0
    with jax.set_mesh(mesh_of()):
        parameters = placed(PARAMETERS, mesh_of())
        for row in TokenDataset(folders["news"], "heldout"):
            inner = np.flatnonzero(row[1:-1] == tokenizer.eod_id) + 1
            for begin, end in itertools.pairwise([0, *inner, len(row) - 1]):
                alone = np.zeros_like(row)
                alone[: end + 1 - begin] = row[begin : end + 1]
                nats += row_cost(parameters, alone)
    np.testing.assert_allclose(found.loss, nats / found.tokens, rtol=SHARDED_RTOL)
    plain = scores(folders)["news"].loss
    assert abs(plain / found.loss - 1) > 100 * SHARDED_RTOL


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 1, 4)])
def test_every_mesh_gives_the_same_score(folders, shape):
    one, other = scores(folders), scores(folders, mesh=mesh_of(*shape))
    for source in one:
        np.testing.assert_allclose(
            one[source].bits_per_character, other[source].bits_per_character, rtol=SHARDED_RTOL
        )


def test_the_first_rows_alone_are_scored_when_asked(folders):
    rows = row_nats(folders["books"])
    assert len(rows) > 2
    found = scores(folders, max_rows=2)["books"]
    whole = scores(folders)["books"]
    assert found.tokens == 2 * SEQUENCE_TOKENS
    np.testing.assert_allclose(found.loss * found.tokens, sum(rows[:2]), rtol=SHARDED_RTOL)
    # Characters by the share of tokens: 60 of the split's, times 32 of its tokens.
    assert found.characters == pytest.approx(60 * found.tokens / whole.tokens)


def test_many_rows_are_scored_batch_after_batch(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "ROWS_PER_DEVICE", 2)
    texts = {"news": {"train": ["天"], "heldout": ["今天下雨。" * n for n in (9, 3, 7, 5)]}}
    folders = write_datasets(tmp_path, tokenizer, texts)
    rows = row_nats(folders["news"])
    assert len(rows) > 4 and len(rows) % 2  # several batches, the last one not full
    found = scores(folders)["news"]
    np.testing.assert_allclose(found.loss * found.tokens, sum(rows), rtol=SHARDED_RTOL)


def test_a_source_without_held_out_text_is_passed_over_and_none_with_any_is_refused(
    tokenizer, tmp_path
):
    texts = {"news": {"train": ["今天"]}, "books": {"train": ["天气"], "heldout": ["明天"]}}
    folders = write_datasets(tmp_path, tokenizer, texts)
    assert set(scores(folders)) == {"books", "all"}
    with pytest.raises(InputError, match="no source has held-out text"):
        scores({"news": folders["news"]})


def test_data_that_was_written_again_is_refused(folders):
    known = mixture(folders)
    known["sources"][0]["fingerprint"] = "of other data"
    with jax.set_mesh(mesh_of()), pytest.raises(InputError, match="written again"):
        held_out.bits_per_character(ASSEMBLE, placed(PARAMETERS, mesh_of()), known, False)


def test_a_run_is_scored_beside_the_count_models(folders, tokenizer, tmp_path, monkeypatch, capsys):
    loaded = SimpleNamespace(
        assemble=ASSEMBLE,
        parameters=placed(PARAMETERS, mesh_of()),
        mixture=mixture(folders),
        tokenizer=tokenizer,
        progress=Progress(step=30),
        mesh=mesh_of(),
        masks_documents=False,
    )
    monkeypatch.setattr(loaded_run, "load", lambda run: loaded)
    monkeypatch.setenv("COLUMNS", "120")
    run = RunFolder(tmp_path)
    loaded_run.evaluate(run)
    result = run_files.read_json(run.held_out)
    assert list(result) == ["step", "all", "sources", "count_models"]
    assert result["step"] == 30 and list(result["sources"]) == ["news", "books"]
    expected = scores(folders)
    for source, found in {**result["sources"], "all": result["all"]}.items():
        assert {"source": source, **found} == asdict(expected[source])
    assert result["count_models"] == count_models.bits_per_character(folders, tokenizer)
    printed = capsys.readouterr().out
    assert f"{result['all']['bits_per_character']:.3f}" in printed
    assert "this model, step 30" in printed and "character trigram" in printed


def test_a_run_is_scored_as_it_was_trained(tmp_path, capsys):
    """By `welm evaluate`, and while it trains; the tiny corpus has several documents in a row."""
    run = RunFolder(begun_run(tmp_path, 4, "StepConfig.masks_documents = True"))
    loaded_run.evaluate(run)
    loaded, parts = loaded_run.load(run), RunParts.opened(run)
    with jax.set_mesh(parts.mesh):
        masked, plain = (
            held_out.bits_per_character(loaded.assemble, loaded.parameters, loaded.mixture, masks)
            for masks in (True, False)
        )
        said = []
        log = SimpleNamespace(scalars=lambda *_: None, say=said.append)
        state = SimpleNamespace(parameters=loaded.parameters)
        runs._evaluation(parts, log)(state, Progress(step=4))
    assert run_files.read_json(run.held_out)["all"]["loss"] == masked[-1].loss != plain[-1].loss
    assert said[0].endswith(f"all {masked[-1].bits_per_character:.3f}")
