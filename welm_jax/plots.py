"""Values over steps as lines that a page draws: round ticks, paths in the units of a viewBox.

Owns no markup; report.html.j2 does. Knows nothing of what is drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

UNITS = ((10**9, "billion "), (10**6, "million "), (10**3, "thousand "))
MOST_POINTS = 600  # of a curve, more than a screen shows
SMOOTHING_SHARE = 0.02  # of a run's steps, the memory of the smoothed curve
WIDTH = 640


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values over steps: `kind` is the class of the line, and steps ascend."""

    kind: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve as the template draws it; places are in the units of its viewBox.

    Attributes:
      title: what is drawn.
      paths: (class of the line, the `d` of its SVG path), those at the back first.
      x_ticks: (place, label).
      y_ticks: (place, label).
      dots: (x, y, label) of single measurements.
      marks: (x, label) of recoveries.
      height: of the plot; its width is WIDTH.
    """

    title: str
    height: int
    paths: Sequence[tuple[str, str]]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    dots: Sequence[tuple[float, float, str]] = ()
    marks: Sequence[tuple[float, str]] = ()


def draw(
    title: str,
    lines: Sequence[Line],
    height: int,
    floor: float | None = None,
    dots: Sequence[tuple[int, float, str]] = (),
    marks: Sequence[tuple[int, str]] = (),
) -> Curve:
    """Lays lines into one plot.

    Args:
      title: what is drawn.
      lines: of two steps or more in all; values that are not finite leave a gap.
      height: of the plot.
      floor: a value that the plot reaches down to.
      dots: (step, value, label).
      marks: (step, label).
    """
    values = [value for line in lines for value in line.values] + [dot[1] for dot in dots]
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    y_labels = ticks(min(finite) if floor is None else floor, max(finite))
    first, last = min(line.steps[0] for line in lines), max(line.steps[-1] for line in lines)
    x_labels = [tick for tick in ticks(first, last) if first <= tick <= last]

    def x(step: float) -> float:
        return round((step - first) / (last - first) * WIDTH, 1)

    def y(value: float) -> float:
        return round((y_labels[-1] - value) / (y_labels[-1] - y_labels[0]) * height, 1)

    def path(line: Line) -> str:
        stride = -(-len(line.steps) // MOST_POINTS)
        points = list(zip(line.steps, line.values, strict=True))
        # From the last point backwards, so that the end of the run is always there.
        points, words, pen = points[::-1][::stride][::-1], [], "M"
        for step, value in points:
            if math.isfinite(value):
                words.append(f"{pen}{x(step)} {y(value)}")
            pen = "L" if math.isfinite(value) else "M"
        return "".join(words)

    return Curve(
        title=title,
        height=height,
        paths=[(line.kind, path(line)) for line in lines],
        x_ticks=[(x(tick), f"{round(tick):,}") for tick in x_labels],
        y_ticks=[(y(tick), f"{tick:.4g}") for tick in y_labels],
        dots=[(x(step), y(value), label) for step, value, label in dots],
        marks=[(x(step), label) for step, label in marks],
    )


def unit(most: int) -> tuple[int, str]:
    """What numbers up to this one are divided by, and its word, for ticks short and yet whole."""
    return next((one for one in UNITS if most >= 10 * one[0]), (1, ""))


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean of both sides, so that the curve does not lag behind the values.

    A side counts for as many values as it has: at the end of a run the last one is no half of all.
    """
    keep = 1 - 1 / max(1.0, SMOOTHING_SHARE * len(values))

    def sums(values: Sequence[float]) -> list[tuple[float, float]]:
        total, weight, sums = 0.0, 0.0, []
        for value in values:
            if math.isfinite(value):
                total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
            sums.append((total, weight))
        return sums

    sides = zip(sums(values), sums(values[::-1])[::-1], strict=True)
    return [
        (before + after) / (weight + other) if weight and other else math.nan
        for (before, weight), (after, other) in sides
    ]


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers, evenly spaced, from at most `low` to at least `high`."""
    spread = (high - low) or abs(high) or 1.0
    magnitude = 10 ** math.floor(math.log10(spread / 4))
    step = next(step * magnitude for step in (1, 2, 5, 10) if spread / (step * magnitude) <= 7)
    # A thousandth of a step over a tick is on the tick, to the eye and to float32.
    first, last = math.floor(low / step + 1e-3), math.ceil(high / step - 1e-3)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
