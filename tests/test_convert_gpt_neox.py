"""Runs as models in Hugging Face's form and back; no library of theirs but file formats.

benchmarks.interop has transformers and lm-eval open what is written here.
"""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy

from tests import byte_level, tiny_corpus
from tests.begun_run import begun_run
from tests.tasks import small_sets
from tests.tiny_decoder import random_parameters
from welm_jax import convert_gpt_neox, launch, loaded_run
from welm_jax.failures import InputError
from welm_jax.gpt_neox_layout import as_gpt_neox, their_settings
from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.run_files import RunFolder
from welm_jax.text.fast_tokenizer import FastTokenizer


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    return begun_run(tmp_path_factory.mktemp("a_run"))


def weights_of(run):
    loaded = loaded_run.load(RunFolder(run))
    found = jax.tree_util.tree_leaves_with_path(loaded.parameters)
    return {axes.path_name(path): np.asarray(leaf) for path, leaf in found}, loaded


def exported(run, folder):
    launch.dispatch(["convert", "--run_dir", str(run), "--to_hf", str(folder)])
    return folder


def imported(folder, run):
    launch.dispatch(["convert", "--from_hf", str(folder), "--run_dir", str(run)])
    return run


@pytest.mark.parametrize(("shard_bytes", "files"), [(4_000_000_000, 1), (20_000, 4)])
def test_there_and_back_is_the_same_model(a_run, tmp_path, monkeypatch, shard_bytes, files):
    """Whole, and in shards too small for the embedding."""
    monkeypatch.setattr(convert_gpt_neox, "SHARD_BYTES", shard_bytes)
    folder = exported(a_run, tmp_path / "theirs")
    assert len([*folder.glob("*.safetensors")]) == files
    assert (folder / "model.safetensors.index.json").exists() == (files > 1)
    first, before = weights_of(a_run)
    second, after = weights_of(imported(folder, tmp_path / "back"))
    vocabulary = before.assemble.config.vocab_size
    for name, array in first.items():
        rows = slice(vocabulary if name.endswith("embedding") else None)
        np.testing.assert_array_equal(array[rows], second[name][rows])
    assert after.assemble.config == before.assemble.config
    text = tiny_corpus.document(7)
    assert after.tokenizer.encode(text) == before.tokenizer.encode(text)
    assert not weights_of(tmp_path / "back")[1].progress.step


def test_it_continues_texts_as_before(a_run, tmp_path, capsys):
    back = imported(exported(a_run, tmp_path / "theirs"), tmp_path / "back")
    capsys.readouterr()
    told = []
    for run in (a_run, back):
        arguments = ["--prompt", "老师在河边", "--prompt", "船长 reads\t", "--tokens", "12"]
        launch.dispatch(["generate", "--run_dir", str(run), *arguments])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "老师在河边" in told[0]


GENERAL = ModelConfig(
    num_layers=2,
    num_heads=2,
    d_model=16,
    vocab_size=300,
    ties_embeddings=False,
    parallel_residual=True,
    rotary_fraction=0.25,
    compute_dtype="float32",
)


@pytest.fixture(scope="module")
def general_written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("general")
    ours = convert_gpt_neox._by_name(random_parameters(GENERAL), GENERAL)
    theirs = {name: jnp.asarray(one, jnp.bfloat16) for name, one in as_gpt_neox(ours)}
    safetensors.flax.save_file(theirs, folder / "model.safetensors")
    tokenizer = byte_level.write(folder)
    settings = their_settings(GENERAL, 64, tokenizer.eod_id, tokenizer.pad_id)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder, ours


@pytest.fixture
def general(general_written, tmp_path):
    """A folder with a model of all that ours is not, in bfloat16; its weights by our names."""
    folder, ours = general_written
    return shutil.copytree(folder, tmp_path / "general"), ours


def test_a_general_gpt_neox_is_read_as_it_is(general, tmp_path):
    folder, ours = general
    weights, loaded = weights_of(imported(folder, tmp_path / "run"))
    assert loaded.assemble.config == GENERAL
    for name, array in ours.items():
        rounded = np.asarray(jnp.asarray(array, jnp.bfloat16), np.float32)
        rows = slice(GENERAL.vocab_size if name.endswith("embedding") else None)
        np.testing.assert_array_equal(weights[name][rows], rounded)
    assert loaded.tokenizer.encode("the cat") == FastTokenizer(folder / "tokenizer.json").encode(
        "the cat"
    )


