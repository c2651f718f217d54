"""A run: from a configuration and a folder to a trained model, and back from the folder.

Puts the floors together: data into batches, batches and state into the loop, callbacks around it.
"""

import contextlib
import dataclasses
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from jaxtyping import PyTree
from rich.console import Console

from welm_jax import gin_files, run_files
from welm_jax.configurables import TRAINING
from welm_jax.data.batches import BatchStream
from welm_jax.decode.generate import generate as continue_prompts
from welm_jax.evaluate import count_models, held_out
from welm_jax.failures import InputError, Preempted
from welm_jax.gin_files import GinConfig
from welm_jax.model.decoder import Assembler
from welm_jax.run_files import RunFolder
from welm_jax.text.records import TOKENIZER_FILE
from welm_jax.text.tokenizer import Tokenizer
from welm_jax.train import loop
from welm_jax.train.checkpoints import Checkpoints, Progress
from welm_jax.train.mesh import MeshConfig, check_model, make_mesh
from welm_jax.train.optimizer import make_adam
from welm_jax.train.run_log import RunLog
from welm_jax.train.state import TrainState, abstract_tree, initial_state
from welm_jax.train.step import make_train_step, on_mesh

# What must not change in the life of a run: class -> fields. The rest may, and is told.
IDENTITY = {
    "ModelConfig": ("num_layers", "num_heads", "d_model", "vocab_size", "ties_embeddings"),
    "MixtureConfig": ("mixture", "rates", "seed"),
    "StepConfig": ("batch_size", "masks_documents"),
    "LoopConfig": ("seed",),
}

# Rows of each source that an evaluation in the middle of training looks at.
ROWS_WHILE_TRAINING = 64


def train(run: RunFolder, config: GinConfig, user_modules: Sequence[str]) -> None:
    """Trains until the last step, going on from the folder's newest checkpoint if it has one.

    Args:
      run: a new folder, or one of the same run.
      config: objects of all classes of configurables.TRAINING.
      user_modules: modules that register seqio Tasks and Mixtures; needed in a run's first life.

    Raises:
      InputError: the configuration does not fit the devices, the data or the folder's run.
      Preempted: SIGTERM or SIGINT came; everything is saved.
    """
    with _asked_to_stop() as stopping:
        changes = _changes(run, config)
        mixture = _mixture(run, config["MixtureConfig"], user_modules)
        mesh = make_mesh(config["MeshConfig"])
        _check_fit(config, mixture, mesh)
        step_config, loop_config = config["StepConfig"], config["LoopConfig"]
        stream = BatchStream(mixture, step_config.batch_size, step_config.masks_documents)
        _write_beginning(run, config, mixture)
        log = RunLog(
            run,
            flops_per_token=config["ModelConfig"].flops_per_token(mixture["sequence_tokens"]),
            total_steps=loop_config.train_steps,
            every_steps=loop_config.log_every_steps,
        )
        checkpoints = Checkpoints(run.checkpoints, config["CheckpointConfig"].keep)
        with jax.set_mesh(mesh), checkpoints, log:
            end = _loop(config, mixture, mesh, stream, checkpoints, log, changes, stopping)
    if end.step < loop_config.train_steps:
        raise Preempted(f"stopped at step {end.step}, saved; the same command goes on from there")
    epochs = ", ".join(f"{name} {count:.2f}" for name, count in stream.epochs(end.cursor).items())
    print(f"trained {end.step} steps on {end.tokens:,} tokens; epochs: {epochs}")


