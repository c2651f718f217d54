"""Loss spikes: from the history of losses to an incident, from an incident to a plan.

Pure functions over plain numbers, so that a run, a replay of its curve and a test decide alike. It
does not know where losses come from, how a checkpoint is read, or who writes the journal.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

from welm_jax.failures import InputError, StopAndLook

# The detector, in iterations and nats; recovery rests on these numbers having been measured, all
# together, in benchmarks/spike_detectors.py.
SETTLING = 200  # from scratch: losses fall too fast to be judged
WINDOW, LEAST_ACCEPTED, REFRESH = 128, 32, 8  # the accepted losses; how often their median is taken
DEVIATIONS = 6 * 1.4826  # six standard deviations, were the noise Gaussian: its MAD x 1.4826
FREQUENT, OUTLIER_SPAN = ((3, 16), (4, 120)), 120  # outliers in so many iterations
ONSET_SPAN = 48  # trouble began with the first outlier of at least so many iterations
BIG, BIG_RISE, BIG_SPAN = 2, 1.0, 4
RAMP_RISE, RAMP_WINDOW, RAMP_EVERY, RAMP_SPAN = 0.35, 32, 4, 1000
RAMP_ONSET = 0.25 * RAMP_RISE  # where a ramp began: the last median so close to the best
NONFINITE, OVERFLOWS, NONFINITE_SPAN = 3, 8, 16
MINIMUM_SCALE = 1.0
SEARCH = 18  # overflows while the loss scale is searched for: log2(2^16 / 1) + 2
GRACE, IGNORED = 16, 250

# The plan.
REPEAT = 3  # an onset within so many rollbacks of the last target is the same trouble again
MOST_BATCHES = 1600  # skipped by one recovery, however often it was doubled
LEAST_MULTIPLIER = 0.1
FROM_SEED = 1000  # steps that may be lost to a start from the seed
MOST_NEARBY, NEARBY, MOST_RECOVERIES = 3, 1000, 10

Rule = Literal["frequent", "big", "ramp", "nonfinite", "scale_floor", "overflow"]
Verdict = Literal["accepted", "outlier", "overflow", "nonfinite"]
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """What counts as a spike and what is done about it.

    Attributes:
      action: roll back and go on; stop with what a person needs; or only say so.
      outlier_rise: nats above the median that a loss must rise to count, however calm the curve.
      rollback_steps: steps before the spike's onset from which to start again (the paper's 100).
      skip_batches: batches skipped from there on (the paper's 200).
      lr_factor: what the learning rate is multiplied with from there on; the paper names none.
      max_skipped_fraction: batches that may be skipped in all before a person looks, as a share
        of the run's steps.

    Source: WeLM section 3.2.
    """

    action: Literal["recover", "stop", "log"] = "recover"
    outlier_rise: float = 0.3
    rollback_steps: int = 100
    skip_batches: int = 200
    lr_factor: float = 0.8
    max_skipped_fraction: float = 0.02

    def __post_init__(self):
        if self.action not in ("recover", "stop", "log"):
            raise InputError(f"SpikeConfig.action = {self.action}; it is recover, stop or log")
        for name, low, high in (
            ("outlier_rise", 0.01, 10),
            ("rollback_steps", 1, 100_000),
            ("skip_batches", 1, MOST_BATCHES),
            ("lr_factor", 0.01, 1),
            ("max_skipped_fraction", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(
                    f"SpikeConfig.{name} = {value}; it must lie between {low} and {high}"
                )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run stood after an iteration.

    Attributes:
      iteration: train-step calls of this lineage.
      step: optimizer updates made.
      cursor: batches of the stream behind us; the last one fed has place cursor - 1.
    """

    iteration: int
    step: int
    cursor: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one iteration gave, and where the run stood after it.

    Attributes:
      iteration: see Place; so are step and cursor.
      loss: nats per token, unscaled; may be infinite or nan.
      gradient_norm: unscaled, before clipping; may be infinite or nan.
      loss_scale: the one this iteration used; None where losses are not scaled.
    """

    iteration: int
    step: int
    cursor: int
    loss: float
    gradient_norm: float
    loss_scale: float | None

    @property
    def place(self) -> Place:
        """Where the run stood after it."""
        return Place(iteration=self.iteration, step=self.step, cursor=self.cursor)


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Something that calls for a recovery.

    Attributes:
      rule: which one; `_rule_met` lists them.
      onset: where the trouble began, which is the anchor of the plan.
      detected: where it was seen.
      loss: the loss then; for a ramp the median of the last 32.
      median: what it is held against: the running median; for a ramp the best in 1,000 iterations.
      threshold: nats above that median that were allowed.
    """

    rule: Rule
    onset: Place
    detected: Place
    loss: float
    median: float
    threshold: float


class Mark(NamedTuple):
    """A number that the detector keeps, and the place it belongs to."""

    iteration: int
    step: int
    cursor: int
    value: float

    @property
    def place(self) -> Place:
        """The place alone."""
        return Place(iteration=self.iteration, step=self.step, cursor=self.cursor)


@dataclass(frozen=True, kw_only=True)
class History:
    """The detector's whole memory; `History()` is that of a run before its first iteration.

    Nothing but numbers, so that it survives JSON exactly.

    Attributes:
      judged: readings so far; the three limits below count in these.
      settled_at: until then all that is finite is accepted.
      grace_until: until then only what is big, nonfinite or about the loss scale is an incident.
      silent_until: until then nothing is an incident.
      search_left: overflows still expected while the loss scale finds its place.
      accepted: the last 128 losses that were no outliers; outliers never shift what is normal.
      median: theirs, at most 8 readings old.
      threshold: nats above the median beyond which a loss is an outlier; as old.
      latest: the last 32 finite losses, outliers included, since the losses settled.
      outliers: of 120 iterations, valued by how far they rose above the median.
      nonfinite: of 16 iterations.
      overflows: of 16 iterations; valued 1 if they count, 0 if they were part of the search.
      medians: those of `latest`, one in 4 readings, of 1,000 iterations.
    """

    judged: int = 0
    settled_at: int = SETTLING
    grace_until: int = 0
    silent_until: int = 0
    search_left: int = SEARCH
    accepted: tuple[float, ...] = ()
    median: float = 0.0
    threshold: float = 0.0
    latest: tuple[float, ...] = ()
    outliers: tuple[Mark, ...] = ()
    nonfinite: tuple[Mark, ...] = ()
    overflows: tuple[Mark, ...] = ()
    medians: tuple[Mark, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "History":
        """The inverse of dataclasses.asdict, after JSON has made lists of its tuples."""
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        marks = {
            name: tuple(Mark(*mark) for mark in lists.pop(name))
            for name in ("outliers", "nonfinite", "overflows", "medians")
        }
        return cls(**{**content, **{name: tuple(one) for name, one in lists.items()}, **marks})


def judge(
    history: History, reading: Reading, config: SpikeConfig
) -> tuple[History, Verdict, Incident | None]:
    """Judges a reading by what came before it, and only then remembers it.

    Losses are compared with the median of the last accepted ones, never with a mean: outliers and
    nonfinite losses enter no window, so that one spike cannot hide the next. A lone outlier is no
    incident: such spikes heal themselves.

    Args:
      history: what is remembered of the readings before.
      reading: the next one, in order; each iteration is judged once.
      config: of it only outlier_rise counts here.

    Returns:
      The new history; what the reading was; and the incident it completes, if it does.

    Source: WeLM section 3.2 ("suddenly increase", harmful "when happening frequently"); every
    threshold is ours.
    """
    if history.judged % REFRESH == 0 and history.accepted:
        middle = statistics.median(history.accepted)
        spread = statistics.median(abs(loss - middle) for loss in history.accepted)
        allowed = max(DEVIATIONS * spread, config.outlier_rise)
        history = replace(history, median=middle, threshold=allowed)
    verdict = _verdict(history, reading)
    history = _remembering(history, reading, verdict)
    incident = _incident(history, reading, verdict)
    return history, verdict, None if history.judged <= history.silent_until else incident


def recovered(history: History) -> History:
    """The history with which a run starts again: lenient, and searching for the loss scale anew."""
    return replace(history, grace_until=history.judged + GRACE, search_left=SEARCH)


def ignored(history: History) -> History:
    """The history after an incident about which nothing was done: silent, then as if from there.

    Without this a loss that stays where it jumped to would be an incident at every iteration.
    """
    until = history.judged + IGNORED
    return replace(history, settled_at=until, silent_until=until, latest=(), medians=())


def _verdict(history: History, reading: Reading) -> Verdict:
    if not math.isfinite(reading.loss):
        return "nonfinite"
    if not math.isfinite(reading.gradient_norm):
        return "nonfinite" if reading.loss_scale is None else "overflow"
    settled = history.judged >= history.settled_at and len(history.accepted) >= LEAST_ACCEPTED
    return (
        "outlier" if settled and reading.loss - history.median > history.threshold else "accepted"
    )


def _remembering(history: History, reading: Reading, verdict: Verdict) -> History:
    judged = history.judged + 1
    if verdict == "nonfinite":
        nonfinite = _marked(history.nonfinite, reading, 0.0, NONFINITE_SPAN)
        return replace(history, judged=judged, nonfinite=nonfinite)
    if verdict == "overflow":
        counts = float(history.search_left == 0)
        overflows = _marked(history.overflows, reading, counts, NONFINITE_SPAN)
        left = max(0, history.search_left - 1)
        return replace(history, judged=judged, overflows=overflows, search_left=left)
    accepted, latest = history.accepted, history.latest
    outliers, medians = history.outliers, history.medians
    if verdict == "accepted":
        accepted = (*accepted, reading.loss)[-WINDOW:]
    else:
        outliers = _marked(outliers, reading, reading.loss - history.median, OUTLIER_SPAN)
    if judged > history.settled_at:
        latest = (*latest, reading.loss)[-RAMP_WINDOW:]
        if judged % RAMP_EVERY == 0 and len(latest) == RAMP_WINDOW:
            medians = _marked(medians, reading, statistics.median(latest), RAMP_SPAN)
    return replace(
        history, judged=judged, accepted=accepted, latest=latest, outliers=outliers, medians=medians
    )


def _marked(marks: tuple[Mark, ...], reading: Reading, value: float, span: int) -> tuple[Mark, ...]:
    """The marks of the last `span` iterations, the reading's own included."""
    mark = Mark(reading.iteration, reading.step, reading.cursor, value)
    return tuple(old for old in marks if old.iteration > mark.iteration - span) + (mark,)


def _incident(history: History, reading: Reading, verdict: Verdict) -> Incident | None:
    """The incident that the reading, which `history` holds already, completes."""
    rule, onset = _rule_met(history, reading, verdict)
    if rule is None:
        return None
    is_ramp = rule == "ramp"
    return Incident(
        rule=rule,
        onset=onset.place,
        detected=reading.place,
        loss=history.medians[-1].value if is_ramp else reading.loss,
        median=_best_median(history) if is_ramp else history.median,
        threshold=RAMP_RISE if is_ramp else history.threshold,
    )


def _rule_met(
    history: History, reading: Reading, verdict: Verdict
) -> tuple[Rule, Mark] | tuple[None, None]:
    """The rule that is met, and where what it is about began.

    nonfinite: 3 nonfinite losses in 16 iterations (without loss scaling also gradient norms).
    scale_floor: gradients overflow though the loss scale is at its minimum.
    overflow: 8 overflows in 16 iterations that no search for the loss scale explains.
    big: 2 outliers of more than 1 nat in 4 iterations.
    frequent: an outlier, and 3 in the last 16 iterations or 4 in the last 120.
    ramp: the median of the last 32 losses is 0.35 above the best in 1,000 iterations.
    """
    if verdict == "nonfinite" and len(history.nonfinite) >= NONFINITE:
        return "nonfinite", history.nonfinite[0]
    if verdict == "overflow" and reading.loss_scale <= MINIMUM_SCALE:
        return "scale_floor", history.overflows[0]
    if verdict == "overflow" and sum(mark.value for mark in history.overflows) >= OVERFLOWS:
        return "overflow", history.overflows[0]
    if verdict == "outlier":
        big = [mark for mark in history.outliers if mark.value > BIG_RISE]
        if len(_recent(big, reading, BIG_SPAN)) >= BIG:
            return "big", _recent(history.outliers, reading, ONSET_SPAN)[0]
    if history.judged <= history.grace_until:
        return None, None
    if verdict == "outlier":
        for count, span in FREQUENT:
            if len(_recent(history.outliers, reading, span)) >= count:
                return "frequent", _recent(history.outliers, reading, max(span, ONSET_SPAN))[0]
    if history.medians and history.medians[-1].iteration == reading.iteration:
        best = _best_median(history)
        if history.medians[-1].value > best + RAMP_RISE:
            return "ramp", max(mark for mark in history.medians if mark.value <= best + RAMP_ONSET)
    return None, None


def _recent(marks: Iterable[Mark], reading: Reading, span: int) -> list[Mark]:
    return [mark for mark in marks if mark.iteration > reading.iteration - span]


def _best_median(history: History) -> float:
    return min(mark.value for mark in history.medians)


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
      kind: decided by `plan`, or by a person.
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


@dataclass(frozen=True, kw_only=True)
class Exhausted:
    """No recovery is left to try; a person has to look.

    Attributes:
      reason: one line with the figures.
    """

    reason: str


def plan(
    incident: Incident,
    saved: Sequence[Saved],
    journal: Sequence[Recovery],
    config: SpikeConfig,
    train_steps: int,
) -> Recovery | Exhausted:
    """Decides where to go back to, what to skip and how far to lower the rate.

    The same trouble again means going back further, strictly below the last target, and skipping
    twice as much. What is skipped always covers the batches from the target to the detection, and
    `rollback_steps` more than those up to the onset.

    Args:
      incident: what happened.
      saved: checkpoints that are readable and valid; see `is_valid`.
      journal: all decisions so far, in order of id.
      config: how far to go back, and so on.
      train_steps: of the whole run.

    Returns:
      The decision, or why none is left: recoveries too close together, too many, too many
      batches skipped, or no checkpoint before the onset.

    Source: WeLM section 3.2 gives the rollback and the skip; levels, bounds and factor are ours.
    """
    onset, previous = incident.onset, journal[-1] if journal else None
    level = 1
    if previous and onset.step - previous.target_step < REPEAT * config.rollback_steps:
        level = previous.level + 1
    below = previous.target_step if previous and level > 1 else math.inf
    target, degraded = _target(saved, onset.step, level * config.rollback_steps, below)
    if target is None:
        return Exhausted(reason=degraded)
    ranges = skipped_ranges(journal)
    start = advance(target.cursor, 0, ranges)
    batches = min(config.skip_batches * 2 ** (level - 1), MOST_BATCHES)
    end = max(
        advance(start, batches, ranges),
        onset.cursor + config.rollback_steps,
        incident.detected.cursor,
    )
    recovery = Recovery(
        id=len(journal) + 1,
        kind="automatic",
        rule=incident.rule,
        level=level,
        onset=onset,
        detected=incident.detected,
        target_step=target.step,
        target_cursor=target.cursor,
        skipped=(start, end),
        lr_multiplier=_lowered(journal, config.lr_factor),
        degraded=degraded,
        loss=incident.loss if math.isfinite(incident.loss) else None,
        median=incident.median,
        threshold=incident.threshold,
    )
    return _exhausted(recovery, journal, config, train_steps) or recovery


def manual(saved: Saved, journal: Sequence[Recovery], skip: int, lr_factor: float) -> Recovery:
    """The decision of a person: any checkpoint, any number of batches, any factor.

    Args:
      saved: where to go back to.
      journal: all decisions so far, in order of id.
      skip: batches, of those not skipped already.
      lr_factor: what the rate in force, that of the newest record, is multiplied with.

    Raises:
      InputError: a negative skip, or a factor of 0 or less.
    """
    if skip < 0:
        raise InputError(f"{skip} batches cannot be skipped; give 0 or more")
    if not 0 < lr_factor < math.inf:
        raise InputError(f"the learning rate cannot be multiplied with {lr_factor}; give e.g. 0.8")
    ranges = skipped_ranges(journal)
    start = advance(saved.cursor, 0, ranges)
    return Recovery(
        id=len(journal) + 1,
        kind="manual",
        rule="manual",
        level=0,
        onset=None,
        detected=None,
        target_step=saved.step,
        target_cursor=saved.cursor,
        skipped=(start, advance(start, skip, ranges)),
        lr_multiplier=lr_factor * (journal[-1].lr_multiplier if journal else 1.0),
        degraded="",
        loss=None,
        median=None,
        threshold=None,
    )


def _target(
    saved: Sequence[Saved], onset_step: int, distance: int, below: int | float
) -> tuple[Saved | None, str]:
    """The checkpoint to go back to, and in words why it is not the wanted one."""
    earlier = sorted((s for s in saved if s.step < onset_step), key=lambda s: s.step)
    lower = [s for s in earlier if s.step < below]
    wanted = [s for s in lower if s.step <= onset_step - distance]
    if wanted:
        return wanted[-1], ""
    lacking = f"no checkpoint lies {distance} steps before step {onset_step}"
    if below < math.inf:
        lacking += f" and below step {below}, the last target"
    if lower:
        return lower[0], f"{lacking}: back to step {lower[0].step}, the oldest there is"
    if onset_step <= FROM_SEED:
        return SEED, f"{lacking}: back to the start, from the seed"
    if earlier:
        return earlier[0], f"{lacking}: back to step {earlier[0].step}, the oldest there is"
    return None, (
        f"no checkpoint lies before step {onset_step}, where the trouble began, and a start from "
        f"the seed would lose more than {FROM_SEED:,} steps"
    )


def _lowered(journal: Sequence[Recovery], factor: float) -> float:
    # Also what is superseded counts: the lineage in trouble had it in force, or was on its way.
    before = journal[-1].lr_multiplier if journal else 1.0
    return min(before, max(LEAST_MULTIPLIER, factor * before))  # a person may have gone below


def _exhausted(
    recovery: Recovery, journal: Sequence[Recovery], config: SpikeConfig, train_steps: int
) -> Exhausted | None:
    """Says why one more recovery would be one too many, if it would."""
    # A person who rolled back has looked, so that the count starts anew.
    since = list(itertools.takewhile(lambda record: record.kind == "automatic", reversed(journal)))
    # Not a distance: a run that falls back ever further has left nothing behind, however far
    # ahead its first trouble was.
    passed = recovery.detected.step - NEARBY
    steps = [record.detected.step for record in reversed(since) if record.detected.step > passed]
    if len(steps) >= MOST_NEARBY:
        told = ", ".join(map(str, [*steps, recovery.detected.step]))
        return Exhausted(
            reason=f"{len(steps) + 1} incidents without {NEARBY:,} steps of progress between them "
            f"(at steps {told}), and only {MOST_NEARBY} are recovered from: going back does not "
            "help"
        )
    if len(since) >= MOST_RECOVERIES:
        return Exhausted(
            reason=f"{len(since)} recoveries were made, the last at step "
            f"{since[0].detected.step}, and no more than {MOST_RECOVERIES} are without a person"
        )
    ranges = merged([*skipped_ranges(journal), recovery.skipped])
    batches = sum(end - start for start, end in ranges)
    if batches > config.max_skipped_fraction * train_steps:
        return Exhausted(
            reason=f"{batches:,} batches would be skipped in all, {batches / train_steps:.1%} of "
            f"the run's {train_steps:,} steps; SpikeConfig.max_skipped_fraction allows "
            f"{config.max_skipped_fraction:.1%}"
        )
    return None


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


def is_superseded(record: Recovery, journal: Iterable[Recovery]) -> bool:
    """Whether a later decision goes back as far or further, so that this one is never reached."""
    return any(
        other.id > record.id and other.target_step <= record.target_step for other in journal
    )


def applicable(journal: Sequence[Recovery]) -> tuple[Recovery, ...]:
    """The decisions that a run from the start would carry out, in order of id and of target."""
    return tuple(record for record in journal if not is_superseded(record, journal))


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