def test_special_tokens_may_be_named_in_another_of_their_files(general, tmp_path):
    """The run holds the tokenizer's two files alone, and it ends texts where the model does."""
    folder, _ = general
    end = FastTokenizer(folder / "tokenizer.json").eod_id
    (folder / "tokenizer_config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    run = imported(folder, tmp_path / "run")
    assert weights_of(run)[1].tokenizer.eod_id == end
    assert json.loads((run / "tokenizer_config.json").read_text())["eos_token"] == "<|end|>"


def test_an_imported_model_is_evaluated_on_tasks(general, tmp_path, capsys):
    run = imported(general[0], tmp_path / "run")
    examples = [small_sets.dialogue(at) for at in range(6)]
    small_sets.write(tmp_path / "sets/c3", "validation", examples)
    arguments = ["--data_dir", str(tmp_path / "sets"), "--task", "c3_0shot"]
    launch.dispatch(["evaluate", "--run_dir", str(run), *arguments])
    assert "| C3 | acc (token_mean) | c3 |" in capsys.readouterr().out


def test_an_imported_model_has_no_data(general, tmp_path):
    run = imported(general[0], tmp_path / "run")
    with pytest.raises(InputError, match="no text of its own; evaluate it on tasks, with --data_d"):
        launch.dispatch(["evaluate", "--run_dir", str(run)])
    gin_file = str(run / "config.gin")
    with pytest.raises(InputError, match="was read from elsewhere.* is not trained on"):
        launch.dispatch(["train", "--gin_file", gin_file, "--run_dir", str(run)])
    with pytest.raises(InputError, match="take its tokenizer and weights there"):
        exported(run, tmp_path / "again")
    with pytest.raises(InputError, match="holds a run; give --run_dir a new folder"):
        imported(general[0], run)


def test_one_direction_is_wanted(tmp_path):
    for flags in ([], ["--to_hf", "x", "--from_hf", "y"]):
        with pytest.raises(InputError, match="--from_hf and a model's: one of the two"):
            launch.dispatch(["convert", "--run_dir", str(tmp_path), *flags])


def test_an_import_that_was_killed_is_made_again(general, tmp_path):
    run = imported(general[0], tmp_path / "run")
    (run / "config.gin").unlink()  # which comes last
    weights, _ = weights_of(imported(general[0], run))
    assert weights["blocks/up/kernel"].any()


def change_settings(folder, **changes):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))


INDEX, UP = "model.safetensors.index.json", "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"


def change_weights(folder, change):
    weights = safetensors.flax.load_file(folder / "model.safetensors")
    safetensors.flax.save_file({**weights, UP: change(weights[UP])}, folder / "model.safetensors")


def beyond_float32(folder):
    weights = safetensors.flax.load_file(folder / "model.safetensors")
    doubled = {name: np.asarray(one, np.float64) for name, one in weights.items()}
    doubled[UP][3, 3] = 1e300
    safetensors.numpy.save_file(doubled, folder / "model.safetensors")


def write_twice(folder):
    weights = safetensors.flax.load_file(folder / "model.safetensors")
    safetensors.flax.save_file({UP: weights[UP]}, folder / "other.safetensors")
    places = {name: "model.safetensors" for name in weights} | {UP: "other.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda folder: change_settings(folder, vocab_size=280), "284 ids and a model of 280"),
        (lambda folder: change_settings(folder, vocab_size=290), "embed/embedding has the shape"),
        (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json cannot be read"),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
            "tokenizer_config.json holds no JSON object",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
            "28 of the weights .* missing",
        ),
        (
            lambda folder: (folder / INDEX).write_text('{"weight_map": ["a"]}'),
            f"weight_map of .*{INDEX} must be an object of file names",
        ),
        (
            lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": 1}}'),
            f"weight_map of .*{INDEX} must be an object of file names",
        ),
        (
            lambda folder: change_settings(folder, max_position_embeddings=None),
            "max_position_embeddings null; it must be a whole number",
        ),
        (
            lambda folder: change_weights(folder, lambda one: one.astype(jnp.int8)),
            f"{UP} in .* is of type I8; weights must be of F64, F32, F16, BF16",
        ),
        (
            lambda folder: change_weights(folder, lambda one: one.at[3, 3].set(jnp.nan)),
            f"1 of the 1,024 numbers of {UP} in .* are NaN or infinite",
        ),
        (
            lambda folder: change_weights(folder, lambda one: one * jnp.inf),
            f"1,024 of the 1,024 numbers of {UP} in .* are NaN or infinite",
        ),
        (
            beyond_float32,
            f"1 of the 1,024 numbers of {UP} in .* are NaN or infinite",
        ),
        (write_twice, f"{UP} is in two files of .*; take the wrong one away"),
        (lambda folder: (folder / "model.safetensors").unlink(), "transformers' save_pretrained"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99),
            "cannot be read .*; fetch them again",
        ),
    ],
)
def test_what_cannot_be_read_leaves_no_run(general, tmp_path, spoil, told):
    spoil(general[0])
    with pytest.raises(InputError, match=told):
        imported(general[0], tmp_path / "run")
    assert not (tmp_path / "run" / "config.gin").exists()


def test_a_folder_that_holds_something_is_not_written_into(a_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("mine")
    with pytest.raises(InputError, match="is not empty; give --to_hf a new folder"):
        exported(a_run, tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["config.json"]
