"""Synthetic loss curves with planted trouble, for spike detectors to be tried on.

Suite A is a pretraining from 11 to 2.2 nats with trouble (spikes, bursts, ramps) and harmless
events (one-step blips, shifts of the data mixture) under two levels of noise. Suite B is a late
stretch, 2.5 to 2.2 nats, with one event and four kinds of noise. Everything follows from the seed.
"""

from dataclasses import dataclass

import numpy as np

RUNS, STEPS = 12, 4000
CLEAN_RUNS, CLEAN_STEPS = 20, 10_000
NOISE_LEVELS = (0.012, 0.05)  # sd in nats, every other run
TROUBLE = ("spike",) * 16 + ("burst",) * 12 + ("ramp",) * 8  # three a run
NOISES = ("gauss", "student", "autoregressive", "bimodal")
LATE_RUNS, LATE_STEPS, EVENT_AT = 10, 1000, 600


@dataclass(frozen=True, kw_only=True)
class Event:
    """Planted trouble, in iterations from 0: from `start` until the loss is back before `end`."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Losses in nats, one an iteration, and the trouble in them; what is harmless is not listed."""

    losses: np.ndarray
    trouble: tuple[Event, ...]


def autoregressive(rng: np.random.Generator, count: int, memory: float, sd: float) -> np.ndarray:
    """A first-order process of this memory and stationary standard deviation."""
    values = rng.normal(0, sd, count)
    for at in range(1, count):
        values[at] = memory * values[at - 1] + np.sqrt(1 - memory**2) * values[at]
    return values


def pretraining(rng: np.random.Generator, count: int, sd: float) -> np.ndarray:
    """A clean curve: a hyperbola, noise, slow drift, and 1 % of batches that are harder."""
    iteration = np.arange(count)
    harder = (rng.random(count) < 0.01) * rng.exponential(3 * sd, count)
    drift = autoregressive(rng, count, 0.99, sd / 2)
    return 2.2 + 8.8 / (1 + iteration / 40) + rng.normal(0, sd, count) + drift + harder


def planted(kind: str, rng: np.random.Generator) -> np.ndarray:
    """What an event of suite A adds to the losses, from its first iteration on."""
    if kind == "spike":
        decay = rng.uniform(8, 40)
        return rng.uniform(0.8, 4) * np.exp(-np.arange(int(4 * decay)) / decay)
    if kind == "burst":
        added = np.zeros(120)
        starts = rng.choice(np.arange(1, 39), size=rng.integers(4, 9), replace=False) * 3
        for start in (0, *starts[1:]):
            added[start : start + 3] += rng.uniform(0.8, 1.8) * np.array([1, 0.5, 0.25])
        return added
    rise = np.linspace(0, 1, rng.integers(80, 301))
    return rng.uniform(0.5, 2) * np.concatenate([rise, np.ones(100), np.exp(-np.arange(120) / 40)])


def suite_a(seed: int, amplitude: float) -> list[Curve]:
    """Twelve runs with 36 events of trouble and 48 harmless ones; amplitude is of the trouble."""
    kinds = np.random.default_rng(seed).permutation(TROUBLE).reshape(RUNS, -1)
    curves = []
    for run in range(RUNS):
        rng = np.random.default_rng([seed, run])
        losses = pretraining(rng, STEPS, NOISE_LEVELS[run % 2])
        trouble = []
        for slot, kind in enumerate(kinds[run]):
            added = planted(kind, rng)
            start = 300 + 1233 * slot + int(rng.integers(600))
            losses[start : start + len(added)] += amplitude * added
            trouble.append(Event(kind=str(kind), start=start, end=start + len(added)))
        inside = [at for event in trouble for at in range(event.start, event.end)]
        calm = np.setdiff1d(np.arange(250, STEPS), inside)
        losses[rng.choice(calm, 2, replace=False)] += rng.uniform(0.5, 3, 2)
        for some in (calm[calm < 1500], calm[calm >= 2500]):  # apart, not to add up to one
            losses[rng.choice(some) :] += rng.uniform(0.05, 0.2)
        curves.append(Curve(losses=losses, trouble=tuple(trouble)))
    return curves


def clean(seed: int) -> list[Curve]:
    """Twenty long runs in which nothing happens."""
    return [
        Curve(
            losses=pretraining(
                np.random.default_rng([seed, 1000 + run]), CLEAN_STEPS, NOISE_LEVELS[run % 2]
            ),
            trouble=(),
        )
        for run in range(CLEAN_RUNS)
    ]


def late(noise: str, seed: int, run: int, count: int = LATE_STEPS) -> np.ndarray:
    """A clean stretch of suite B, sd 0.02 however the noise is distributed, but for `bimodal`.

    There one batch in ten comes from a source that is 0.1 nats harder.
    """
    rng = np.random.default_rng([seed, NOISES.index(noise), run])
    base = np.linspace(2.5, 2.2, count)
    match noise:
        case "gauss":
            return base + rng.normal(0, 0.02, count)
        case "student":
            return base + 0.02 / np.sqrt(3) * rng.standard_t(3, count)
        case "autoregressive":
            return base + autoregressive(rng, count, 0.6, 0.02)
        case _:
            return base + rng.normal(0, 0.02, count) + 0.1 * (rng.random(count) < 0.1)


def spiked(losses: np.ndarray, height: float, at: int = EVENT_AT) -> np.ndarray:
    """The same with a spike that is down to 1/e after 15 iterations."""
    after = np.arange(len(losses)) - at
    return losses + height * np.exp(-np.maximum(after, 0) / 15) * (after >= 0)


def ramped(losses: np.ndarray, slope: float) -> np.ndarray:
    """The same with a steady rise of `slope` nats in 100 iterations, to the end."""
    return losses + slope / 100 * np.maximum(np.arange(len(losses)) - EVENT_AT, 0)


def blipped(losses: np.ndarray, height: float) -> np.ndarray:
    """The same with one loss that is higher."""
    return losses + height * (np.arange(len(losses)) == EVENT_AT)
