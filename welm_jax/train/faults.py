"""Faults planted on purpose, for drills and tests: nothing happens unless a run is armed for it.

Bad data is planted by cursor: the same batches are bad whenever they are fed, and a recovery that
skips them is rid of them. A bad state is planted by step: it comes again after every rollback.
"""

import itertools
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from welm_jax.failures import InputError

RATE_FACTOR = 50.0  # of the learning rate, at a bad state's worst
CRASH_AT = "WELM_CRASH_AT"  # environment: the write boundary, counted from 1, at which to die


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """A fault to plant.

    Attributes:
      kind: a spike (12 in a row), a burst (6 spikes of 3, 20 apart), a ramp that grows over 200,
        or 4 that are not numbers.
      by: bad data, at places of the batch stream (targets drawn at random, or weights that are not
        numbers); or a bad state, at steps (the learning rate times 50, or not a number).
      at: the cursor or step of the first.
    """

    kind: Literal["none", "spike", "burst", "ramp", "nan"] = "none"
    by: Literal["cursor", "step"] = "cursor"
    at: int = 0

    def __post_init__(self):
        if self.at < 0:
            raise InputError(f"FaultConfig.at = {self.at}; it must be 0 or more")

    def severity(self, place: int) -> float:
        """How bad it is at a cursor or step, from 0 to 1."""
        offset = place - self.at
        match self.kind:
            case "spike":
                return float(0 <= offset < 12)
            case "burst":
                return float(0 <= offset < 120 and offset % 20 < 3)
            case "ramp":
                return (offset + 1) / 200 if 0 <= offset < 200 else 0.0
            case "nan":
                return float(0 <= offset < 4)
        return 0.0

    def batch(
        self, cursor: int, batch: Mapping[str, np.ndarray], vocab_size: int
    ) -> Mapping[str, np.ndarray]:
        """The batch at this place of the stream, spoilt if a fault is planted there."""
        severity = self.severity(cursor) if self.by == "cursor" else 0.0
        rows = math.ceil(severity * len(batch["decoder_target_tokens"]))
        if not rows:
            return batch
        if self.kind == "nan":
            weights = np.full_like(batch["decoder_loss_weights"], math.nan)
            return {**batch, "decoder_loss_weights": weights}
        targets = batch["decoder_target_tokens"].copy()
        random = np.random.default_rng(cursor)
        targets[:rows] = random.integers(0, vocab_size, targets[:rows].shape)
        return {**batch, "decoder_target_tokens": targets}

    @property
    def is_by_step(self) -> bool:
        """Whether a step's number must be known for sure before it is made."""
        return self.kind != "none" and self.by == "step"

    def rate(self, step: int) -> float:
        """What the learning rate of this step, counted from 0, is multiplied with."""
        severity = self.severity(step) if self.is_by_step else 0.0
        if severity and self.kind == "nan":
            return math.nan
        return 1.0 + severity * (RATE_FACTOR - 1.0)


_boundaries = itertools.count(1)


def write_boundary(name: str) -> None:
    """Between two writes: where a crash must lose nothing, and tests let one happen.

    Args:
      name: what was written last or comes next; tests look at it.
    """
    if os.environ.get(CRASH_AT) == str(next(_boundaries)):
        print(f"{CRASH_AT}: dying at {name}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
