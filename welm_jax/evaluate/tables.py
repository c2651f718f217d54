"""Tables 3 and 5 with a column of ours beside the paper's: Markdown, and a page of HTML."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from welm_jax import pages
from welm_jax.evaluate.averages import average
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


def shown(
    summaries: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str] = MappingProxyType({})
) -> list[Shown]:
    """The tables of which there is anything to show.

    Args:
      summaries: of tasks by name, as the evaluator gives them.
      failed: name of a task that could not be evaluated -> why.
    """
    found = [_table(paper, rows, summaries, failed) for paper, rows in PAPER]
    return [table for table in found if table.rows or table.notes]


def _table(
    paper: PaperTable,
    rows: Sequence[Row],
    summaries: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
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
        lost = (f"{row.name}_{shots}shot" for shots in (0, row.shots))
        notes += [
            f"{row.title}: {name} is left out: {failed[name]}" for name in lost if name in failed
        ]
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
                *_ours(few if few and few["demonstrations"] else None),
                _number(one.get("chance")),
            ]
        )
        notes += _notes(row, paper.remarks.get(row.name, ""), zero, few)
    for title in paper.means if cells else ():
        of_mean, told = _mean(paper, title, rows, summaries)
        cells.append(of_mean)
        notes += told
    return Shown(title=paper.title, columns=columns, rows=cells, notes=notes)


def _mean(
    paper: PaperTable,
    title: str,
    rows: Sequence[Row],
    summaries: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[str]]:
    """A mean's cells and notes; ours only where all of its rows are there."""
    names = paper.means[title]
    members = [row for row in rows if row.name in names]
    cells, notes, mark = [], [], ""
    for setting, of, few_shot in (("zero-shot", paper.zero, False), ("few-shot", paper.few, True)):
        theirs = zip(*(of[name] for name in names), strict=True)
        ours = average(members, summaries, few_shot)
        cells += [_number(statistics.fmean(one)) for one in theirs]
        cells += [NONE if ours.missing else _number(ours.value), NONE]
        if ours.missing:
            notes.append(f"{title}, {setting}: ours lacks {', '.join(ours.missing)}")
        elif ours.stands_in:
            mark, told = "*", ", ".join(ours.stands_in)
            notes.append(f"{title}, {setting}: * not the paper's sets: {told}")
    return [title, "mean", f"{len(names)} rows{mark}", NONE, *cells, NONE], notes


def _ours(summary: Mapping[str, Any] | None) -> tuple[str, str]:
    if summary is None:
        return NONE, NONE
    value = f"{summary['value']:.2f}"
    if summary["interval"]:
        value += " ({:.1f} to {:.1f})".format(*summary["interval"])
    return value, str(summary["scored"])


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _notes(row: Row, remark: str, *summaries: Mapping[str, Any] | None) -> list[str]:
    """What a reader of a row must know."""
    found = [one for one in summaries if one]
    notes = [remark] if remark else []
    if row.lead:
        lead = found[0]["lead"]
        notes.append(f"the first {row.lead} characters of the passage score {lead:.2f}")
    if found[0]["stands_in"]:
        notes.append(f"* not the paper's set: {found[0]['stands_in']}")
    for one in found:
        ids = one.get("skipped_ids", {})
        told = [
            f"{count} left out: {why}{_first(ids.get(why))}"
            for why, count in one["skipped"].items()
        ]
        told += [
            f"{of['count']} asked without {what}{_first(of['ids'])}"
            for what, of in one.get("lacks", {}).items()
        ]
        had, wanted = one["demonstrations"], one["shots_asked"]
        if had < wanted:
            told.append(f"{had:.1f} of {wanted} demonstrations in the mean")
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


def _first(ids: Sequence[str] | None) -> str:
    return f" ({', '.join(ids)} first)" if ids else ""


def markdown(tables: Sequence[Shown], step: int) -> str:
    """The tables as Markdown."""
    parts = []
    for table in tables:
        lines = [f"## {table.title}, step {step}", "", _line(table.columns)]
        lines += [_line(["---"] * len(table.columns)), *map(_line, table.rows), ""]
        lines += [f"- {pages.visible(note)}" for note in table.notes]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page(
    tables: Sequence[Shown], step: int, outcomes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """The same as a page of HTML, with each question, answer and score below.

    Args:
      tables: as `shown` gives them.
      step: of training.
      outcomes: of each task by its name.
    """
    tasks = [{"name": name, "outcomes": [*map(_outcome, of)]} for name, of in outcomes.items()]
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
