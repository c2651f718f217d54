"""The report of a run: one page of HTML that says how it went, whole in itself.

Owns which figures are shown and how curves become paths; report.html.j2 owns the markup. Reads
files only: no jax, no network, and the page needs neither scripts nor anything outside itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from etils import epath

from welm_jax import recovery_report, run_files
from welm_jax.recovery_report import Logged
from welm_jax.run_files import RunFolder
from welm_jax.text.records import LEDGER_FILE
from welm_jax.train.lineage import Recovery, applicable
from welm_jax.train.recovery import Journal

TEMPLATE = Path(__file__).with_name("report.html.j2")
MOST_POINTS = 600  # of a curve, more than a screen shows
SMOOTHING_SHARE = 0.02  # of a run's steps, the memory of the smoothed curve
LAST_SAMPLES = 12
BRANCH_RISE = 1.0  # of the curve's height, that what was discarded may rise above it


def write_report(run: RunFolder) -> None:
    """Writes the run's report.html from what the folder holds; parts not there yet are said so."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": _count, "percent": _percent, "duration": _duration}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    run_files.write_text(run.report, template.render(content(run)) + "\n")


def content(run: RunFolder) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses."""
    lines = list(run_files.read_lines(run.metrics))
    journal = Journal(run.journal).records()
    steps, branches = recovery_report.kept_and_discarded(lines, journal)
    mixture = run_files.read_json(run.mixture) if run.mixture.exists() else None
    held_out = run_files.read_json(run.held_out) if run.held_out.exists() else None
    return {
        "name": "/".join(run.path.parts[-2:]),
        "headlines": list(_headlines(steps, held_out)),
        "curves": _curves(steps, branches, applicable(journal), held_out),
        "spikes": recovery_report.content(run, lines, len(steps), journal),
        "mixture": _mixture_rows(mixture, steps),
        "data_card": _data_card(mixture),
        "held_out": _held_out(held_out),
        "samples": list(run_files.read_lines(run.samples))[-LAST_SAMPLES:],
        "config": run.operative_config.read_text(encoding="utf-8")
        if run.operative_config.exists()
        else "",
    }


def _headlines(
    steps: Sequence[Logged], held_out: Mapping[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    """(figure, what it is, a remark) for the top of the page."""
    if held_out:
        bits = held_out["all"]["bits_per_character"]
        others = [(one["all"], name) for name, one in held_out["count_models"].items()]
        remark = "best count model {:.2f}, {}".format(*min(others)) if others else ""
        yield f"{bits:.3f}", "bits per character, held out", remark
    if steps:
        last, loss = steps[-1], smoothed([line["loss"] for line in steps])[-1]
        yield f"{loss:.3f}", "training loss", f"nats per token, at step {_count(last['step'])}"
        yield _count(last["tokens"]), "tokens trained on", ""
        seconds = [line["seconds"] for line in steps if line["seconds"]]
        if seconds:
            yield _duration(sum(seconds)), "in training steps", f"{median(seconds):.2f} s each"
            speed = median(line["tokens_per_second"] for line in steps if line["seconds"])
            mfu = [line["mfu"] for line in steps if line["mfu"] is not None]
            remark = f"MFU {_percent(median(mfu))}" if mfu else "MFU not known for this device"
            yield _count(round(speed)), "tokens a second", remark


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


WIDTH = 640


def _curves(
    steps: Sequence[Logged],
    branches: Sequence[Sequence[Logged]],
    applied: Sequence[Recovery],
    held_out: Mapping[str, Any] | None,
) -> list[Curve]:
    if len(steps) < 2:
        return []
    at = [line["step"] for line in steps]
    losses, rates = ([line[name] for line in steps] for name in ("loss", "learning_rate"))
    lines = [
        *_discarded(branches, "loss", losses),
        Line(kind="raw", steps=at, values=losses),
        Line(kind="smooth", steps=at, values=smoothed(losses)),
    ]
    rate_lines = [
        *_discarded(branches, "learning_rate", rates),
        Line(kind="smooth", steps=at, values=rates),
    ]
    marks = [(max(one.target_step, at[0]), str(one.id)) for one in applied]
    dots = [(held_out["step"], held_out["all"]["loss"], "held-out")] if held_out else []
    title = "loss, nats per token: each step, and smoothed"
    return [
        draw(title, lines, height=240, dots=dots, marks=marks),
        draw("learning rate", rate_lines, height=100, floor=0.0, marks=marks),
    ]


def _discarded(
    branches: Sequence[Sequence[Logged]], name: str, kept: Sequence[float]
) -> Iterator[Line]:
    """Branches may rise above the curve that was kept, but must not press it flat."""
    finite = [value for value in kept if math.isfinite(value)] or [0.0]
    ceiling = max(finite) + BRANCH_RISE * (max(finite) - min(finite))
    for branch in branches:
        values = [min(line[name], ceiling) for line in branch]
        yield Line(kind="discarded", steps=[line["step"] for line in branch], values=values)


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
        x_ticks=[(x(tick), _count(round(tick))) for tick in x_labels],
        y_ticks=[(y(tick), f"{tick:.4g}") for tick in y_labels],
        dots=[(x(step), y(value), label) for step, value, label in dots],
        marks=[(x(step), label) for step, label in marks],
    )


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean from both sides, so that the curve does not lag behind the values."""
    keep = 1 - 1 / max(1.0, SMOOTHING_SHARE * len(values))

    def means(values: Sequence[float]) -> list[float]:
        mean, weight, means = 0.0, 0.0, []
        for value in values:
            if math.isfinite(value):
                mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
            means.append(mean / weight if weight else math.nan)
        return means

    backward = means(values[::-1])[::-1]
    return [(one + other) / 2 for one, other in zip(means(values), backward, strict=True)]


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers, evenly spaced, from at most `low` to at least `high`."""
    spread = (high - low) or abs(high) or 1.0
    magnitude = 10 ** math.floor(math.log10(spread / 4))
    step = next(step * magnitude for step in (1, 2, 5, 10) if spread / (step * magnitude) <= 7)
    # A thousandth of a step over a tick is on the tick, to the eye and to float32.
    first, last = math.floor(low / step + 1e-3), math.ceil(high / step - 1e-3)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _mixture_rows(
    mixture: Mapping[str, Any] | None, steps: Sequence[Logged]
) -> list[dict[str, Any]]:
    """A row a source; epochs follow from the tokens trained on, padding left out."""
    if not mixture:
        return []
    sequences = steps[-1]["tokens"] / mixture["sequence_tokens"] if steps else 0.0
    return [
        {
            "name": source["name"],
            "share": source["quota"] / mixture["block"],
            "rows": source["rows"],
            "epochs": sequences * source["quota"] / mixture["block"] / source["rows"],
        }
        for source in mixture["sources"]
    ]


def _data_card(mixture: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The curation ledger as two tables: totals a source, and what each reason took."""
    folders = [epath.Path(source["folder"]) for source in (mixture or {"sources": []})["sources"]]
    ledgers = [folder.parent / LEDGER_FILE for folder in folders]
    if not ledgers or not ledgers[0].exists():
        return None
    sources = run_files.read_json(ledgers[0])["sources"]
    reasons = {}
    for source, parts in sources.items():
        for stage in list(parts)[1:-1]:  # between the totals and the stage that writes
            for reason, counts in parts[stage].items():
                if reason != "passed":
                    row = reasons.setdefault((stage, reason), dict.fromkeys(sources, 0))
                    row[source] = counts["documents"]
    order = list(next(iter(sources.values())))
    return {
        "totals": {source: parts["totals"] for source, parts in sources.items()},
        "reasons": dict(sorted(reasons.items(), key=lambda row: order.index(row[0][0]))),
    }


def _held_out(held_out: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Bits per character, a row a model from the worst to the best, "all" as the last column."""
    if not held_out:
        return None
    decoder = {name: one["bits_per_character"] for name, one in held_out["sources"].items()}
    decoder["all"] = held_out["all"]["bits_per_character"]
    ours = f"this model, step {_count(held_out['step'])}"
    models = {**held_out["count_models"], ours: decoder}
    columns = list(decoder)
    return {
        "columns": columns,
        "models": sorted(models.items(), key=lambda model: -model[1]["all"]),
        "best": {name: min(bits[name] for bits in models.values()) for name in columns},
        "worst": max(bits["all"] for bits in models.values()),
        "ours": ours,
        "tokens": held_out["all"]["tokens"],
        "characters": round(held_out["all"]["characters"]),
    }


def _count(number: int) -> str:
    return f"{number:,}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
