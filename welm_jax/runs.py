"""Training a run: from a configuration and a folder to checkpoints, and on from there.

Puts the floors together: data into batches, batches and state into the loop, callbacks around it.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jaxlib
from etils import epath

from welm_jax import incidents, run_beginning, run_evaluation, stop_signals
from welm_jax.data import token_dataset
from welm_jax.evaluate import held_out
from welm_jax.failures import Preempted
from welm_jax.gin_files import GinConfig
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train import goodput, hosts, lineage, loop
from welm_jax.train.checkpoints import Checkpoints, Progress
from welm_jax.train.mesh import make_mesh
from welm_jax.train.profiler import ProfileWindow
from welm_jax.train.recovery import Journal
from welm_jax.train.run_log import RunLog
from welm_jax.train.state import TrainState

# Rows of each source that an evaluation in the middle of training looks at.
ROWS_WHILE_TRAINING = 64


def train(
    run: RunFolder, config: GinConfig, user_modules: Sequence[str], began: float | None = None
) -> None:
    """Trains until the last step, going on from the folder's newest checkpoint if it has one.

    Args:
      run: a new folder, or one of the same run.
      config: objects of all classes of configurables.TRAINING.
      user_modules: modules that register seqio Tasks and Mixtures; needed in a run's first life,
        and wherever a Task of theirs is evaluated on the way.
      began: when this life did, by time.perf_counter; now unless given.

    Raises:
      InputError: the configuration does not fit the devices, the data or the folder's run, or
        another process trains in the folder.
      Preempted: SIGTERM or SIGINT came; everything is saved.
      StopAndLook: the loss went wrong and no recovery is left, or what lies in the folder is
        damaged.
    """
    clock = goodput.Clock(began)
    with stop_signals.asked_to_stop() as stopping, contextlib.ExitStack() as lock:
        mesh, changes = make_mesh(config["MeshConfig"]), []

        def begin() -> None:
            changes.extend(run_beginning.changes_of(run, config))
            if is_new := not run.has_steps():
                mixture = run_beginning.new_mixture(config["MixtureConfig"], user_modules)
            else:
                mixture = run_beginning.mixture_of(run, config["MixtureConfig"])
            parts = RunParts(config=config, mixture=mixture, mesh=mesh)
            run_beginning.check_fit(parts)
            run_evaluation.check(config["EvaluationConfig"], user_modules)
            if is_new:  # what has steps was looked at before the first
                token_dataset.count_rows(mixture["sources"])
            lock.enter_context(run.locked())
            if is_new:
                run_beginning.write_beginning(run, parts)

        run_beginning.check_same_command(config)
        hosts.by_first(begin)
        mixture = run_beginning.mixture_of(run, config["MixtureConfig"])
        parts = RunParts(config=config, mixture=mixture, mesh=mesh)
        hosts.check_same({"the run and its data": json.dumps(parts.identity)})
        end = _train(run, parts, changes, clock, stopping)
    if end.step < config["LoopConfig"].train_steps:
        raise Preempted(f"stopped at step {end.step}, saved; the same command goes on from there")
    if hosts.is_first():
        skipped = lineage.skipped_ranges(Journal(run.journal).records())
        epochs = parts.stream.epochs(end.cursor, skipped).items()
        shown = ", ".join(f"{name} {count:.2f}" for name, count in epochs)
        print(f"trained {end.step} steps on {end.tokens:,} tokens; epochs: {shown}")


def _train(
    run: RunFolder,
    parts: RunParts,
    changes: Sequence[str],
    clock: goodput.Clock,
    stopping: Callable[[], bool],
) -> Progress:
    """Trains, logs and saves; returns how far it came."""
    config, loop_config, journal = parts.config, parts.config["LoopConfig"], Journal(run.journal)
    log = RunLog(
        run,
        flops_per_token=config["ModelConfig"].flops_per_token(parts.mixture["sequence_tokens"]),
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
    window = ProfileWindow(run.profile, log.say)

    def save(state: TrainState, progress: Progress) -> None:
        log.flush()  # a checkpoint never knows of steps that metrics.jsonl has lost
        checkpoints.save(state, progress)

    if not jax.config.jax_compilation_cache_dir:  # unless the user has one
        jax.config.update("jax_compilation_cache_dir", os.fspath(programs_folder(run)))
    with _accounted(run, clock) as life, jax.set_mesh(parts.mesh), checkpoints, log:
        for words in (*run_beginning.opening_words(parts), *changes):
            log.say(words)

        def on_step(record: Mapping[str, int | float | str], seconds: float | None) -> None:
            log.step(record, seconds)
            window.step()
            life.write()

        every = [(config["CheckpointConfig"].every_steps, save)]
        if held_out.sources_with_text(parts.mixture):
            every.append((loop_config.evaluate_every_steps, _evaluation(parts, log)))
        evaluate_tasks = run_evaluation.callback(run, parts, log)
        if steps := config["EvaluationConfig"].every_steps:
            every.append((steps, evaluate_tasks))

        def on_restored(state: TrainState, progress: Progress) -> None:
            if hosts.is_first():  # not before: what cannot go on leaves the folder as it was
                run_beginning.write_beginning(run, parts)
            if run_evaluation.is_missing(run, config["EvaluationConfig"], progress):
                with clock.on(evaluate_tasks.__name__):
                    evaluate_tasks(state, progress)

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
            on_restored=on_restored,
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
            checkpoints.settle()
        window.close()
        shares = goodput.shares(clock.seconds())
        log.say(f"wall time: {', '.join(f'{activity} {share:.0%}' for activity, share in shares)}")
    return end


def programs_folder(run: RunFolder) -> epath.Path:
    """The folder for compiled programs; one of another jaxlib or processor may not run here."""
    digest = hashlib.sha256(_processor().encode()).hexdigest()[:8]
    return run.compiled / f"jaxlib_{jaxlib.__version__}_{digest}"


def _processor() -> str:
    """What this machine's processor is and can do, as far as the system says it."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    of_interest = ("model name", "flags", "CPU part", "Features")  # the latter two of ARM
    lines = [line for line in first.splitlines() if line.startswith(of_interest)]
    return "\n".join([platform.machine(), *lines])


@contextlib.contextmanager
def _accounted(run: RunFolder, clock: goodput.Clock) -> Iterator[goodput.Life]:
    """Gives what writes down where the time of this life goes, and does so at its end.

    One that is ended from outside is written down up to half a minute before.
    """
    life = goodput.Life(run.goodput, clock, writes=hosts.is_first())
    try:
        yield life
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is told
            life.write(now=True)
        raise
    life.write(now=True)


def _evaluation(parts: RunParts, log: RunLog) -> loop.Callback:
    def evaluate(current: TrainState, progress: Progress) -> None:
        scores = held_out.bits_per_character(
            parts.assemble,
            current.parameters,
            parts.mixture,
            parts.config["StepConfig"].masks_documents,
            max_rows=ROWS_WHILE_TRAINING,
        )
        bits = {score.source: score.bits_per_character for score in scores}
        scalars = {f"held_out/{name}": value for name, value in bits.items()}
        log.scalars(progress.attempt, progress.step, scalars)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in bits.items())
        log.say(f"step {progress.step}: held-out bits per character, estimated: {shown}")

    return evaluate
