"""Models in Hugging Face's GPT-NeoX form: a run written as one, and one read as a run.

What is written opens in transformers, and in all that builds on it, with no code of ours. What is
read becomes a run folder at step 0, which is evaluated and generates as any other; it has no data
and is not trained on.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from jaxtyping import PyTree
from rich.progress import track

from welm_jax import gin_files, gpt_neox_layout, loaded_run, model_info, run_files
from welm_jax.configurables import TRAINING
from welm_jax.failures import InputError
from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.text import fast_tokenizer
from welm_jax.text.fast_tokenizer import FastTokenizer, read_object
from welm_jax.text.tokenizer import SCORE_STEPS, Tokenizer
from welm_jax.train import loss_scale
from welm_jax.train.checkpoints import Checkpoints, Progress
from welm_jax.train.mesh import MeshConfig, available_devices, make_mesh
from welm_jax.train.optimizer import make_adam
from welm_jax.train.state import untrained_state

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 4_000_000_000
DTYPES = ("F64", "F32", "F16", "BF16")  # of weights that are read, as safetensors writes them
# A run's configuration has to say how it trains; one that does not train says the least.
UNTRAINED = (
    "MixtureConfig.mixture='imported'",
    "MixtureConfig.tokens_dir=''",
    "OptimizerConfig.max_learning_rate=1e-5",
    "OptimizerConfig.warmup_steps=1",
    "OptimizerConfig.decay_steps=2",
    "StepConfig.batch_size=1",
    "LoopConfig.train_steps=1",
)


def export(run: RunFolder, folder: epath.Path) -> None:
    """Writes a run's newest checkpoint as Hugging Face's GPT-NeoX: config, weights, tokenizer.

    Args:
      run: whose tokenizer is ours.
      folder: a new one; config.json comes last and makes it a model.

    Raises:
      InputError: the folder holds something, or the run was read from elsewhere.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; give --to_hf a new folder")
    loaded = loaded_run.load(run)
    tokenizer, config = loaded.tokenizer, loaded.assemble.config
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(
            f"{run.path} was read from a model of that form; take its tokenizer and weights there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    window = loaded.mixture["sequence_tokens"]
    _write_weights(folder, gpt_neox_layout.as_gpt_neox(_by_name(loaded.parameters, config)))
    run_files.write_json(folder / fast_tokenizer.FILE, fast_tokenizer.as_fast(tokenizer))
    run_files.write_json(
        folder / fast_tokenizer.SETTINGS_FILE, fast_tokenizer.settings(tokenizer, window)
    )
    ids = tokenizer.eod_id, tokenizer.pad_id
    settings = gpt_neox_layout.their_settings(config, window, *ids)
    named = ("bos_token_id", "eos_token_id", "pad_token_id")
    run_files.write_json(
        folder / "generation_config.json", {name: settings[name] for name in named}
    )
    run_files.write_json(folder / CONFIG, settings)
    print(f"{folder}: step {loaded.progress.step}, {config.num_parameters:,} parameters, float32")
    if any(one.score * SCORE_STEPS % 1 for one in tokenizer.pieces()):
        print(
            f"its vocabulary is of an older version, with scores finer than 1/{SCORE_STEPS}: where "
            "a text has two equal splits, such as '......', other tools may take the other"
        )


def _by_name(parameters: PyTree, config: ModelConfig) -> dict[str, np.ndarray]:
    """The weights by our names, without the padding rows of the vocabulary."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        name, array = axes.path_name(path), np.asarray(leaf)
        found[name] = array[: config.vocab_size] if name.endswith("embedding") else array
    return found


def _write_weights(folder: epath.Path, weights: Iterator[tuple[str, np.ndarray]]) -> None:
    """One file, or several with an index where they are large."""
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, array in weights:
        held = sum(one.nbytes for one in shards[-1].values())
        if held and held + array.nbytes > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = array
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [
            f"model-{at:05}-of-{len(shards):05}.safetensors" for at in range(1, len(shards) + 1)
        ]
    for file, shard in track([*zip(names, shards, strict=True)], "writing weights"):
        whole = {name: np.ascontiguousarray(array) for name, array in shard.items()}
        (folder / file).write_bytes(safetensors.numpy.save(whole, {"format": "pt"}))
    if len(shards) > 1:
        places = {name: file for file, one in zip(names, shards, strict=True) for name in one}
        size = sum(array.nbytes for one in shards for array in one.values())
        index = {"metadata": {"total_size": size}, "weight_map": places}
        run_files.write_json(folder / INDEX, index)


def import_model(folder: epath.Path, run: RunFolder) -> None:
    """Reads a model of Hugging Face's GPT-NeoX form, such as a Pythia, as a run folder at step 0.

    Args:
      folder: on a disk; holds config.json, tokenizer.json, safetensors, and in one of theirs the
        name of what ends a document.
      run: a new folder; config.gin comes last and makes it a run.

    Raises:
      InputError: something is missing there, or is of a kind that our decoder cannot be; or the
        run folder is not new.
    """
    if run.config.exists():
        raise InputError(f"{run.path} holds a run; give --run_dir a new folder")
    is_unfinished = run.mixture.exists() and not run_files.read_json(run.mixture)["sources"]
    if not is_unfinished:
        run.refuse_foreign()
    settings = read_object(folder / CONFIG)
    config = gpt_neox_layout.our_config(settings)
    tokenizer = FastTokenizer(folder / fast_tokenizer.FILE)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{folder} has a tokenizer of {tokenizer.vocab_size} ids and a model of "
            f"{config.vocab_size}; they do not belong together"
        )
    mixture = {
        "mixture": "imported",
        "sources": [],
        "sequence_tokens": gpt_neox_layout.our_window(settings),
        "vocab_size": config.vocab_size,
        "tokenizer_sha256": tokenizer.sha256,
    }
    bindings = [
        f"ModelConfig.{name}={value!r}" for name, value in dataclasses.asdict(config).items()
    ]
    given = gin_files.load([], [*bindings, *UNTRAINED], TRAINING)
    parts = RunParts(
        config=given, mixture=mixture, mesh=make_mesh(MeshConfig(), available_devices()[:1])
    )
    run_files.write_json(run.mixture, mixture)  # first, so that what a kill leaves is known again
    run.checkpoints.rmtree(missing_ok=True)
    _save(run, parts, _read_weights(folder, config))
    (folder / fast_tokenizer.FILE).copy(run.fast_tokenizer, overwrite=True)
    run_files.write_text(run.fast_tokenizer_settings, tokenizer.settings_text)
    run_files.write_text(run.model_info, model_info.table(parts.like["parameters"], parts.mesh))
    run_files.write_text(run.operative_config, given.operative)
    run_files.write_text(run.config, f"# Read from {folder.name}; not trained here.\n{given.given}")
    print(f"{run.path}: {config.num_parameters:,} parameters at step 0")


def _read_weights(folder: epath.Path, config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Its weights under our names, float32, vocabularies padded with zeros."""
    files = _weight_files(folder)
    try:
        opened = [safetensors.safe_open(file, framework="flax") for file in files]
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"the weights in {folder} cannot be read ({error}); fetch them again"
        ) from error
    names = [name for one in opened for name in one.keys()]  # noqa: SIM118  (no mapping)
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{min(twice)} is in two files of {folder}; take the wrong one away")
    places = {name: one for one in opened for name in one.keys()}  # noqa: SIM118

    def read(name: str) -> np.ndarray:
        kind = places[name].get_slice(name).get_dtype()
        if kind not in DTYPES:
            raise InputError(
                f"{name} in {folder} is of type {kind}; weights must be of {', '.join(DTYPES)}: "
                "give the model as it was before it was quantised"
            )
        with np.errstate(over="ignore"):  # becomes infinite, and is refused
            array = np.asarray(places[name].get_tensor(name)).astype(np.float32)
        if lost := array.size - int(np.isfinite(array).sum()):
            raise InputError(
                f"{lost:,} of the {array.size:,} numbers of {name} in {folder} are NaN or "
                "infinite; take an earlier checkpoint of the model, or fetch it again"
            )
        return array

    for name, array in gpt_neox_layout.in_our_layout(read, {*places}, config):
        if name.endswith("embedding") and len(array) == config.vocab_size:
            array = np.pad(array, ((0, config.padded_vocab_size - len(array)), (0, 0)))
        yield name, array


