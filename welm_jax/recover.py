"""What a person does about loss spikes: look, rehearse on a curve, decide by hand.

Uses the functions that training itself uses, so that a rehearsal decides as a run would.
"""

import csv
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from welm_jax import gin_files, recovery_report, run_files, runs
from welm_jax.configurables import TRAINING
from welm_jax.failures import InputError
from welm_jax.gin_files import GinConfig
from welm_jax.run_files import RunFolder
from welm_jax.train import spikes
from welm_jax.train.checkpoints import Checkpoints
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import Reading, Recovery, Saved, SpikeConfig

CERTIFIED_AFTER = 100  # judged steps without an incident


def status(run: RunFolder) -> None:
    """Prints where a run stands, what was decided and to which checkpoints it may go back."""
    console = Console(highlight=False)
    records = Journal(run.journal).records()
    lines = run_files.read_lines(run.metrics)
    last = max(lines, key=lambda line: (line.get("attempt", 0), line["cursor"]), default=None)
    if last is None:
        console.print("no step was made yet")
        return
    attempt = last.get("attempt", 0)
    multiplier = spikes.multiplier(records, attempt)
    skipped = sum(end - begin for begin, end in spikes.skipped_ranges(records))
    console.print(
        f"attempt {attempt}, step {last['step']}, cursor {last['cursor']}: loss {last['loss']}, "
        f"{last.get('guarded', 0)} updates refused, {skipped} batches skipped, learning rate x "
        f"{multiplier:.3g}",
        soft_wrap=True,
    )
    for record in records:
        superseded = " (superseded)" if spikes.is_superseded(record, records) else ""
        words = f"recovery {record.id}{superseded}: {recovery_report.decided(record)}"
        console.print(words, soft_wrap=True)
    table = Table("checkpoint", "cursor", "what it is")
    with opened_checkpoints(run, opened_config(run)) as checkpoints:
        valid = checkpoints.saved(functools.partial(spikes.is_valid, journal=records))
        for saved in checkpoints.saved(lambda step, attempt: True):
            words = _label(saved, last["step"], records) if saved in valid else "abandoned"
            table.add_row(str(saved.step), str(saved.cursor), words)
    console.print(table)


def _label(saved: Saved, last_step: int, records: Sequence[Recovery]) -> str:
    if any(record.target_step == saved.step for record in records):
        return "target of a recovery"
    return "certified" if saved.step <= last_step - CERTIFIED_AFTER else "too young to be sure"


def replay(curve: Path, config: SpikeConfig, every_steps: int) -> None:
    """Prints where the detector would have triggered on a curve, and what it would have done.

    Args:
      curve: CSV with columns step and loss, and perhaps gradient_norm and loss_scale; a line an
        iteration.
      config: what a spike is.
      every_steps: between two checkpoints.

    Raises:
      InputError: the file is no such table.
    """
    history, saved, triggered, last = spikes.History(), [], 0, None
    for last in readings(curve):
        history, _, incident = spikes.judge(history, last, config)
        if incident:
            triggered += 1
            print(recovery_report.seen(incident))
            # As if it were the first: a curve does not tell what would have come after.
            decision = spikes.plan(incident, saved, [], config, train_steps=10**9)
            exhausted = isinstance(decision, spikes.Exhausted)
            words = decision.reason if exhausted else recovery_report.decided(decision)
            print(f"  {words}")
            history = spikes.ignored(history)
        if last.step % every_steps == 0:
            saved.append(Saved(step=last.step, cursor=last.cursor))
    if last is None:
        raise InputError(f"{curve} has no line below its header")
    print(f"{triggered} times in {last.iteration:,} iterations")


def readings(curve: Path) -> Iterator[Reading]:
    """The lines of a CSV curve, as the detector takes them."""
    try:
        text = curve.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{curve} is not UTF-8 text; save it as CSV in UTF-8") from error
    table = csv.DictReader(text.splitlines())
    missing = {"step", "loss"} - set(table.fieldnames or ())
    if missing:
        raise InputError(
            f"{curve} has no column {' and '.join(sorted(missing))}; its columns are "
            f"{', '.join(table.fieldnames or ['none'])}; name them step, loss, gradient_norm, "
            "loss_scale"
        )
    for number, line in enumerate(table, start=1):
        try:
            scale = line.get("loss_scale")
            yield Reading(
                iteration=number,
                step=int(float(line["step"])),
                cursor=number,
                loss=float(line["loss"]),
                gradient_norm=float(line.get("gradient_norm") or 1.0),
                loss_scale=float(scale) if scale else None,
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{curve}, line {number + 1}: {error}") from error


def roll_back(run: RunFolder, step: int, skip: int, lr_factor: float) -> None:
    """Decides a recovery by hand: writes the record that the next `welm train` carries out.

    Raises:
      InputError: the run is training, or there is no such checkpoint.
    """
    with run.locked():
        journal, config = Journal(run.journal), opened_config(run)
        records = journal.records()
        with opened_checkpoints(run, config) as checkpoints:
            saved = checkpoints.saved(functools.partial(spikes.is_valid, journal=records))
        known = {one.step: one for one in (spikes.SEED, *saved)}
        if step not in known:
            raise InputError(
                f"there is no checkpoint of step {step}; there are {', '.join(map(str, known))}"
            )
        record = spikes.manual(known[step], records, skip, lr_factor)
        journal.commit(record)
    print(
        f"recovery {record.id}: {recovery_report.decided(record)} `welm train` goes on from there."
    )


def opened_config(run: RunFolder) -> GinConfig:
    """The configuration of a run that exists."""
    return gin_files.load([os.fspath(run.require().config)], [], TRAINING)


def opened_checkpoints(run: RunFolder, config: GinConfig) -> Checkpoints:
    """Its checkpoints, to be read."""
    identity = runs.identity(config, run_files.read_json(run.mixture))
    return Checkpoints(run.checkpoints, None, identity)
