"""Loss spikes: from the history of losses to an incident.

Pure functions over plain numbers, so that a run, a replay of its curve and a test judge alike. It
does not know where losses come from, nor how a decision follows from an incident (rollback).
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from welm_jax.failures import InputError

# The detector, in iterations and nats; recovery rests on these numbers having been measured, all
# together, in benchmarks/spike_detectors.py.
SETTLING = 200  # from scratch: losses fall too fast to be judged
WINDOW, LEAST_ACCEPTED, REFRESH = 128, 32, 8  # the accepted losses; how often their median is taken
DEVIATIONS = 6 * 1.4826  # six standard deviations, were the noise Gaussian: its MAD x 1.4826
RAISED = 0.5  # of the threshold, three deviations: as high as an outlier's neighbour must be
FREQUENT, OUTLIER_SPAN = ((3, 16), (4, 120)), 120  # lasting outliers in so many iterations
ONSET_SPAN = 48  # trouble began with the first lasting outlier of at least so many iterations
BIG, BIG_RISE, BIG_SPAN = 3, 1.0, 4
RAMP_RISE, RAMP_WINDOW, RAMP_EVERY, RAMP_SPAN = 0.35, 32, 4, 1000
RAMP_ONSET = 0.25 * RAMP_RISE  # where a ramp began: the last median so close to the best
NONFINITE, OVERFLOWS, NONFINITE_SPAN = 3, 8, 16
MINIMUM_SCALE = 1.0
GRACE, IGNORED = 16, 250

MOST_BATCHES = 1600  # skipped by one recovery, however often it was doubled

Rule = Literal["frequent", "big", "ramp", "nonfinite", "scale_floor", "overflow"]
Verdict = Literal["accepted", "outlier", "overflow", "nonfinite"]


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
        of the run's steps; unless given, see rollback.most_skipped.

    Source: WeLM section 3.2.
    """

    action: Literal["recover", "stop", "log"] = "recover"
    outlier_rise: float = 0.3
    rollback_steps: int = 100
    skip_batches: int = 200
    lr_factor: float = 0.8
    max_skipped_fraction: float | None = None

    def __post_init__(self):
        for name, low, high in (
            ("outlier_rise", 0.01, 10),
            ("rollback_steps", 1, 100_000),
            ("skip_batches", 1, MOST_BATCHES),
            ("lr_factor", 0.01, 1),
            ("max_skipped_fraction", 0, 1),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
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
      place: where.
      loss: nats per token, unscaled; may be infinite or nan.
      gradient_norm: unscaled, before clipping; may be infinite or nan.
      loss_scale: the one this iteration used; None where losses are not scaled.
    """

    place: Place
    loss: float
    gradient_norm: float
    loss_scale: float | None


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Something that calls for a recovery.

    Attributes:
      rule: which one; `_rule_met` lists them.
      onset: where the trouble began, which is the anchor of the plan.
      detected: where it was seen.
      loss: the loss then; for outliers the last one's, for a ramp the median of the last 32.
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
      search_left: overflows still expected while the loss scale finds its place; None before the
        first scaled loss, whose scale says how far there is to fall.
      accepted: the last 128 losses that were no outliers; outliers never shift what is normal.
      median: theirs, at most 8 readings old.
      threshold: nats above the median beyond which a loss is an outlier; as old.
      latest: the last 32 finite losses, outliers included, since the losses settled.
      outliers: of 120 iterations, valued by how far they rose above the median.
      lasting: those of them that have a raised neighbour; histories written before there was this
        field have none.
      nonfinite: of 16 iterations.
      overflows: of 16 iterations; valued 1 if they count, 0 if they were part of the search.
      medians: those of `latest`, one in 4 readings, of 1,000 iterations.
    """

    judged: int = 0
    settled_at: int = SETTLING
    grace_until: int = 0
    silent_until: int = 0
    search_left: int | None = None
    accepted: tuple[float, ...] = ()
    median: float = 0.0
    threshold: float = 0.0
    latest: tuple[float, ...] = ()
    outliers: tuple[Mark, ...] = ()
    lasting: tuple[Mark, ...] = ()
    nonfinite: tuple[Mark, ...] = ()
    overflows: tuple[Mark, ...] = ()
    medians: tuple[Mark, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "History":
        """The inverse of dataclasses.asdict, after JSON has made lists of its tuples."""
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        marks = {
            name: tuple(Mark(*mark) for mark in lists.pop(name, ()))
            for name in ("outliers", "lasting", "nonfinite", "overflows", "medians")
        }
        return cls(**{**content, **{name: tuple(one) for name, one in lists.items()}, **marks})


def judge(
    history: History, reading: Reading, config: SpikeConfig
) -> tuple[History, Verdict, Incident | None]:
    """Judges a reading by what came before it, and only then remembers it.

    Losses are compared with the median of the last accepted ones, never with a mean: outliers and
    nonfinite losses enter no window, so that one spike cannot hide the next. A lone outlier is not
    an incident: a heavy batch says nothing about the state, and losses of small batches have heavy
    tails. An outlier counts once it lasted: the loss before it or after it is raised, too. What the
    loss after it shows is known one iteration late.

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
    if history.search_left is None and reading.loss_scale is not None:
        halvings = math.ceil(math.log2(reading.loss_scale / MINIMUM_SCALE))
        history = replace(history, search_left=halvings + 2)
    verdict = _verdict(history, reading)
    history = _remembering(history, reading, verdict)
    incident = _incident(history, reading, verdict)
    return history, verdict, None if history.judged <= history.silent_until else incident


def recovered(history: History) -> History:
    """The history with which a run starts again: lenient, and searching for the loss scale anew."""
    return replace(history, grace_until=history.judged + GRACE, search_left=None)


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
    history = replace(
        history, judged=judged, accepted=accepted, latest=latest, outliers=outliers, medians=medians
    )
    return replace(history, lasting=_lasting(history, reading)) if _is_up(history) else history


def _is_up(history: History) -> bool:
    """Whether the last two losses are raised, which is more than one heavy batch explains."""
    two = history.latest[-2:]
    return len(two) == 2 and min(two) > history.median + RAISED * history.threshold


def _lasting(history: History, reading: Reading) -> tuple[Mark, ...]:
    """The lasting outliers, with those of the last two losses, which are raised."""
    before = _recent(history.lasting, reading, OUTLIER_SPAN)
    newest = [mark for mark in _recent(history.outliers, reading, 2) if mark not in before]
    return (*before, *newest)


def _marked(marks: tuple[Mark, ...], reading: Reading, value: float, span: int) -> tuple[Mark, ...]:
    """The marks of the last `span` iterations, the reading's own included."""
    at = reading.place
    mark = Mark(at.iteration, at.step, at.cursor, value)
    return tuple(old for old in marks if old.iteration > mark.iteration - span) + (mark,)


def _incident(history: History, reading: Reading, verdict: Verdict) -> Incident | None:
    """The incident that the reading, which `history` holds already, completes."""
    rule, onset = _rule_met(history, reading, verdict)
    if rule is None:
        return None
    is_ramp, loss = rule == "ramp", reading.loss
    if is_ramp:
        loss = history.medians[-1].value
    elif verdict == "accepted":  # raised, and so the outlier before it lasted
        loss = history.latest[-2]
    return Incident(
        rule=rule,
        onset=onset.place,
        detected=reading.place,
        loss=loss,
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
    big: the loss is up, and 3 outliers of the last 4 iterations lasted and rose more than 1 nat.
    frequent: the loss is up, and 3 outliers of the last 16 iterations lasted or 4 of the last 120.
    ramp: the median of the last 32 losses is 0.35 above the best in 1,000 iterations.
    """
    if verdict == "nonfinite" and len(history.nonfinite) >= NONFINITE:
        return "nonfinite", history.nonfinite[0]
    if verdict == "overflow" and reading.loss_scale <= MINIMUM_SCALE:
        return "scale_floor", history.overflows[0]
    if verdict == "overflow" and sum(mark.value for mark in history.overflows) >= OVERFLOWS:
        return "overflow", history.overflows[0]
    if verdict in ("nonfinite", "overflow"):
        return None, None
    lasting = history.lasting
    is_up = _is_up(history) and bool(_recent(lasting, reading, 2))
    big = [mark for mark in lasting if mark.value > BIG_RISE]
    if is_up and len(_recent(big, reading, BIG_SPAN)) >= BIG:
        return "big", _recent(lasting, reading, ONSET_SPAN)[0]
    if history.judged <= history.grace_until:
        return None, None
    for count, span in FREQUENT:
        if is_up and len(_recent(lasting, reading, span)) >= count:
            return "frequent", _recent(lasting, reading, max(span, ONSET_SPAN))[0]
    if history.medians and history.medians[-1].iteration == reading.place.iteration:
        best = _best_median(history)
        if history.medians[-1].value > best + RAMP_RISE:
            return "ramp", max(mark for mark in history.medians if mark.value <= best + RAMP_ONSET)
    return None, None


def _recent(marks: Iterable[Mark], reading: Reading, span: int) -> list[Mark]:
    return [mark for mark in marks if mark.iteration > reading.place.iteration - span]


def _best_median(history: History) -> float:
    return min(mark.value for mark in history.medians)
