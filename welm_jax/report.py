"""The report of a run: one page of HTML that says how it went, whole in itself.

Owns which figures are shown and how curves become paths; report.html.j2 owns the markup. Reads
files only: no jax, no network, and the page needs neither scripts nor anything outside itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from etils import epath

from welm_jax import clue_curve, corpus_card, recovery_report, run_files
from welm_jax.pages import count, duration, percent, render
from welm_jax.plots import Curve, Line, draw, smoothed
from welm_jax.recovery_report import Logged
from welm_jax.run_files import RunFolder
from welm_jax.train import goodput
from welm_jax.train.lineage import Recovery, applicable
from welm_jax.train.recovery import Journal

LAST_SAMPLES = 12
BRANCH_RISE = 1.0  # of the curve's height, that what was discarded may rise above it


def write_report(run: RunFolder) -> None:
    """Writes the run's report.html from what the folder holds; parts not there yet are said so."""
    run_files.write_text(run.report, render("report.html.j2", content(run)))


def content(run: RunFolder) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses."""
    lines = list(run.iterations())
    journal = Journal(run.journal).records()
    steps, branches = recovery_report.kept_and_discarded(lines, journal)
    mixture = run.read_mixture() if run.mixture.exists() else None
    held_out = run_files.read_json(run.held_out) if run.held_out.exists() else None
    return {
        "name": "/".join(run.path.parts[-2:]),
        "headlines": list(_headlines(steps, held_out)),
        "curves": _curves(steps, branches, applicable(journal), held_out),
        "wall_time": _wall_time(run, lines, steps),
        "spikes": recovery_report.content(run, lines, len(steps), journal),
        "mixture": _mixture_rows(mixture, steps),
        "data_card": _data_card(mixture, steps),
        "held_out": _held_out(held_out),
        "clue": clue_curve.content(run, steps),
        "samples": list(run_files.read_lines(run.samples))[-LAST_SAMPLES:],
        "showcase": _showcase(run),
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
        yield f"{loss:.3f}", "training loss", f"nats per token, at step {count(last['step'])}"
        yield count(last["tokens"]), "tokens trained on", ""
        seconds = [line["seconds"] for line in steps if line["seconds"]]
        if seconds:
            ranks = goodput.percentiles(seconds).items()
            remark = ", ".join(f"p{rank} {value:.2f}" for rank, value in ranks) + " s each"
            yield duration(sum(seconds)), "in training steps", remark
            speed = median(line["tokens_per_second"] for line in steps if line["seconds"])
            mfu = [line["mfu"] for line in steps if line["mfu"] is not None]
            remark = f"MFU {percent(median(mfu))}" if mfu else "MFU not known for this device"
            yield count(round(speed)), "tokens a second", remark


def _wall_time(
    run: RunFolder, lines: Sequence[Logged], steps: Sequence[Logged]
) -> list[tuple[str, str, str]]:
    """(activity, seconds, share) of all lives of the run, the largest first."""
    lived = goodput.of_lives(run.goodput)
    logged, kept = (math.fsum(one["seconds"] or 0.0 for one in ones) for ones in (lines, steps))
    total = sum(lived.values())
    return [
        (activity, duration(share * total), percent(share))
        for activity, share in goodput.shares(lived, logged - kept)
    ]


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


def _data_card(mixture: Mapping[str, Any] | None, steps: Sequence[Logged]) -> dict[str, Any] | None:
    """The card of the text that the run is fed, at its rates and for the tokens of so far."""
    folders = {epath.Path(one["folder"]).parent for one in (mixture or {"sources": []})["sources"]}
    if len(folders) != 1:
        return None
    rates = {source["name"]: source["quota"] for source in mixture["sources"]}
    tokens = steps[-1]["tokens"] if steps else 0
    card = corpus_card.content(folders.pop(), rates, tokens, corpus_card.MAX_EPOCHS)
    return card and corpus_card.drawn(card)


def _showcase(run: RunFolder) -> str | None:
    """Where the newest showcase lies."""
    folders = (page.parent.name for page in run.showcase.glob("*/showcase.html"))
    steps = [int(name) for name in folders if name.isdecimal()]
    return f"{run.showcase.name}/{max(steps)}/showcase.html" if steps else None


def _held_out(held_out: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Bits per character, a row a model from the worst to the best, "all" as the last column."""
    if not held_out:
        return None
    decoder = {name: one["bits_per_character"] for name, one in held_out["sources"].items()}
    decoder["all"] = held_out["all"]["bits_per_character"]
    ours = f"this model, step {count(held_out['step'])}"
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
