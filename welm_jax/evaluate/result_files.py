"""The folder of an evaluation: a task's summary and outcomes, and the tables made of them.

What the model gave, `<task>.given.jsonl`, lies there too, and is model_functions' own. Several
processes may evaluate a run at once: each writes when it has its turn, and the tables of the one
that ends last hold the tasks of all.
"""

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from welm_jax import run_files
from welm_jax.evaluate import results_csv, tables

FAILED = "failed"  # stands in a task's file where there is no summary, and says why
LOCK = ".lock"  # of the folder, held by the process that writes


@contextlib.contextmanager
def in_turn(folder: epath.Path) -> Iterator[None]:
    """Waits until no other process writes into a folder of results, and keeps others waiting.

    A bucket has no locks: there all write at once.
    """
    if run_files.in_bucket(folder):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_task(
    folder: epath.Path, summary: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
) -> None:
    """Writes `<task>.json`, the summary, and `<task>.jsonl`, the outcomes, a line each.

    A summary always stands beside the outcomes it is of: an older one goes first, the new one comes
    last, so that after a kill in between there is none.
    """
    file = folder / f"{summary['task']}.json"
    with in_turn(folder):
        file.unlink(missing_ok=True)
        if outcomes:
            run_files.write_lines(_outcomes_file(folder, summary["task"]), outcomes)
        run_files.write_json(file, summary)


def write_failure(folder: epath.Path, about: Mapping[str, Any], why: str) -> None:
    """Writes of a task, in place of an older summary, that there is none and why.

    Args:
      folder: of results.
      about: what a summary begins with, `task` too.
      why: its first line is kept.
    """
    why = why.partition("\n")[0]
    with in_turn(folder):
        _outcomes_file(folder, about["task"]).unlink(missing_ok=True)
        run_files.write_json(folder / f"{about['task']}.json", {**about, FAILED: why})


def summaries(folder: epath.Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> summary of each task in a folder.

    Args:
      folder: of results.
      about: what they must have in common, as `Subject.about` gives it; others stay out.
    """
    return {name: one for name, one in _all(folder, about).items() if FAILED not in one}


def _all(folder: epath.Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # another process writes it anew
            found[file.stem] = run_files.read_json(file)
    return {one["task"]: one for one in found.values() if about.items() <= one.items()}


def outcomes(folder: epath.Path, task: str) -> list[dict[str, Any]]:
    """Those of a task of ours, in the order of its questions."""
    return list(run_files.read_lines(_outcomes_file(folder, task)))


def write_tables(folder: epath.Path, about: Mapping[str, Any], run: str) -> str:
    """Writes `tables.md`, `tables.html` and `results.csv`.

    Args:
      folder: of results.
      about: what figures of one table must have in common; has the step.
      run: its name.

    Returns:
      The tables as Markdown.
    """
    with in_turn(folder):
        found = summaries(folder, about)
        ours = {name: one for name, one in found.items() if "metric" in one}
        failed = {name: one[FAILED] for name, one in _all(folder, about).items() if FAILED in one}
        shown, step = tables.shown(ours, failed), about["step"]
        markdown = tables.markdown(shown, step)
        of_tasks = {name: outcomes(folder, name) for name in ours}
        run_files.write_text(folder / "tables.md", markdown)
        run_files.write_text(folder / "tables.html", tables.page(shown, step, of_tasks))
        run_files.write_text(folder / "results.csv", results_csv.text(found, f"{run}/{step}"))
    return markdown


def _outcomes_file(folder: epath.Path, task: str) -> epath.Path:
    return folder / f"{task}.jsonl"
