"""Recoveries in plain words, for the console and the report."""

import math
from collections.abc import Mapping
from typing import Any

from welm_jax.train.lineage import Recovery
from welm_jax.train.spikes import Incident

SEEN = {
    "frequent": "the loss left its usual range again and again",
    "big": "the loss jumped, and not for one step alone",
    "ramp": "the loss had crept up",
    "nonfinite": "the loss was no number, several times in a row",
    "scale_floor": "gradients overflowed float16 even at the smallest loss scale",
    "overflow": "gradients overflowed float16 again and again",
}
VERDICTS = {
    "data": "It was the data: from another state, too, the same batches raise the loss.",
    "state": "It was the state of the model: from another state the same batches do no harm.",
    "not reproducible": "It did not happen again: the same batches from the same state do no harm.",
}


def seen(event: Incident | Recovery) -> str:
    """What the detector saw and when, in plain words; of a recovery that it set off."""
    words = what(event.rule, event.loss, event.median, event.threshold)
    began = f"It began at step {event.onset.step:,}, with batch {event.onset.cursor - 1:,}"
    return f"At step {event.detected.step:,} {words}. {began}."


def what(rule: str, loss: float | None, median: float | None, threshold: float | None) -> str:
    """What a rule saw; with figures only where the loss is what it looked at."""
    words = SEEN.get(rule, rule)
    if rule not in ("frequent", "big", "ramp") or loss is None or not math.isfinite(loss):
        return words
    passes = median + threshold
    return f"{words}: {loss:.3f}, where {median:.3f} was usual and {passes:.3f} would have passed"


def decided(record: Recovery) -> str:
    """What a recovery does, in plain words."""
    back = f"back to step {record.target_step:,}" if record.target_step else "back to the start"
    if record.detected:
        back = f"{record.detected.step - record.target_step:,} steps {back}"
    begin, end = record.skipped
    past = (
        f"past the {end - begin:,} batches {begin:,} to {end - 1:,}" if begin < end else "no skip"
    )
    rate = f"{record.lr_multiplier:.3g} times the scheduled learning rate"
    why = f" {record.degraded[0].upper()}{record.degraded[1:]}." if record.degraded else ""
    return f"{back}; {past}; on with {rate}.{why}"


def answered(why: Mapping[str, Any]) -> str:
    """What feeding the suspect batches again said, in plain words; see `why.Why`."""
    verdict = VERDICTS.get(why["verdict"], why["verdict"])
    return (
        f"{verdict} Over the suspect batches it rose by {why['rise']:.2f} nats "
        f"when it happened, by {why['rise_again']:.2f} in a replay, by {why['rise_elsewhere']:.2f} "
        f"from the checkpoint of step {why['elsewhere_step']:,}."
    )
