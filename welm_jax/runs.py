"""A run: from a configuration and a folder to a trained model, and back from the folder.

Puts the floors together: data into batches, batches and state into the loop, callbacks around it.
"""

import contextlib
import dataclasses
import importlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from jaxtyping import PyTree
from rich.console import Console

from welm_jax import gin_files, run_files
from welm_jax.configurables import TRAINING
from welm_jax.data.batches import BatchStream
from welm_jax.evaluate import count_models, held_out
from welm_jax.failures import InputError, Preempted
from welm_jax.gin_files import GinConfig
from welm_jax.model.decoder import Assembler
from welm_jax.run_files import RunFolder
from welm_jax.text.tokenizer import Tokenizer
from welm_jax.train import loop, mesh, optimizer, state, step
from welm_jax.train.checkpoints import Checkpoints, Progress
from welm_jax.train.mesh import MeshConfig
from welm_jax.train.run_log import RunLog

# What must not change in the life of a run: class -> its fields, or all but some.
IDENTITY = {
    "ModelConfig": ("num_layers", "num_heads", "d_model", "vocab_size", "ties_embeddings"),
    "MixtureConfig": ("mixture", "rates", "seed"),
    "StepConfig": ("batch_size",),
    "LoopConfig": ("seed",),
}

# Rows of each source that an evaluation in the middle of training looks at.
ROWS_WHILE_TRAINING = 64


