"""The lineage of a run: which steps, batches and rates the decided recoveries leave it.

Pure functions over the journal's records, so that a start, a report and a test derive the same. It
does not know why a recovery was decided (rollback), nor where its record lies (recovery).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from welm_jax.failures import StopAndLook
from welm_jax.train.spikes import Incident, Place

Ranges = tuple[tuple[int, int], ...]
FROM_SEED = 1000  # steps that a start from the seed may lose
PINNED_STEPS = 1000  # past its target, before a recovery's checkpoints may go


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint to which a run may go back.

    Attributes:
      step: optimizer updates made by then.
      cursor: batches of the stream behind it.
    """

    step: int
    cursor: int


SEED = Saved(step=0, cursor=0)  # the start, which the seed gives again


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A decision, and word for word a record of the journal.

    Attributes:
      id: place in the journal, from 1.
      kind: decided by `rollback.plan`, or by a person.
      rule: of the incident; "manual" for a person's.
      level: 1, and one more each time the same trouble comes again; 0 for a person's.
      onset: None for a person's; so are detected, loss, median and threshold.
      detected: see Incident.
      target_step: of the checkpoint to go back to; there the rate and the loss scale change.
      target_cursor: that checkpoint's.
      skipped: batches never to be fed again, as places [start, end) in the stream.
      lr_multiplier: of the schedule from target_step on: all factors so far, this one included.
      degraded: why the target is not the wanted one; empty if it is.
      loss: see Incident; None also where it was not finite.
      median: see Incident.
      threshold: see Incident.
    """

    id: int
    kind: Literal["automatic", "manual"]
    rule: str
    level: int
    onset: Place | None
    detected: Place | None
    target_step: int
    target_cursor: int
    skipped: tuple[int, int]
    lr_multiplier: float
    degraded: str
    loss: float | None
    median: float | None
    threshold: float | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Recovery":
        """The inverse of dataclasses.asdict, after JSON; what else is in there is left out."""
        values = {field.name: content[field.name] for field in fields(cls)}
        for name in ("onset", "detected"):
            values[name] = values[name] and Place(**values[name])
        return cls(**{**values, "skipped": tuple(values["skipped"])})


def merged(ranges: Iterable[Sequence[int]]) -> Ranges:
    """The union of half-open ranges as disjoint ones in order, none empty and none adjacent."""
    union: list[tuple[int, int]] = []
    for start, end in sorted((start, end) for start, end in ranges if start < end):
        if union and start <= union[-1][1]:
            start, end = union[-1][0], max(end, union.pop()[1])
        union.append((start, end))
    return tuple(union)


def advance(cursor: int, count: int, skipped: Iterable[Sequence[int]]) -> int:
    """The place of the next batch to feed, after feeding `count` batches from `cursor` on.

    Args:
      cursor: any place, skipped or not.
      count: 0 or more batches; skipped ones are not fed and do not count.
      skipped: half-open ranges of places.
    """
    place = cursor + count
    for start, end in merged(skipped):
        if start <= place and end > cursor:
            place += end - max(start, cursor)
    return place


def skipped_ranges(journal: Iterable[Recovery]) -> Ranges:
    """All that is skipped; superseded decisions count, for their batches were in trouble too."""
    return merged(record.skipped for record in journal)


def size(ranges: Iterable[Sequence[int]]) -> int:
    """How many batches lie in ranges that do not overlap."""
    return sum(end - start for start, end in ranges)


def suspects(event: Incident | Recovery, journal: Iterable[Recovery]) -> list[int]:
    """The places of the batches fed from the onset to the detection.

    Args:
      event: with an onset.
      journal: the decisions before it; what they skip was not fed.
    """
    skipped = skipped_ranges(journal)
    places = range(event.onset.cursor - 1, event.detected.cursor)  # the last fed is before a cursor
    return [at for at in places if not any(start <= at < end for start, end in skipped)]


def is_superseded(record: Recovery, journal: Iterable[Recovery]) -> bool:
    """Whether a later decision goes back as far or further, so that this one is never reached."""
    return any(
        other.id > record.id and other.target_step <= record.target_step for other in journal
    )


def applicable(journal: Sequence[Recovery]) -> tuple[Recovery, ...]:
    """The decisions that a run from the start would carry out, in order of id and of target."""
    return tuple(record for record in journal if not is_superseded(record, journal))


def due(journal: Sequence[Recovery], attempt: int) -> list[Recovery]:
    """The decisions that a lineage will carry out, the next one first.

    Args:
      journal: all decisions.
      attempt: highest id that the lineage has applied.
    """
    return [record for record in applicable(journal) if record.id > attempt]


def is_valid(step: int, attempt: int, journal: Iterable[Recovery]) -> bool:
    """Whether a checkpoint belongs to the lineage that the journal describes.

    It does if it has applied every decision whose target lies before it; so one record, once
    written, invalidates all that it abandons.

    Args:
      step: the checkpoint's.
      attempt: highest id that its lineage had applied.
      journal: all decisions.
    """
    return all(record.id <= attempt for record in journal if record.target_step < step)


def multiplier(journal: Sequence[Recovery], attempt: int) -> float:
    """What the learning rate is multiplied with in a lineage; 1 if it has applied no decision.

    Raises:
      StopAndLook: the journal has lost the lineage's last decision.
    """
    if attempt > len(journal):
        raise StopAndLook(
            f"recovery {attempt} was applied, but the journal ends with {len(journal)}; bring "
            "back the missing records"
        )
    return journal[attempt - 1].lr_multiplier if attempt else 1.0


def pinned(steps: Sequence[int], records: Sequence[Recovery]) -> set[int]:
    """The checkpoints that must stay whatever their age.

    Those are the last recovery's target and the two before it, until the run is well past it:
    should the spike come again, the next recovery goes back further.

    Args:
      steps: of all checkpoints.
      records: the journal.
    """
    if not records or not steps or max(steps) > records[-1].target_step + PINNED_STEPS:
        return set()
    return set(sorted(step for step in steps if step <= records[-1].target_step)[-3:])
