"""Runs the rows of the paper's tables, or seqio Tasks of one's own, on a checkpoint.

Each task is read, checked with models of which the scores are known, and given to seqio's own
evaluator. What the model gave, each question's outcome and the task's summary lie in files beside
one another (result_files.py); one task that fails does not take the others with it.
"""

import contextlib
import difflib
import functools
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import seqio
from absl import logging
from etils import epath
from jaxtyping import PyTree
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from welm_jax.evaluate import result_files, self_checks
from welm_jax.evaluate.model_functions import Model, ModelFunctions
from welm_jax.failures import Failure, InputError, StopAndLook
from welm_jax.model.decoder import Assembler
from welm_jax.tasks import demonstrations, eval_tasks, scores
from welm_jax.tasks.eval_tasks import EvalTask
from welm_jax.tasks.prompted import Row
from welm_jax.tasks.vocabulary import WelmVocabulary
from welm_jax.text.stop_strings import stop_table

STOPS = ("\n",)  # an answer is a line
ROW_AND_SHOTS = re.compile("(?P<row>.+)_(?P<shots>[0-9]{1,4})shot")
OTHERS_NEW_TOKENS = 128  # most that is generated for a task that is not of ours


class NoneEvaluated(InputError):
    """Tasks were asked for, and none could be evaluated."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated.

    Attributes:
      assemble: makes the decoder.
      parameters: its weights, on the mesh.
      mesh: where they live.
      vocabulary: its tokenizer, as seqio wants it.
      window: tokens that a prompt and its answer may take together.
      step: of training, by which results are filed.
      attempt: that led there; a rollback leads to the same step again with other weights.
    """

    assemble: Assembler
    parameters: PyTree
    mesh: jax.sharding.Mesh
    vocabulary: WelmVocabulary
    window: int
    step: int
    attempt: int

    @functools.cached_property
    def model(self) -> Model:
        """What is asked."""
        return Model(assemble=self.assemble, parameters=self.parameters, mesh=self.mesh)

    @functools.cached_property
    def weights(self) -> str:
        """Tells them from others: a run that was set back may come to the same step with others."""
        [found] = self.model.asked("fingerprint")
        return found

    def about(self, limit: int | None) -> dict[str, Any]:
        """What figures of one table must have in common."""
        return {
            "step": self.step,
            "attempt": self.attempt,
            "weights": self.weights,
            "compute_dtype": self.assemble.config.compute_dtype,
            "window": self.window,
            "limit": limit,
        }


def rows_of(names: Sequence[str], data_dir: epath.Path) -> Iterator[tuple[Row, int] | str]:
    """The (row, shots) of the tasks that are asked for, or the name of somebody else's task.

    Args:
      names: of tasks, a row with any number of shots such as cft_2shot, or of mixtures; of a
        mixture only rows whose data is there count, with no shots and with those of the paper.
      data_dir: holds a folder for each set.

    Raises:
      InputError: a name is not known; says which one may be meant.
    """
    rows = {row.name: row for of_mixture in eval_tasks.MIXTURES.values() for row in of_mixture}
    for name in names:
        row_and_shots = ROW_AND_SHOTS.fullmatch(name)
        if name in eval_tasks.MIXTURES:
            for row in eval_tasks.MIXTURES[name]:
                if row.available(data_dir):
                    yield from ((row, shots) for shots in (0, row.shots))
        elif row_and_shots and row_and_shots["row"] in rows:
            yield rows[row_and_shots["row"]], int(row_and_shots["shots"])
        elif name in seqio.TaskRegistry.names():
            yield name
        elif name in seqio.MixtureRegistry.names():
            yield from (task.name for task in seqio.MixtureRegistry.get(name).tasks)
        else:
            raise InputError(f"there is no task {name}; {_what_may_be_meant(name, rows)}")


