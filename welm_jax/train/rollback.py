"""From an incident to a decision: where to go back to, what to skip, how far to lower the rate.

Pure functions. They do not know how a checkpoint is read, nor who writes the journal.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from welm_jax.failures import InputError
from welm_jax.train import lineage
from welm_jax.train.lineage import FROM_SEED, SEED, Recovery, Saved
from welm_jax.train.spikes import MOST_BATCHES, Incident, SpikeConfig

REPEAT = 3  # an onset within so many rollbacks of the last target is the same trouble again
LEAST_MULTIPLIER = 0.1
MOST_NEARBY, NEARBY, MOST_RECOVERIES = 3, 1000, 10
MOST_SKIPPED_FRACTION = 0.02  # of a long run's steps


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
      saved: checkpoints that are readable and valid; see `lineage.is_valid`.
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
    ranges = lineage.skipped_ranges(journal)
    start = lineage.advance(target.cursor, 0, ranges)
    batches = min(config.skip_batches * 2 ** (level - 1), MOST_BATCHES)
    end = max(
        lineage.advance(start, batches, ranges),
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


def most_skipped(config: SpikeConfig, train_steps: int) -> tuple[int, str]:
    """Batches that may be skipped in all before a person looks, and in words why so many.

    A short run may skip as many as two recoveries may: as configured, twice as many should it be
    the same trouble again, and as much again for what lies between a checkpoint and an onset, and
    between that and its detection.
    """
    fraction = config.max_skipped_fraction
    if fraction is not None:
        words = f"SpikeConfig.max_skipped_fraction = {fraction:g} of {train_steps:,} steps"
        return int(fraction * train_steps), words
    share = int(MOST_SKIPPED_FRACTION * train_steps)
    of_two = 5 * max(config.skip_batches, 2 * config.rollback_steps)
    if share >= of_two:
        return share, f"{MOST_SKIPPED_FRACTION:.0%} of {train_steps:,} steps"
    words = f"two recoveries, for {MOST_SKIPPED_FRACTION:.0%} of {train_steps:,} steps are fewer"
    return of_two, words


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
    ranges = lineage.skipped_ranges(journal)
    start = lineage.advance(saved.cursor, 0, ranges)
    return Recovery(
        id=len(journal) + 1,
        kind="manual",
        rule="manual",
        level=0,
        onset=None,
        detected=None,
        target_step=saved.step,
        target_cursor=saved.cursor,
        skipped=(start, lineage.advance(start, skip, ranges)),
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
    ranges = lineage.merged([*lineage.skipped_ranges(journal), recovery.skipped])
    batches = lineage.size(ranges)
    most, words = most_skipped(config, train_steps)
    if batches > most:
        return Exhausted(
            reason=f"{batches:,} batches would be skipped in all, and no more than {most:,} are "
            f"without a person ({words}); SpikeConfig.max_skipped_fraction sets how many may be"
        )
    return None
