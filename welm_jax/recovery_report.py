"""What a run's report tells of loss spikes: which steps counted, and what was done about the rest.

Owns the figures; report.html.j2 owns the markup. Reads what training wrote and decides nothing
anew. Of training it knows the journal and its lineage, which need no jax.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from welm_jax import recovery_words, run_files
from welm_jax.run_files import RunFolder
from welm_jax.train.lineage import (
    Recovery,
    due,
    is_superseded,
    is_valid,
    size,
    skipped_ranges,
    suspects,
)
from welm_jax.train.recovery import Journal

Logged = Mapping[str, Any]  # a line of metrics.jsonl

REFUSED = ("overflow", "nonfinite")  # verdicts on updates that were not made
SHOWN_BATCHES, SHOWN_DOCUMENTS = 12, 2
REPETITIVE = 32  # repetitions from which on OLMo-core drops a sequence


def kept_and_discarded(
    lines: Iterable[Logged], journal: Sequence[Recovery]
) -> tuple[list[Logged], list[list[Logged]]]:
    """Tells the steps that led to the newest model from those that a rollback discarded.

    Of a step made twice in an attempt, after a crash, the later line counts. A refused update is
    no step. Lines written before there were recoveries have no attempt, and count.

    Args:
      lines: of metrics.jsonl, in any order of attempts.
      journal: its records.

    Returns:
      The steps that count, ascending; and the discarded ones of each attempt that lost some, each
      branch led by the step from which it grew, if that was logged.
    """
    made = {
        (line.get("attempt", 0), line["step"]): line
        for line in lines
        if line.get("verdict") not in REFUSED
    }
    kept: dict[int, Logged] = {}
    discarded: dict[int, list[Logged]] = {}
    for (attempt, step), line in sorted(made.items(), key=lambda item: item[0]):
        if is_valid(step, attempt, journal):
            kept[step] = line
        else:
            discarded.setdefault(attempt, []).append(line)
    for attempt, branch in discarded.items():
        stem = branch[0]["step"] - 1
        grew_from = [made[one, stem] for one in range(attempt, -1, -1) if (one, stem) in made]
        branch[:0] = grew_from[:1]
    return [kept[step] for step in sorted(kept)], list(discarded.values())


def told(run: RunFolder) -> list[str]:
    """What befell a run, in plain words, and where it stands."""
    journal = Journal(run.journal).records()
    steps, _ = kept_and_discarded(run.iterations(), journal)
    words = [words for record in journal for words in _story(run, record)]
    last = steps[-1]
    return [
        *(words or ["No loss spike was noticed."]),
        f"Training then stood at step {last['step']:,}, with a loss of {last['loss']:.3f}.",
    ]


def content(
    run: RunFolder, lines: Sequence[Logged], kept: int, journal: Sequence[Recovery]
) -> dict[str, Any]:
    """What the template shows of recoveries, by the names it uses.

    Args:
      run: the folder.
      lines: of metrics.jsonl.
      kept: steps that count, of `kept_and_discarded`.
      journal: its records.
    """
    made = {(line.get("attempt", 0), line["cursor"]): line.get("verdict") for line in lines}
    verdicts = Counter(made.values())
    refused = {verdict: verdicts[verdict] for verdict in REFUSED}
    steps = len(made) - sum(refused.values())
    attempt = max((attempt for attempt, _ in made), default=0)
    due_now = {record.id for record in due(journal, attempt)}
    return {
        "made": steps,
        "discarded": steps - kept,
        "skipped": size(skipped_ranges(journal)),
        "refused": refused,
        "repetitive": REPETITIVE,
        "stopped": _stopped(run, lines[-1] if lines else {}, bool(due_now)),
        "recoveries": [
            {
                "id": record.id,
                "superseded": is_superseded(record, journal),
                "due": record.id in due_now,
                "story": list(_story(run, record)),
                "batches": _batches(run, record, lines, journal),
            }
            for record in journal
        ],
    }


def _stopped(run: RunFolder, last: Logged, decided: bool) -> dict[str, Any] | None:
    """Why a person was called, and whether the run still waits for one."""
    file = run.incident
    if not file.exists():
        return None
    incident = run_files.read_json(file)
    detected = incident["detected"]
    # One iteration more was in flight when it was seen.
    gone_on = bool(last) and last["cursor"] > detected["cursor"] + 1
    return {
        "waits": not gone_on and not decided,
        "step": detected["step"],
        "seen": recovery_words.what(
            incident["rule"], incident["loss"], incident["median"], incident["threshold"]
        ),
        "reason": incident["stopped"],
    }


def _story(run: RunFolder, record: Recovery) -> Iterator[str]:
    """A recovery: what was seen, what was decided, and why, if that was asked."""
    yield recovery_words.seen(record) if record.onset else "A person decided this one."
    if record.level > 1:
        yield f"The same trouble again (level {record.level}): further back, and more skipped."
    yield f"Decision: {recovery_words.decided(record)}"
    answer = run.answer_of(record.id)
    if answer.exists():
        yield recovery_words.answered(run_files.read_json(answer))


def _batches(
    run: RunFolder, record: Recovery, lines: Sequence[Logged], journal: Sequence[Recovery]
) -> dict[str, Any] | None:
    """The first suspect batches: what each was made of, and its loss when it was fed."""
    file = run.suspects_of(record.id)
    if not (file.exists() and record.onset and record.detected):
        return None
    # The batch at place k left the cursor at k + 1. It was fed last when it became suspect, for
    # from then on it is skipped.
    losses = {line["cursor"] - 1: line["loss"] for line in lines}
    shown = [
        _batch(cursor, list(rows), losses.get(cursor))
        for cursor, rows in groupby(run_files.read_json(file), key=lambda row: row["cursor"])
    ][:SHOWN_BATCHES]
    return {
        "rows": shown,
        "all": len(suspects(record, journal[: record.id - 1])),
        "file": f"{file.parent.name}/{file.name}",
    }


def _batch(cursor: int, rows: Sequence[Mapping[str, Any]], loss: float | None) -> dict[str, Any]:
    sources = Counter(row["source"] for row in rows)
    documents = list(dict.fromkeys(name for row in rows for name in row["documents"]))
    most = max(rows, key=lambda row: row["repetition"])
    return {
        "cursor": cursor,
        "loss": "" if loss is None else f"{loss:.3f}",
        "sources": ", ".join(f"{name} {count}" for name, count in sources.most_common()),
        "documents": len(documents),
        "names": documents[:SHOWN_DOCUMENTS],
        "repetition": most["repetition"],
        "period": most["period"],
        "repetitive": most["repetition"] >= REPETITIVE,
    }
