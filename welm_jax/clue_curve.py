"""Fig. 3b of a run: the zero-shot CLUE average of each checkpoint that was evaluated, over tokens.

Only what was measured alike is joined by a line: a mean of other rows is another figure, and so is
one of shorter prompts or of other rounding. Reads what evaluations left in the run folder; what a
rollback discarded is not drawn.

Source: WeLM section 3.2, Fig. 3b.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from welm_jax.evaluate import averages, result_files
from welm_jax.evaluate.averages import Average
from welm_jax.plots import Curve, Line, draw, unit
from welm_jax.recovery_report import Logged
from welm_jax.run_files import RunFolder

# What results of one step may differ in, if it was evaluated more than once.
HOW = ("attempt", "limit", "weights", "window", "compute_dtype")
HEIGHT = 200


@dataclass(frozen=True, kw_only=True)
class Point:
    """A checkpoint that was evaluated.

    Attributes:
      step: of training.
      tokens: trained on.
      average: of its rows.
      limit: examples of each row; all if None.
      window: tokens that a prompt and its answer could take together.
      compute_dtype: of the model.
    """

    step: int
    tokens: int
    average: Average
    limit: int | None
    window: int
    compute_dtype: str

    @property
    def rows(self) -> str:
        """What the average is of, in words."""
        return averages.clue_rows_in_words(self.average, self.limit)

    @property
    def computed(self) -> str:
        """How the model was asked, in words."""
        return f"in {self.compute_dtype}, with a window of {self.window} tokens"

    @property
    def measured(self) -> tuple[str, str]:
        """What points of one line have in common."""
        return self.rows, self.computed


def content(run: RunFolder, steps: Sequence[Logged]) -> dict[str, Any] | None:
    """What the report shows: the plot, and what each line of it is; None if there is nothing.

    Args:
      run: the folder.
      steps: of metrics.jsonl, those that count.
    """
    points = sorted(_points(run, steps), key=lambda one: (one.measured, one.step))
    lines = [list(alike) for _, alike in groupby(points, lambda one: one.measured)]
    lines.sort(key=len, reverse=True)
    differ = len({one.computed for one in points}) > 1
    notes = [_note(line, differ) for line in lines]
    return {"curve": _curve(lines), "notes": notes} if lines else None


def _points(run: RunFolder, steps: Sequence[Logged]) -> Iterator[Point]:
    """A point for each step that counts: of the most rows, if it was evaluated in several ways."""
    tokens = {(line["step"], line.get("attempt", 0)): line["tokens"] for line in steps}
    folders = run.evaluation.iterdir() if run.evaluation.exists() else ()
    for folder in (one for one in folders if one.name.isdigit()):
        step, alike = int(folder.name), {}
        for name, summary in result_files.summaries(folder, {}).items():
            alike.setdefault(tuple(map(summary.get, HOW)), {})[name] = summary
        found = [
            Point(
                step=step,
                tokens=tokens[step, attempt],
                average=average,
                limit=limit,
                window=window,
                compute_dtype=compute_dtype,
            )
            for (attempt, limit, _, window, compute_dtype), summaries in alike.items()
            if (step, attempt) in tokens
            and (average := averages.clue_average(summaries)).value is not None
        ]
        if found:
            yield max(found, key=lambda one: (-len(one.average.missing), one.limit is None))


def _curve(lines: Sequence[Sequence[Point]]) -> Curve | None:
    """The plot, if there are two checkpoints or more."""
    points = [one for line in lines for one in line]
    if len(points) < 2:
        return None
    divisor, word = unit(max(one.tokens for one in points))

    def drawn(line: Sequence[Point]) -> Line:
        kind = "smooth" if line is lines[0] else "raw"  # the longest stands out
        values = [one.average.value for one in line]
        return Line(kind=kind, steps=[one.tokens / divisor for one in line], values=values)

    title = f"CLUE average, zero-shot, per cent, over {word}tokens trained on"
    dots = [(one.tokens / divisor, one.average.value, "") for one in points]
    return draw(title, [*map(drawn, lines)], height=HEIGHT, dots=dots)


def _note(line: Sequence[Point], differ: bool) -> str:
    """What a line is of, and how that was computed if lines differ in it."""
    last = line[-1]
    others = f" and {len(line) - 1} before it" if len(line) > 1 else ""
    words = last.rows + (f"; {last.computed}" if differ else "")
    return f"Step {last.step:,}{others}; its {last.average.value:.2f} is the mean of {words}."