def _what_may_be_meant(name: str, rows: Mapping[str, Row]) -> str:
    known = [*eval_tasks.MIXTURES]
    known += [f"{row.name}_{shots}shot" for row in rows.values() for shots in (0, row.shots)]
    known += [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return hint + (" A row takes 0 to 9999 shots" if name.rpartition("_")[0] in rows else "")


def evaluate(
    subject: Subject,
    names: Sequence[str],
    data_dir: epath.Path,
    folder: epath.Path,
    limit: int | None,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Evaluates tasks one after the other; what was done before is not done again.

    Args:
      subject: the model.
      names: of tasks or mixtures.
      data_dir: holds a folder for each set.
      folder: where results go; see result_files.py.
      limit: examples of each task, the first ones; all unless given.
      console: tells how far it is.

    Returns:
      Name -> summary of each task that could be done.

    Raises:
      InputError: a name is not known.
      NoneEvaluated: not one of the tasks could be done; why, is filed.
    """
    asked, found = list(rows_of(names, data_dir)), {}
    stops = stop_table(subject.vocabulary.tokenizer, STOPS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=console)
    with _without_warnings(), bars as progress:
        of_all = progress.add_task("tasks", total=len(asked))
        for one in asked:
            name = one if isinstance(one, str) else f"{one[0].name}_{one[1]}shot"
            named = {"task": name, "split": eval_tasks.SPLIT, **subject.about(limit)}
            try:
                if isinstance(one, str):
                    summary, outcomes = _of_others(subject, name, folder, limit, progress), []
                else:
                    task = eval_tasks.prepared(
                        *one, data_dir, subject.vocabulary, subject.window, limit
                    )
                    summary, outcomes = _of_ours(subject, task, folder, stops, progress)
            except Failure as error:
                result_files.write_failure(folder, named, str(error))
                progress.console.print(f"{name} is left out: {error}", markup=False, soft_wrap=True)
            else:
                summary = found[name] = {**named, **summary}
                result_files.write_task(folder, summary, outcomes)
                progress.console.print(_in_words(name, summary), markup=False, soft_wrap=True)
            progress.advance(of_all)
    if not found:
        raise NoneEvaluated(f"none of {', '.join(names)} could be evaluated with {data_dir}")
    return found


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """For seqio, which warns each time that no logger of its own is there; not for what follows."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _of_ours(
    subject: Subject, task: EvalTask, folder: epath.Path, stops: np.ndarray, progress: Progress
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    checked = self_checks.check(task, subject.assemble.config.vocab_size)
    eval_tasks.register(task, subject.vocabulary)
    functions = _functions(subject, folder, task.name, task.row.max_new_tokens, stops, progress)
    metrics, examples, outputs = _by_seqio(task.name, functions, None)
    [given] = outputs.values()
    if not task.questions[0].candidates:
        given = [subject.vocabulary.decode([int(token) for token in ids]) for ids in given]
    outcomes = task.outcomes([one["place"] for one in examples], given)
    summary = task.summary(outcomes)
    assert metrics == {summary["metric"]: summary["value"]}
    about = {
        "set": task.eval_set.folder,
        "stands_in": task.eval_set.stands_in,
        "checked": task.eval_set.checked,
        "self_checks": checked,
        "shots_asked": task.shots,
        "seed": demonstrations.SEED,
        "prompt_id": task.row.prompt_id,
        "repeated_inputs": len(task.questions) - len({tuple(one.ids) for one in task.questions}),
    }
    if task.row.lead:
        about["lead"] = _lead(task)
    return {**about, **summary}, outcomes


def _lead(task: EvalTask) -> float:
    """What the first characters of each passage score, in per cent: no model, and hard to beat."""
    row, score = task.row, scores.ANSWER_SCORES[task.row.metric]
    found = [
        scores.best_of(score, one.references, one.inputs[row.passage][: row.lead])
        for one in (question.example for question in task.questions)
    ]
    return 100 * float(np.mean(found))


def _of_others(
    subject: Subject, name: str, folder: epath.Path, limit: int | None, progress: Progress
) -> dict[str, Any]:
    """A task of the user's own: seqio's figures that are numbers, whole answers."""
    never = stop_table(subject.vocabulary.tokenizer, ())
    functions = _functions(subject, folder, name, OTHERS_NEW_TOKENS, never, progress)
    found = _by_seqio(name, functions, limit)[0]
    values = {metric: _number(value) for metric, value in found.items()}
    return {
        "metrics": {metric: value for metric, value in values.items() if value is not None},
        "no_numbers": {
            metric: type(found[metric]).__name__ for metric in values if values[metric] is None
        },
    }


def _number(value: Any) -> float | None:
    """A metric that is one number, plain or an array's; JSON takes no other."""
    value = value.value if isinstance(value, seqio.metrics.Scalar) else value
    alone = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    return float(value) if alone and not isinstance(value, str | bytes) else None


def _functions(
    subject: Subject,
    folder: epath.Path,
    name: str,
    max_new_tokens: int,
    stops: np.ndarray,
    progress: Progress,
) -> ModelFunctions:
    return ModelFunctions(
        identity=f"{subject.weights} {subject.assemble.config.compute_dtype}",
        model=subject.model,
        eod_id=subject.vocabulary.eos_id,
        stops=stops,
        max_new_tokens=max_new_tokens,
        file=folder / f"{name}.given.jsonl",
        progress=progress,
    )


def _by_seqio(
    name: str, functions: ModelFunctions, limit: int | None
) -> tuple[dict[str, Any], list, dict]:
    """The metrics, the examples in their order, and what the model gave for them.

    Raises:
      StopAndLook: a metric failed; seqio says which.
    """
    runner = seqio.Evaluator(
        name,
        feature_converter=eval_tasks.AsTheyAre(),
        eval_split=eval_tasks.SPLIT,
        num_examples=limit,
        logger_cls=[],
    )
    try:
        metrics, outputs = runner.evaluate(
            compute_metrics=True,
            predict_fn=functions.continuations,
            score_fn=functions.scores,
        )
        found = metrics.result()[name]
    except ValueError as error:  # seqio's, around whatever went wrong
        raise StopAndLook(str(error)) from error
    examples = list(runner.cached_task_datasets[name].as_numpy_iterator())
    return found, examples, outputs[name]


def _in_words(name: str, summary: dict[str, Any]) -> str:
    if "metrics" in summary:
        words = f"{name}: {summary['metrics']}"
        if kinds := summary["no_numbers"]:
            words += f", without what is no number: {kinds}"
        return words
    words = f"{name}: {summary['metric']} {summary['value']:.2f}"
    if summary["interval"]:
        words += " ({:.2f} to {:.2f})".format(*summary["interval"])
    return f"{words}, {summary['scored']} of {summary['n']} scored"