def _weight_files(folder: epath.Path) -> Sequence[epath.Path]:
    if (folder / INDEX).exists():
        places = read_object(folder / INDEX).get("weight_map", {})
        if not isinstance(places, dict) or not all(isinstance(one, str) for one in places.values()):
            raise InputError(
                f"weight_map of {folder / INDEX} must be an object of file names; fetch it again"
            )
        return [folder / name for name in sorted({*places.values()})]
    if not (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder} has no {WEIGHTS}; write one with transformers' save_pretrained, if the "
            "weights are there in another form"
        )
    return [folder / WEIGHTS]


def _save(run: RunFolder, parts: RunParts, weights: Iterator[tuple[str, np.ndarray]]) -> None:
    """Makes the weights the checkpoint of step 0; holds them and two moments of each."""
    like, read = parts.like["parameters"], {}
    wanted = {
        axes.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)
    }
    for name, array in track(weights, "reading weights", total=len(wanted)):
        if array.shape != wanted[name].shape:
            raise InputError(
                f"{name} has the shape {array.shape}, which a decoder of the sizes in {CONFIG} has "
                "not; do they belong together?"
            )
        read[name] = jax.device_put(array, wanted[name].sharding)
    config = parts.config
    with jax.set_mesh(parts.mesh):
        state = untrained_state(
            axes.mapped(lambda path, _: read.pop(path), like),
            make_adam(config["OptimizerConfig"]),
            loss_scale.initial(config["LossScaleConfig"], config["ModelConfig"]),
        )
        with Checkpoints(
            run.checkpoints, config["CheckpointConfig"], parts.identity
        ) as checkpoints:
            checkpoints.save(state, Progress())