def _loop(
    config: GinConfig,
    mixture: dict[str, Any],
    mesh: jax.sharding.Mesh,
    stream: BatchStream,
    checkpoints: Checkpoints,
    log: RunLog,
    changes: Sequence[str],
    stopping: Callable[[], bool],
) -> Progress:
    """Restores or begins, trains, saves; returns how far it came."""
    begin_state, begin = checkpoints.restore(_like(config, mesh)) or (_new(config), Progress())
    log.say(_opening_words(config, mesh, begin))
    for change in changes:
        log.say(change)
    assemble = Assembler(config["ModelConfig"])

    def save(state: TrainState, progress: Progress) -> None:
        log.flush()  # a checkpoint never knows of steps that metrics.jsonl has lost
        checkpoints.save(state, progress)

    every = [(config["CheckpointConfig"].every_steps, save)]
    if held_out.sources_with_text(mixture):
        evaluation = _evaluation(assemble, mixture, log)
        every.append((config["LoopConfig"].evaluate_every_steps, evaluation))
    else:
        log.say("no source has held-out text, so nothing is evaluated on the way")
    end_state, end = loop.run(
        begin_state,
        begin,
        train_step=make_train_step(assemble, config["OptimizerConfig"], config["StepConfig"]),
        batches=((at, on_mesh(batch, mesh)) for at, batch in stream.iterate(begin.cursor)),
        last_step=config["LoopConfig"].train_steps,
        on_step=log.step,
        every=every,
        stopping=stopping,
    )
    save(end_state, end)
    return end


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A run's newest checkpoint, ready to be used.

    Attributes:
      mixture: the content of its mixture.json.
      tokenizer: the tokenizer it was trained with.
      assemble: puts parameters into a decoder.
      parameters: the newest ones, on `mesh`.
      progress: where the run stood.
      mesh: of the first device; to be set around any use.
    """

    mixture: dict[str, Any]
    tokenizer: Tokenizer
    assemble: Assembler
    parameters: PyTree
    progress: Progress
    mesh: jax.sharding.Mesh


def load(run: RunFolder) -> LoadedRun:
    """Opens a run for evaluation or generation, on the first device.

    It may be training meanwhile: nothing is written.

    Raises:
      InputError: there is no checkpoint, or the tokenizer is not the one of the data.
    """
    config = gin_files.load([os.fspath(run.require().config)], [], TRAINING)
    mixture = run_files.read_json(run.mixture)
    tokenizer = _own_tokenizer(run.tokenizer, mixture)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    restored = None
    if run.checkpoints.exists():
        with jax.set_mesh(mesh), Checkpoints(run.checkpoints, keep=None) as checkpoints:
            restored = checkpoints.restore(_like(config, mesh))
    if restored is None:
        raise InputError(f"{run.path} has no checkpoint yet; train it first")
    return LoadedRun(
        mixture=mixture,
        tokenizer=tokenizer,
        assemble=Assembler(config["ModelConfig"]),
        parameters=restored[0].parameters,
        progress=restored[1],
        mesh=mesh,
    )


def evaluate(run: RunFolder) -> None:
    """Scores the newest checkpoint and the count models of its training text on held-out text.

    Writes held_out.json and prints it as a table. Its keys: `step`; `sources` and `all`, with the
    fields of HeldOutScore but the name; `count_models`, as count_models.bits_per_character says.
    """
    loaded = load(run)
    with jax.set_mesh(loaded.mesh):
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


def generate(
    run: RunFolder, prompts: Sequence[str], tokens: int, temperature: float, seed: int
) -> None:
    """Continues texts with the newest checkpoint; prints them and keeps them in samples.jsonl."""
    loaded = load(run)
    tokenizer = loaded.tokenizer
    with jax.set_mesh(loaded.mesh):
        continuations = continue_prompts(
            loaded.assemble,
            loaded.parameters,
            [[tokenizer.eod_id, *tokenizer.encode(prompt)] for prompt in prompts],
            max_new_tokens=tokens,
            temperature=temperature,
            seed=seed,
            eod_id=tokenizer.eod_id,
        )
    records = [
        {
            "step": loaded.progress.step,
            "prompt": prompt,
            "continuation": tokenizer.decode(ids),
            "temperature": temperature,
        }
        for prompt, ids in zip(prompts, continuations, strict=True)
    ]
    for record in records:
        print(record["prompt"] + record["continuation"] + "\n")
    run_files.append_lines(run.samples, records)


def _changes(run: RunFolder, config: GinConfig) -> list[str]:
    """What the configuration changes of a run that exists; refuses what would make it another."""
    run.refuse_foreign()
    if not run.config.exists():
        return []
    changes = []
    earlier = gin_files.load([os.fspath(run.config)], [], TRAINING)
    for name in TRAINING:
        for field in dataclasses.fields(config[name]):
            was, now = (getattr(one[name], field.name) for one in (earlier, config))
            if was != now and field.name in IDENTITY.get(name, ()):
                raise InputError(
                    f"{run.path} holds a run with {name}.{field.name} = {was!r}, not {now!r}; "
                    "give another --run_dir, or the value it began with"
                )
            if was != now:
                changes.append(f"changed: {name}.{field.name} = {was!r} -> {now!r}")
    return changes


def _mixture(run: RunFolder, declared: Any, user_modules: Sequence[str]) -> dict[str, Any]:
    """The run's mixture: compiled by seqio in its first life, read from the folder after that."""
    if run.config.exists():
        mixture = run_files.read_json(run.mixture)
        tokens_dir = epath.Path(declared.tokens_dir).resolve()
        for source in mixture["sources"]:  # the data may have moved; its fingerprint may not
            source["folder"] = os.fspath(tokens_dir / source["name"])
        return mixture
    with _without_stderr():
        from welm_jax.tasks import pretraining
    sys.path.insert(0, os.getcwd())  # as `python -m` does, so that a module here is found
    for module in user_modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f"--import {module}: {error}; is it on PYTHONPATH?") from error
    return pretraining.compile_mixture(declared)


