"""What is settled before a run's first step: that command, data, devices and folder fit together.

And what the folder, and the log, then say of the run. Nothing here trains.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from welm_jax import gin_files, model_info, run_files
from welm_jax.configurables import TRAINING
from welm_jax.data.mixture import compile_mixture
from welm_jax.evaluate import held_out
from welm_jax.failures import InputError
from welm_jax.gin_files import GinConfig
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import IDENTITY, RunParts, own_tokenizer
from welm_jax.text.records import TOKENIZER_FILE
from welm_jax.text.sources import OURS, MixtureConfig, datasets_in
from welm_jax.train import accelerators, faults, hosts, rollback
from welm_jax.train.mesh import check_model
from welm_jax.train.storage_budget import storage_budget, unmet_period


def check_same_command(config: GinConfig) -> None:
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


def changes_of(run: RunFolder, config: GinConfig) -> list[str]:
    """What a configuration changes of a run that has steps, in words; nothing of one without.

    Raises:
      InputError: it would make it another run, or the folder is one of something else.
    """
    run.refuse_foreign()
    if not run.has_steps():
        return []
    if not run_files.read_json(run.mixture)["sources"]:
        raise InputError(
            f"{run.path} holds a model that was read from elsewhere, which is evaluated and "
            "generates, and is not trained on; give --run_dir another folder"
        )
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


def mixture_of(run: RunFolder, declared: MixtureConfig) -> dict[str, Any]:
    """The mixture that a run began with, its sources where the configuration says they are now."""
    mixture = run_files.read_json(run.mixture)
    tokens_dir = run_files.literal(declared.tokens_dir).resolve()
    for source in mixture["sources"]:  # the data may have moved; its fingerprint may not
        source["folder"] = os.fspath(tokens_dir / source["name"])
    return mixture


def new_mixture(declared: MixtureConfig, user_modules: Sequence[str]) -> dict[str, Any]:
    """The mixture of a run without a step, compiled.

    Only modules of the user's and the Mixtures they register need seqio, which loads TensorFlow.

    Args:
      declared: what the configuration says.
      user_modules: see runs.train.

    Raises:
      InputError: a module cannot be imported, or seqio knows no such mixture.
    """
    if user_modules or declared.mixture != OURS:
        with without_stderr():
            from welm_jax.tasks import pretraining
        import_modules(user_modules)
        declared = dataclasses.replace(declared, rates=pretraining.rates_of(declared))
    return compile_mixture(declared)


def import_modules(names: Sequence[str]) -> None:
    """Imports modules of the user's, which register seqio Tasks and Mixtures.

    Raises:
      InputError: there is no such module.
    """
    sys.path.insert(0, os.getcwd())  # as `python -m` does, so that a module here is found
    for module in names:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f"--import {module}: {error}; is it on PYTHONPATH?") from error


def check_fit(parts: RunParts) -> None:
    """Refuses a configuration that does not fit its data or its devices.

    Raises:
      InputError: names what does not fit what.
    """
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


def write_beginning(run: RunFolder, parts: RunParts) -> None:
    """Writes what the folder says of its run; config.gin comes last and makes it one."""
    if not run.has_steps():
        tokenizer = epath.Path(parts.config["MixtureConfig"].tokens_dir) / TOKENIZER_FILE
        tokenizer.copy(run.tokenizer, overwrite=True)
    run.write_mixture(parts.mixture)
    parameters = parts.like["parameters"]
    run_files.write_text(run.model_info, model_info.table(parameters, parts.mesh))
    run_files.write_text(run.operative_config, parts.config.operative)
    run_files.write_text(run.config, parts.config.given)


def opening_words(parts: RunParts) -> Iterator[str]:
    """What the log begins with: size, devices, how MFU is counted, what saving costs, warnings."""
    config, mesh = parts.config, parts.mesh
    model, tokens = config["ModelConfig"], parts.mixture["sequence_tokens"]
    kind = mesh.devices.flat[0].device_kind
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    yield f"configuration: {', '.join(config.files) or 'flags alone'}"
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
    yield from _rates_in_words(config["MixtureConfig"], parts.mixture["rates"])
    if config["SpikeConfig"].action == "recover":
        most, why = rollback.most_skipped(config["SpikeConfig"], config["LoopConfig"].train_steps)
        yield f"up to {most:,} batches are skipped after loss spikes without a person: {why}"
    if warning := unmet_period(config["CheckpointConfig"]):
        yield warning
    if not held_out.sources_with_text(parts.mixture):
        yield "no source has held-out text, so nothing is evaluated on the way"
    if every_steps := config["EvaluationConfig"].every_steps:
        tasks = ", ".join(config["EvaluationConfig"].tasks)
        yield f"every {every_steps:,} steps these are evaluated: {tasks}"
    fault = config["FaultConfig"]
    if fault.kind != "none":
        yield f"A FAULT IS PLANTED: a {fault.kind} at {fault.by} {fault.at}. This is a drill."
    if faults.CRASH_AT in os.environ:
        boundary = os.environ[faults.CRASH_AT]
        yield f"{faults.CRASH_AT} = {boundary}: this process kills itself at that write boundary"


def _rates_in_words(declared: MixtureConfig, rates: Mapping[str, float]) -> Iterator[str]:
    """Names the datasets that have no rate, and the one that is trained on because it is alone."""
    is_ours = declared.mixture == OURS
    named = {*rates, *(declared.rates if is_ours else ())}
    if unnamed := [name for name in datasets_in(declared.tokens_dir) if name not in named]:
        yield (
            f"WITHOUT A RATE, and so not trained on: {', '.join(unnamed)}; "
            f"MixtureConfig.rates names {', '.join(rates)}"
        )
    if is_ours and not rates.keys() & declared.rates.keys():
        yield f"trained on {', '.join(rates)} alone, the one dataset in {declared.tokens_dir}"


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Keeps the process's stderr quiet: TensorFlow, loading, tells there of GPUs it may not use."""
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
