"""An evaluation as one long CSV: a line for each figure of each task, the headline first."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = (
    "task",
    "split",
    "shots",
    "demonstrations",
    "model",
    "metric",
    "value",
    "ci_lo",
    "ci_hi",
    "n",
    "seed",
    "prompt_id",
    "norm",
    "region",
    "truncated",
    "skipped",
    "chance",
    "set",
    "stands_in",
    "headline",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with these a spreadsheet's formulas begin


def text(summaries: Mapping[str, Mapping[str, Any]], model: str) -> str:
    """The CSV.

    `shots` are those asked for and `demonstrations` the mean of those that stood in prompts; `n`
    counts what was scored; `seed` is of demonstrations and the first of those that draw wrong
    labels; `truncated` counts passages that were cut. A cell that has no meaning is empty.

    Args:
      summaries: of tasks by name, as the evaluator gives them.
      model: says which: run and step.
    """
    written = io.StringIO()
    lines = csv.DictWriter(written, COLUMNS, lineterminator="\n")
    lines.writeheader()
    for summary in summaries.values():
        for line in _lines(summary):
            cells = {"model": model, **line}
            lines.writerow({name: _cell(one) for name, one in cells.items()})
    return written.getvalue()


def _lines(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    shared = {name: summary[name] for name in ("task", "split")}
    if "metrics" in summary:  # a task that is not of ours has seqio's figures alone
        for metric, value in summary["metrics"].items():
            yield {**shared, "metric": metric, "value": value}
        return
    same = ("demonstrations", "seed", "prompt_id", "set", "stands_in")
    shared |= {name: summary[name] for name in same} | {
        "shots": summary["shots_asked"],
        "n": summary["scored"],
        "truncated": summary["passages_cut"],
        "skipped": sum(summary["skipped"].values()),
    }
    for place, figure in enumerate(_figures(summary)):
        low, high = figure.pop("interval") or (None, None)
        yield {**shared, **figure, "ci_lo": low, "ci_hi": high, "headline": int(place == 0)}


def _figures(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each number of a task with its interval, the headline first."""
    metric, intervals = summary["metric"], summary["intervals"]
    yield {
        "metric": metric,
        "value": summary["value"],
        "interval": summary["interval"],
        **{name: summary.get(name) for name in ("norm", "region", "chance")},
    }
    for norm, value in summary.get("by_norm", {}).items():
        if norm != summary["norm"]:
            figure = {"metric": metric, "norm": norm, "value": value, "interval": intervals[norm]}
            yield {**figure, **{name: summary[name] for name in ("region", "chance")}}
    others = {name: one for name, one in summary.get("also", {}).items() if name != metric}
    others |= {
        name: summary[name] for name in ("among_all_labels", "language_is_right") if name in summary
    }
    named = {name: summary.get(name) for name in ("norm", "region")}
    for name, value in others.items():
        yield {"metric": name, "value": value, "interval": intervals.get(name), **named}


def _cell(value: Any) -> Any:
    """Numbers as they are; a text that a spreadsheet would compute stays a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
