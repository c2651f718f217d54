"""What a person does about loss spikes: look, rehearse on a curve, decide by hand.

Uses the functions that training itself uses, so that a rehearsal decides as a run would.
"""

import csv
import functools
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from welm_jax import recovery_words
from welm_jax.failures import InputError
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train import lineage, rollback, spikes
from welm_jax.train.lineage import Saved
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import Place, Reading, SpikeConfig

COLUMNS = ("step", "loss", "gradient_norm", "loss_scale")
SPELLINGS = {"grad_norm": "gradient_norm"}  # what other trainers call a column


def status(run: RunFolder) -> None:
    """Prints where a run stands, what was decided and to which checkpoints it may go back."""
    console = Console(highlight=False)
    records = Journal(run.journal).records()
    lines = run.iterations()
    last = max(lines, key=lambda line: (line.get("attempt", 0), line["cursor"]), default=None)
    if last is None:
        console.print("no step was made yet")
        return
    attempt = last.get("attempt", 0)
    multiplier = lineage.multiplier(records, attempt)
    skipped = lineage.size(lineage.skipped_ranges(records))
    console.print(
        f"attempt {attempt}, step {last['step']}, cursor {last['cursor']}: loss {last['loss']}, "
        f"{last.get('guarded', 0)} updates refused, {skipped} batches skipped, learning rate x "
        f"{multiplier:.3g}",
        soft_wrap=True,
    )
    due = lineage.due(records, attempt)
    for record in records:
        superseded = " (superseded)" if lineage.is_superseded(record, records) else ""
        state = " (not carried out yet)" if record in due else superseded
        words = f"recovery {record.id}{state}: {recovery_words.decided(record)}"
        console.print(words, soft_wrap=True)
    table = Table("checkpoint", "cursor", "what it is")
    parts = RunParts.opened(run, on_first_device=True)
    with parts.checkpoints_of(run) as checkpoints:
        valid = checkpoints.saved(functools.partial(lineage.is_valid, journal=records))
        for saved in checkpoints.saved(lambda step, attempt: True):
            targeted = any(record.target_step == saved.step for record in records)
            words = "target of a recovery" if targeted else "valid"
            words = words if saved in valid else "abandoned"
            table.add_row(str(saved.step), str(saved.cursor), words)
    console.print(table)


def replay(curve: Path, config: SpikeConfig, every_steps: int) -> None:
    """Prints where the detector would have triggered on a curve, and what it would have done.

    Args:
      curve: CSV with columns step and loss, and perhaps gradient_norm (or grad_norm) and
        loss_scale; a line an iteration. An empty field is a number that was not finite, as null in
        metrics.jsonl.
      config: what a spike is.
      every_steps: between two checkpoints.

    Raises:
      InputError: the file is not such a table, or steps are missing all over it.
    """
    history, saved, triggered = spikes.History(), [], 0
    lines = readings(curve)
    _check_steps(curve, [reading.place.step for reading in lines])
    for reading in lines:
        history, _, incident = spikes.judge(history, reading, config)
        if incident:
            triggered += 1
            print(recovery_words.seen(incident))
            # As if it were the first: a curve does not tell what would have come after.
            decision = rollback.plan(incident, saved, [], config, train_steps=10**9)
            exhausted = isinstance(decision, rollback.Exhausted)
            words = decision.reason if exhausted else recovery_words.decided(decision)
            print(f"  {words}")
            history = spikes.ignored(history)
        if reading.place.step % every_steps == 0:
            saved.append(Saved(step=reading.place.step, cursor=reading.place.cursor))
    print(f"{triggered} times in {len(lines):,} iterations")


def readings(curve: Path) -> list[Reading]:
    """The lines of a CSV curve, as the detector takes them; names the columns that it leaves."""
    try:
        text = curve.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{curve} is not UTF-8 text; save it as CSV in UTF-8") from error
    table = csv.DictReader(text.splitlines())
    columns = table.fieldnames or []
    names = _columns(columns)
    missing = {"step", "loss"} - names.keys()
    if missing:
        raise InputError(
            f"{curve} has no column {' and '.join(sorted(missing))}; its columns are "
            f"{', '.join(columns or ['none'])}; name them {', '.join(COLUMNS)}"
        )
    if unused := [column for column in columns if column not in names.values()]:
        print(f"{curve}: not used: {', '.join(unused)}; used: {', '.join(names.values())}")
    found = []
    for number, line in enumerate(table, start=1):
        try:
            if None in line or None in line.values():
                raise ValueError(f"it does not have the header's {len(columns)} fields")
            found.append(_reading(number, {name: line[names[name]] for name in names}))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{curve}, line {number + 1}: {error}") from error
    if not found:
        raise InputError(f"{curve} has no line below its header")
    return found


def _columns(columns: Sequence[str]) -> dict[str, str]:
    """The columns that are used, by our name for them, as the table names them."""
    found = {SPELLINGS.get(column, column): column for column in columns}
    return {name: name if name in columns else found[name] for name in COLUMNS if name in found}


def _reading(number: int, line: dict[str, str]) -> Reading:
    scale = float(line["loss_scale"]) if line.get("loss_scale") else None
    if scale is not None and not 1 <= scale < math.inf:
        raise ValueError(f"loss_scale {scale}; it is 1 or more")
    return Reading(
        place=Place(iteration=number, step=int(float(line["step"])), cursor=number),
        loss=float(line["loss"] or "nan"),
        gradient_norm=float(line.get("gradient_norm", "1") or "nan"),
        loss_scale=scale,
    )


def _check_steps(curve: Path, steps: Sequence[int]) -> None:
    """Prints where steps are missing.

    Raises:
      InputError: they are missing so often that the detector hardly sees a window whole.
    """
    gaps = [(before, after) for before, after in itertools.pairwise(steps) if after > before + 1]
    if len(gaps) * spikes.WINDOW > len(steps):
        [(apart, _)] = Counter(after - before for before, after in gaps).most_common(1)
        raise InputError(
            f"{curve}: {len(gaps):,} of its {len(steps):,} lines come more than one step after the "
            f"line before, mostly {apart:,} steps; the detector judges every step, for a spike "
            "may last a few: give a curve with a line a step"
        )
    if gaps:
        before, after = gaps[0]
        print(
            f"{curve}: steps are missing {len(gaps)} times, the first time between step {before:,} "
            f"and step {after:,}; what follows is judged as if none were"
        )


def roll_back(run: RunFolder, step: int, skip: int, lr_factor: float) -> None:
    """Decides a recovery by hand: writes the record that the next `welm train` carries out.

    Raises:
      InputError: the run is training, or there is no such checkpoint.
    """
    with run.locked():
        journal, parts = Journal(run.journal), RunParts.opened(run, on_first_device=True)
        records = journal.records()
        with parts.checkpoints_of(run) as checkpoints:
            saved = checkpoints.saved(functools.partial(lineage.is_valid, journal=records))
        known = {one.step: one for one in (lineage.SEED, *saved)}
        if step not in known:
            raise InputError(
                f"there is no checkpoint of step {step}; there are {', '.join(map(str, known))}"
            )
        record = rollback.manual(known[step], records, skip, lr_factor)
        journal.commit(record)
    print(
        f"recovery {record.id}: {recovery_words.decided(record)} `welm train` goes on from there."
    )