def _check_fit(config: GinConfig, mixture: dict[str, Any], mesh: jax.sharding.Mesh) -> None:
    """Refuses a configuration that does not fit its data or its devices."""
    model = config["ModelConfig"]
    if jax.process_count() > 1:
        raise InputError("training with several processes is not built yet; start a single one")
    if mixture["vocab_size"] != model.vocab_size:
        raise InputError(
            f"ModelConfig.vocab_size = {model.vocab_size}, but the tokenizer of "
            f"{config['MixtureConfig'].tokens_dir} has {mixture['vocab_size']} pieces; make them "
            "equal"
        )
    check_model(mesh, model)
    config["StepConfig"].check(mesh, mixture["sequence_tokens"])


def _write_beginning(run: RunFolder, config: GinConfig, mixture: dict[str, Any]) -> None:
    """Writes what the folder says of its run; config.gin comes last and makes it one."""
    tokenizer = epath.Path(config["MixtureConfig"].tokens_dir) / TOKENIZER_FILE
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
            f"({mixture['tokenizer_sha256'][:12]}); put that one there"
        )
    return tokenizer


def _like(config: GinConfig, mesh: jax.sharding.Mesh) -> PyTree:
    return abstract_tree(config["ModelConfig"], make_adam(config["OptimizerConfig"]), mesh)


def _new(config: GinConfig) -> TrainState:
    adam = make_adam(config["OptimizerConfig"])
    return initial_state(config["ModelConfig"], adam, config["LoopConfig"].seed)


def _evaluation(assemble: Assembler, mixture: dict[str, Any], log: RunLog) -> loop.Callback:
    def evaluate(current: TrainState, progress: Progress) -> None:
        scores = held_out.bits_per_character(
            assemble, current.parameters, mixture, max_rows=ROWS_WHILE_TRAINING
        )
        bits = {score.source: score.bits_per_character for score in scores}
        log.scalars(progress.step, {f"held_out/{name}": value for name, value in bits.items()})
        shown = "  ".join(f"{name} {value:.3f}" for name, value in bits.items())
        log.say(f"step {progress.step}: held-out bits per character, estimated: {shown}")

    return evaluate


def _opening_words(config: GinConfig, mesh: jax.sharding.Mesh, begin: Progress) -> str:
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    kind = mesh.devices.flat[0].device_kind
    start = f"going on from step {begin.step}" if begin.step else "from the beginning"
    return (
        f"{config['ModelConfig'].num_parameters:,} parameters on {mesh.size} x {kind} ({sizes}); "
        f"{start} to {config['LoopConfig'].train_steps}"
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
    """Gives a function that is true once SIGTERM or SIGINT came; a second SIGINT kills."""
    came = []

    def note(number, _):
        came.append(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