def train(run: RunFolder, config: GinConfig, user_modules: Sequence[str]) -> None:
    """Trains until the last step, going on from the folder's newest checkpoint if it has one.

    Raises:
      InputError: the configuration does not fit the devices, the data or the folder's run.
      Preempted: SIGTERM or SIGINT came; everything is saved.
    """
    model, steps = config["ModelConfig"], config["LoopConfig"].train_steps
    mixture = _mixture(run, config, user_modules)
    devices = mesh.make_mesh(config["MeshConfig"])
    config["StepConfig"].check(devices, mixture["sequence_tokens"])
    stream = BatchStream(mixture, config["StepConfig"].batch_size)
    _write_beginning(run, config, mixture)

    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(_asked_to_stop())
        stack.enter_context(jax.set_mesh(devices))
        checkpoints = stack.enter_context(
            Checkpoints(run.checkpoints, config["CheckpointConfig"].keep)
        )
        log = stack.enter_context(
            RunLog(
                run,
                flops_per_token=model.flops_per_token(mixture["sequence_tokens"]),
                total_steps=steps,
                every_steps=config["LoopConfig"].log_every_steps,
            )
        )
        restored = checkpoints.restore(_like(config, devices))
        begin_state, begin = restored or (_new_state(config), Progress())
        log.say(_opening_words(model, devices, begin, steps))
        assemble = Assembler(model)
        end_state, end = loop.run(
            begin_state,
            begin,
            train_step=step.make_train_step(
                assemble, config["OptimizerConfig"], config["StepConfig"]
            ),
            batches=(
                (cursor, step.on_mesh(batch, devices))
                for cursor, batch in stream.iterate(begin.cursor)
            ),
            last_step=steps,
            on_step=log.step,
            every=[
                (config["CheckpointConfig"].every_steps, checkpoints.save),
                (config["LoopConfig"].evaluate_every_steps, _evaluation(assemble, mixture, log)),
            ],
            stopping=stopping,
        )
        checkpoints.save(end_state, end)
    if end.step < steps:
        raise Preempted(f"stopped at step {end.step}, saved; the same command goes on from there")
    epochs = ", ".join(f"{name} {count:.2f}" for name, count in stream.epochs(end.cursor).items())
    print(f"trained {end.step} steps on {end.tokens:,} tokens; epochs: {epochs}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A run's newest checkpoint, ready to be used.

    Attributes:
      config: the objects of its configuration.
      mixture: the content of its mixture.json.
      tokenizer: the tokenizer it was trained with.
      assemble: puts parameters into a decoder.
      parameters: the newest ones, on `devices`.
      progress: where the run stood.
      devices: the mesh to set around any use.
    """

    config: GinConfig
    mixture: dict[str, Any]
    tokenizer: Tokenizer
    assemble: Assembler
    parameters: PyTree
    progress: Progress
    devices: jax.sharding.Mesh


def load(run: RunFolder) -> LoadedRun:
    """Opens a run for evaluation or generation, on the first device.

    Raises:
      InputError: there is no checkpoint, or the tokenizer is not the one of the data.
    """
    config = gin_files.load([os.fspath(run.require().config)], [], TRAINING)
    mixture = run_files.read_json(run.mixture)
    tokenizer = _own_tokenizer(run.tokenizer, mixture)
    own_mesh = mesh.make_mesh(MeshConfig(), jax.devices()[:1])
    with jax.set_mesh(own_mesh), Checkpoints(run.checkpoints) as checkpoints:
        restored = checkpoints.restore(_like(config, own_mesh))
    if restored is None:
        raise InputError(f"{run.path} has no checkpoint yet; train it first")
    return LoadedRun(
        config=config,
        mixture=mixture,
        tokenizer=tokenizer,
        assemble=Assembler(config["ModelConfig"]),
        parameters=restored[0].parameters,
        progress=restored[1],
        devices=own_mesh,
    )


def evaluate(run: RunFolder) -> None:
    """Scores the newest checkpoint and the count models of its training text on held-out text.

    Writes held_out.json and prints it as a table. Its keys: `step`; `sources` and `all`, with the
    fields of HeldOutScore but the name; `count_models`, as count_models.bits_per_character says.
    """
    loaded = load(run)
    with jax.set_mesh(loaded.devices):
        scores = held_out.bits_per_character(loaded.assemble, loaded.parameters, loaded.mixture)
    named = {fields.pop("source"): fields for fields in map(dataclasses.asdict, scores)}
    overall = named.pop(held_out.ALL)
    folders = {
        source["name"]: source["folder"]
        for source in loaded.mixture["sources"]
        if source["name"] in named
    }
    result = {
        "step": loaded.progress.step,
        "all": overall,
        "sources": named,
        "count_models": count_models.bits_per_character(folders, loaded.tokenizer),
    }
    run_files.write_json(run.held_out, result)
    Console().print(held_out.table(result))


def _mixture(run: RunFolder, config: GinConfig, user_modules: Sequence[str]) -> dict[str, Any]:
    """The run's mixture: compiled by seqio in its first life, read from the folder after that."""
    declared = config["MixtureConfig"]
    if run.config.exists():
        _refuse_another_run(run, config)
        mixture = run_files.read_json(run.mixture)
        for source in mixture["sources"]:  # the data may have moved; its fingerprint may not
            source["folder"] = os.fspath(epath.Path(declared.tokens_dir) / source["name"])
    else:
        with _without_stderr():
            from welm_jax.tasks import pretraining
        for module in user_modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                raise InputError(f"--import {module}: {error}; is it on PYTHONPATH?") from error
        mixture = pretraining.compile_mixture(declared)
    if mixture["vocab_size"] != config["ModelConfig"].vocab_size:
        raise InputError(
            f"ModelConfig.vocab_size = {config['ModelConfig'].vocab_size}, but the tokenizer of "
            f"{declared.tokens_dir} has {mixture['vocab_size']} pieces; make them equal"
        )
    return mixture


def _refuse_another_run(run: RunFolder, config: GinConfig) -> None:
    """Refuses a folder whose run differs in anything that makes it that run."""
    earlier = gin_files.load([os.fspath(run.config)], [], TRAINING)
    for name, fields in IDENTITY.items():
        for field in fields:
            was, now = getattr(earlier[name], field), getattr(config[name], field)
            if was != now:
                raise InputError(
                    f"{run.path} holds a run with {name}.{field} = {was!r}, not {now!r}; "
                    "give another --run_dir, or the value it began with"
                )


def _write_beginning(run: RunFolder, config: GinConfig, mixture: dict[str, Any]) -> None:
    """Writes what the folder says of its run; config.gin comes last and makes it one."""
    tokenizer = epath.Path(config["MixtureConfig"].tokens_dir) / run.tokenizer.name
    _own_tokenizer(tokenizer, mixture)
    run.path.mkdir(parents=True, exist_ok=True)
    tokenizer.copy(run.tokenizer, overwrite=True)
    run_files.write_json(run.mixture, mixture)
    run_files.write_text(run.operative_config, config.operative)
    run_files.write_text(run.config, config.given)


def _own_tokenizer(file: epath.Path, mixture: dict[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer(file)
    if tokenizer.sha256 != mixture["tokenizer_sha256"]:
        raise InputError(
            f"{file} (sha256 {tokenizer.sha256[:12]}) is not the tokenizer of the data "
            f"({mixture['tokenizer_sha256'][:12]}); put that one there, or write the tokens again"
        )
    return tokenizer


def _like(config: GinConfig, devices: jax.sharding.Mesh) -> PyTree:
    adam = optimizer.make_adam(config["OptimizerConfig"])
    return state.abstract_tree(config["ModelConfig"], adam, devices)


def _new_state(config: GinConfig) -> state.TrainState:
    adam = optimizer.make_adam(config["OptimizerConfig"])
    return state.initial_state(config["ModelConfig"], adam, config["LoopConfig"].seed)


def _evaluation(assemble: Assembler, mixture: dict[str, Any], log: RunLog) -> loop.Callback:
    def evaluate(current: state.TrainState, progress: Progress) -> None:
        results = held_out.bits_per_character(
            assemble, current.parameters, mixture, max_rows=ROWS_WHILE_TRAINING
        )
        bits = {result.source: result.bits_per_character for result in results}
        log.scalars(progress.step, {f"held_out/{name}": value for name, value in bits.items()})
        shown = "  ".join(f"{name} {value:.3f}" for name, value in bits.items())
        log.say(f"step {progress.step}: held-out bits per character, estimated: {shown}")

    return evaluate


def _opening_words(model, devices: jax.sharding.Mesh, begin: Progress, steps: int) -> str:
    axes_words = ", ".join(f"{name} {size}" for name, size in devices.shape.items())
    kind = devices.devices.flat[0].device_kind
    return (
        f"{model.num_parameters:,} parameters on {devices.size} x {kind} ({axes_words}); "
        + (f"going on from step {begin.step}" if begin.step else "from the beginning")
        + f" to {steps}"
    )


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keeps the process's stderr quiet: TensorFlow, loading, tells there of GPUs it may not use."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Gives a function that is true once SIGTERM or SIGINT came; the second one kills."""
    came = []

    def note(number, _):
        came.append(number)
        signal.signal(number, signal.SIG_DFL)

    former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
