"""Training a run: from a configuration and a folder to checkpoints, and on from there.

Puts the floors together: data into batches, batches and state into the loop, callbacks around it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from welm_jax import gin_files, incidents, model_info, processes, run_files
from welm_jax.configurables import TRAINING
from welm_jax.evaluate import held_out
from welm_jax.failures import InputError, Preempted
from welm_jax.gin_files import GinConfig
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import IDENTITY, RunParts, own_tokenizer
from welm_jax.text.records import TOKENIZER_FILE
from welm_jax.train import accelerators, faults, goodput, hosts, lineage, loop
from welm_jax.train.checkpoints import Checkpoints, Progress
from welm_jax.train.mesh import check_model, make_mesh
from welm_jax.train.profiler import ProfileWindow
from welm_jax.train.recovery import Journal
from welm_jax.train.run_log import RunLog
from welm_jax.train.state import TrainState
from welm_jax.train.storage_budget import storage_budget

# Rows of each source that an evaluation in the middle of training looks at.
ROWS_WHILE_TRAINING = 64


def train(run: RunFolder, config: GinConfig, user_modules: Sequence[str]) -> None:
    """Trains until the last step, going on from the folder's newest checkpoint if it has one.

    Args:
      run: a new folder, or one of the same run.
      config: objects of all classes of configurables.TRAINING.
      user_modules: modules that register seqio Tasks and Mixtures; needed in a run's first life.

    Raises:
      InputError: the configuration does not fit the devices, the data or the folder's run, or
        another process trains in the folder.
      Preempted: SIGTERM or SIGINT came; everything is saved.
      StopAndLook: the loss went wrong and no recovery is left, or what lies in the folder is
        damaged.
    """
    mesh, changes = make_mesh(config["MeshConfig"]), []
    with _asked_to_stop() as stopping, contextlib.ExitStack() as lock:

        def begin() -> None:
            changes.extend(changes_of(run, config))
            mixture = _mixture(run, config["MixtureConfig"], user_modules)
            parts = RunParts(config=config, mixture=mixture, mesh=mesh)
            _check_fit(parts)
            lock.enter_context(run.locked())
            _write_beginning(run, parts)

        if hosts.is_first():
            run.failure.unlink(missing_ok=True)
        _check_same_command(config)
        hosts.by_first(begin)
        mixture = _mixture(run, config["MixtureConfig"], user_modules)
        parts = RunParts(config=config, mixture=mixture, mesh=mesh)
        hosts.check_same({"the run and its data": json.dumps(parts.identity)})
        end = _train(run, parts, changes, stopping)
    if end.step < config["LoopConfig"].train_steps:
        raise Preempted(f"stopped at step {end.step}, saved; the same command goes on from there")
    epochs = ", ".join(
        f"{name} {count:.2f}" for name, count in parts.stream.epochs(end.cursor).items()
    )
    if hosts.is_first():
        print(f"trained {end.step} steps on {end.tokens:,} tokens; epochs: {epochs}")


def _train(
    run: RunFolder, parts: RunParts, changes: Sequence[str], stopping: Callable[[], bool]
) -> Progress:
    """Trains, logs and saves; returns how far it came."""
    config, mixture = parts.config, parts.mixture
    loop_config = config["LoopConfig"]
    journal = Journal(run.journal)
    log = RunLog(
        run,
        flops_per_token=config["ModelConfig"].flops_per_token(mixture["sequence_tokens"]),
        total_steps=loop_config.train_steps,
        every_steps=loop_config.log_every_steps,
    )
    checkpoints = Checkpoints(
        run.checkpoints,
        config["CheckpointConfig"],
        parts.identity,
        say=log.say,
        pinned=lambda steps: lineage.pinned(steps, journal.records()),
    )

    clock, life = goodput.Clock(processes.BEGAN), goodput.life_file(run.goodput)
    window = ProfileWindow(run.profile, log.say)

    def save(state: TrainState, progress: Progress) -> None:
        log.flush()  # a checkpoint never knows of steps that metrics.jsonl has lost
        checkpoints.save(state, progress)
        if hosts.is_first():
            goodput.write(life, clock)

    def on_step(record: Mapping[str, int | float | str], seconds: float | None) -> None:
        log.step(record, seconds)
        window.step()

    if not jax.config.jax_compilation_cache_dir:  # unless the user has one
        jax.config.update("jax_compilation_cache_dir", os.fspath(run.compiled))
    with jax.set_mesh(parts.mesh), checkpoints, log:
        for words in (*_opening_words(parts), *changes):
            log.say(words)
        every = [(config["CheckpointConfig"].every_steps, save)]
        if held_out.sources_with_text(mixture):
            evaluation = _evaluation(parts, log)
            every.append((loop_config.evaluate_every_steps, evaluation))
        training = loop.Training(
            train_step=parts.train_step,
            like=parts.like,
            new_state=parts.new_state,
            reset_loss_scale=parts.with_first_loss_scale,
            batches=parts.batches,
            checkpoints=checkpoints,
            journal=journal,
            train_steps=loop_config.train_steps,
            spikes=config["SpikeConfig"],
            faults=config["FaultConfig"],
            every=every,
            on_step=on_step,
            on_incident=functools.partial(incidents.tell, run, parts.stream, log),
            stopping=stopping,
            say=log.say,
            clock=clock,
        )
        end_state, end = loop.run(training)
        with clock.on("save"):
            save(end_state, end)
        shares = goodput.shares(clock.seconds())
        log.say(f"wall time: {', '.join(f'{activity} {share:.0%}' for activity, share in shares)}")
    window.close()
    if hosts.is_first():
        goodput.write(life, clock)  # the last save waited for
    return end


def changes_of(run: RunFolder, config: GinConfig) -> list[str]:
    """What a configuration changes of a run that exists, in words; nothing of one that is new.

    Raises:
      InputError: it would make it another run, or the folder is one of something else.
    """
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
                    "give another folder, or the value it began with"
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


def _check_fit(parts: RunParts) -> None:
    """Refuses a configuration that does not fit its data or its devices."""
    config, mixture, model = parts.config, parts.mixture, parts.config["ModelConfig"]
    if mixture["vocab_size"] != model.vocab_size:
        raise InputError(
            f"ModelConfig.vocab_size = {model.vocab_size}, but the tokenizer of "
            f"{config['MixtureConfig'].tokens_dir} has {mixture['vocab_size']} pieces; make them "
            "equal"
        )
    own_tokenizer(epath.Path(config["MixtureConfig"].tokens_dir) / TOKENIZER_FILE, mixture)
    check_model(parts.mesh, model)
    config["StepConfig"].check(parts.mesh, mixture["sequence_tokens"])


def _check_same_command(config: GinConfig) -> None:
    """Stops at once, before anything is written, if the processes would compute different things.

    Raises:
      StopAndLook: on all of them; names the difference.
    """
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    configured = {name: repr(config[name]) for name in TRAINING}
    del configured["MixtureConfig"]  # folders may differ; the data's fingerprint may not
    hosts.check_same(
        {
            **configured,
            "the version of jax": jax.__version__,
            "the code of welm_jax": _digest(file.read_bytes() for file in sources),
        }
    )


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _write_beginning(run: RunFolder, parts: RunParts) -> None:
    """Writes what the folder says of its run; config.gin comes last and makes it one."""
    if not run.config.exists():
        tokenizer = epath.Path(parts.config["MixtureConfig"].tokens_dir) / TOKENIZER_FILE
        tokenizer.copy(run.tokenizer, overwrite=True)
    run_files.write_json(run.mixture, parts.mixture)
    parameters = parts.like["parameters"]
    run_files.write_text(run.model_info, model_info.table(parameters, parts.mesh))
    run_files.write_text(run.operative_config, parts.config.operative)
    run_files.write_text(run.config, parts.config.given)


def _evaluation(parts: RunParts, log: RunLog) -> loop.Callback:
    def evaluate(current: TrainState, progress: Progress) -> None:
        scores = held_out.bits_per_character(
            parts.assemble, current.parameters, parts.mixture, max_rows=ROWS_WHILE_TRAINING
        )
        bits = {score.source: score.bits_per_character for score in scores}
        scalars = {f"held_out/{name}": value for name, value in bits.items()}
        log.scalars(progress.attempt, progress.step, scalars)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in bits.items())
        log.say(f"step {progress.step}: held-out bits per character, estimated: {shown}")

    return evaluate


def _opening_words(parts: RunParts) -> Iterator[str]:
    config, mesh = parts.config, parts.mesh
    model, tokens = config["ModelConfig"], parts.mixture["sequence_tokens"]
    kind = mesh.devices.flat[0].device_kind
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    yield f"{model.num_parameters:,} parameters on {mesh.size} x {kind} ({sizes})"
    device = accelerators.of_kind(kind)
    peak = f"{device.peak_flops / 1e12:g} TFLOP/s dense bfloat16" if device else "not known here"
    yield (
        f"MFU counts {model.flops_per_token(tokens):,} FLOPs a token, 6 x (body + vocabulary x "
        f"width) + 6 x layers x width x {tokens}; the peak of a device is {peak}"
    )
    yield storage_budget(
        parts.like,
        config["CheckpointConfig"],
        config["LoopConfig"].train_steps,
        flops_per_step=model.flops_per_token(tokens) * tokens * config["StepConfig"].batch_size,
        device_kind=kind,
        devices=mesh.size,
    )
    if warning := model_info.left_whole(parts.like["parameters"], mesh):
        yield warning
    if not held_out.sources_with_text(parts.mixture):
        yield "no source has held-out text, so nothing is evaluated on the way"
    fault = config["FaultConfig"]
    if fault.kind != "none":
        yield f"A FAULT IS PLANTED: a {fault.kind} at {fault.by} {fault.at}. This is a drill."
    if faults.CRASH_AT in os.environ:
        boundary = os.environ[faults.CRASH_AT]
        yield f"{faults.CRASH_AT} = {boundary}: this process kills itself at that write boundary"


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
    """Gives a function that is true once SIGTERM or SIGINT came; a second SIGINT kills.

    Of several processes any may get SIGTERM; jax lets all stop after the same iteration. There
    SIGINT ends them at once, with nothing saved.
    """
    if jax.process_count() > 1:
        asked = itertools.count()
        yield lambda: multihost_utils.reached_preemption_sync_point(next(asked))
        return
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
