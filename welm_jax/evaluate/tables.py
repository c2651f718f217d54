"""Tables 3 and 5 with a column of ours beside the paper's: Markdown, and a page of HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from welm_jax import pages
from welm_jax.evaluate.paper_numbers import TABLE_3, TABLE_5, PaperTable
from welm_jax.tasks import chinese, cross_lingual, judgement
from welm_jax.tasks.prompted import Row

PAPER = ((TABLE_3, chinese.ROWS), (TABLE_5, cross_lingual.ROWS))
NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One table, as it is shown.

    Attributes:
      title: what it is about.
      columns: their headings.
      rows: cells, as many as columns.
      notes: what has to be known of single rows.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def shown(summaries: Mapping[str, Mapping[str, Any]]) -> list[Shown]:
    """The tables of which there is anything to show.

    Args:
      summaries: of tasks by name, as the evaluator gives them.
    """
    found = [_table(paper, rows, summaries) for paper, rows in PAPER]
    return [table for table in found if table.rows]


def _table(
    paper: PaperTable, rows: Sequence[Row], summaries: Mapping[str, Mapping[str, Any]]
) -> Shown:
    columns = ["task", "metric", "set", "its reader was tried on"]
    columns += [f"{model}, zero-shot" for model in paper.zero_shot]
    columns += ["**ours, zero-shot**", "n"]
    columns += [f"{model}, few-shot" for model in paper.few_shot]
    columns += ["**ours, few-shot**", "n", "chance"]
    cells, notes = [], []
    for row in rows:
        zero, few = (summaries.get(f"{row.name}_{shots}shot") for shots in (0, row.shots))
        one = zero or few
        if not one:
            continue
        shown_set = one["set"] + ("*" if one["stands_in"] else "")
        cells.append(
            [
                row.title,
                row.metric + (f" ({one['norm']})" if "norm" in one else ""),
                shown_set,
                one["checked"],
                *map(_number, paper.zero[row.name]),
                *_ours(zero),
                *map(_number, paper.few[row.name]),
                *(_ours(few) if _mean_shots(few) else (NONE, NONE)),
                _number(one.get("chance")),
            ]
        )
        notes += _notes(row, zero, few)
    return Shown(title=paper.title, columns=columns, rows=cells, notes=notes)


def _mean_shots(summary: Mapping[str, Any] | None) -> float:
    shots = summary["shots"] if summary else {}
    return sum(int(k) * count for k, count in shots.items()) / max(sum(shots.values()), 1)


def _ours(summary: Mapping[str, Any] | None) -> tuple[str, str]:
    if summary is None:
        return NONE, NONE
    value = f"{summary['value']:.2f}"
    if summary["interval"]:
        value += " ({:.1f} to {:.1f})".format(*summary["interval"])
    return value, str(summary["scored"])


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _notes(row: Row, *summaries: Mapping[str, Any] | None) -> list[str]:
    """What a reader of a row must know."""
    found = [one for one in summaries if one]
    notes = []
    if found[0]["stands_in"]:
        notes.append(f"* not the paper's set: {found[0]['stands_in']}")
    for one in found:
        wanted = int(one["task"].removesuffix("shot").rpartition("_")[2])
        told = [f"{count} left out: {why}" for why, count in one["skipped"].items()]
        if _mean_shots(one) < wanted:
            told.append(f"{_mean_shots(one):.1f} of {wanted} demonstrations in the mean")
        told += [f"{one['passages_cut']} passages cut"] if one["passages_cut"] else []
        if "language_is_right" in one and one["language_is_right"] < 100:
            told.append(f"{one['language_is_right']:.0f} % in the language asked for")
        if row.negatives:
            told.append(f"{one['among_all_labels']:.2f} among all labels")
        if "signature" in one:
            told.append(one["signature"])
        if told:
            notes.append(f"{one['task']}: {', '.join(told)}")
    return [f"{row.title}: {note}" for note in notes]


def markdown(tables: Sequence[Shown], step: int) -> str:
    """The tables as Markdown."""
    parts = []
    for table in tables:
        lines = [f"## {table.title}, step {step}", "", _line(table.columns)]
        lines += [_line(["---"] * len(table.columns)), *map(_line, table.rows), ""]
        lines += [f"- {note}" for note in table.notes]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page(tables: Sequence[Shown], step: int, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The same as a page of HTML, with each question, answer and score below.

    Args:
      tables: as `shown` gives them.
      step: of training.
      results: name -> content of a task's file.
    """
    tasks = [
        {"name": name, "outcomes": [*map(_outcome, one["outcomes"])]}
        for name, one in results.items()
        if one["outcomes"]
    ]
    return pages.render("evaluation.html.j2", {"tables": tables, "step": step, "tasks": tasks})


def _outcome(one: Mapping[str, Any]) -> dict[str, str]:
    """A question's outcome in words; what a model said is escaped where the page is made."""
    if "choices" in one:
        norm = judgement.HEADLINE
        losses = zip(one["choices"], one["losses"][norm], strict=True)
        said, right = one["choices"][one["predicted"][norm]], one["choices"][one["gold"]]
        told = ", ".join(f"{choice} {loss:.3f}" for choice, loss in losses)
        score = f"{one['right'][norm]:.2f}"
        right = f"right: {right}; losses, nats a token: {told}"
    else:
        said, right = one["answer"], f"right: {'; or: '.join(one['references'])}"
        score = ", ".join(f"{name} {value:.2f}" for name, value in one["scores"].items())
    return {"id": one["id"], "prompt": one["prompt"], "said": said, "right": right, "score": score}
