"""Means over rows of a table, and what is missing or stands in: nothing is averaged in silence."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from welm_jax.evaluate.paper_numbers import CLUE
from welm_jax.tasks import chinese
from welm_jax.tasks.prompted import Row


@dataclass(frozen=True, kw_only=True)
class Average:
    """An unweighted mean of our figures.

    Attributes:
      value: per cent, of the rows that are there; None if none is.
      missing: titles of the rows that are not.
      stands_in: titles of those that are, on a set that is not the paper's.
    """

    value: float | None
    missing: Sequence[str]
    stands_in: Sequence[str]


def average(
    rows: Sequence[Row], summaries: Mapping[str, Mapping[str, Any]], few_shot: bool
) -> Average:
    """The mean of some rows, zero-shot or few-shot.

    Args:
      rows: its members.
      summaries: of tasks by name, as the evaluator gives them.
      few_shot: with demonstrations; a task that had none to show is missing.
    """
    found = {}
    for row in rows:
        summary = summaries.get(f"{row.name}_{row.shots if few_shot else 0}shot")
        if summary and (summary["demonstrations"] or not few_shot):
            found[row.title] = summary
    return Average(
        value=statistics.fmean(one["value"] for one in found.values()) if found else None,
        missing=[row.title for row in rows if row.title not in found],
        stands_in=[title for title, one in found.items() if one["stands_in"]],
    )


def clue_rows_in_words(average: Average, limit: int | None) -> str:
    """What a CLUE average is of.

    Args:
      average: of the rows that are there.
      limit: examples of each; all if None.
    """
    missing, stands_in = average.missing, average.stands_in
    words = f"{len(CLUE) - len(missing)} of {len(CLUE)} rows"
    words += f", without {', '.join(missing)}" if missing else ""
    words += f"; the first {limit:,} examples of each" if limit else ""
    return words + (f"; not the paper's sets: {', '.join(stands_in)}" if stands_in else "")


def clue_average(summaries: Mapping[str, Mapping[str, Any]], few_shot: bool = False) -> Average:
    """The average of Figure 3b: the eight rows of CLUE, or those that are there.

    Source: WeLM section 3.2, Fig. 3b; the paper does not name the members, they are our choice.
    """
    return average([row for row in chinese.ROWS if row.name in CLUE], summaries, few_shot)
