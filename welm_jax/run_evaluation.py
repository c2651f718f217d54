"""Tasks scored on the way: the parameters in training's memory, on training's mesh.

What comes of it is filed as `welm evaluate` files it, and training does not depend on it: what goes
wrong here is told, and training goes on. The one exception: where several processes compute
together and that fails on a device, all end, for nobody knows how far the others are.
"""

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from welm_jax import run_beginning, run_files
from welm_jax.evaluate import averages, paper_numbers, result_files
from welm_jax.evaluate.model_functions import Model, OutOfStep
from welm_jax.failures import InputError, as_failure, require_positive
from welm_jax.model.decoder import Assembler
from welm_jax.run_files import RunFolder, literal
from welm_jax.run_parts import RunParts
from welm_jax.train import hosts, loop
from welm_jax.train.checkpoints import Progress
from welm_jax.train.run_log import RunLog
from welm_jax.train.state import TrainState

WINDOW = 2048  # tokens, as of `welm evaluate`


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Tasks that are scored on the way, of which Fig. 3b is drawn.

    Attributes:
      every_steps: optimizer steps between two evaluations; 0 for none. A multiple of the steps
        between checkpoints, and a kill in the middle of an evaluation loses nothing: the next
        start runs it. SIGTERM lets an evaluation end, and training stops after the step that
        follows; it ends at once an evaluation that the next start runs.
      data_dir: holds a folder for each evaluation set.
      tasks: of tasks or mixtures the names; those of the paper's CLUE average unless given.
      limit: examples of each task, the first ones; all unless given.
    """

    every_steps: int = 0
    data_dir: str = ""
    tasks: tuple[str, ...] = tuple(f"{name}_0shot" for name in paper_numbers.CLUE)
    limit: int | None = None

    def __post_init__(self):
        if self.every_steps < 0:
            raise InputError(
                f"EvaluationConfig.every_steps = {self.every_steps}; it must be 0 (off) or more"
            )
        if self.limit is not None:
            require_positive(self, "limit")
        if self.every_steps and not (self.data_dir and self.tasks):
            raise InputError(
                f"EvaluationConfig.every_steps = {self.every_steps} needs EvaluationConfig.tasks "
                "and EvaluationConfig.data_dir, which holds a folder for each of their sets"
            )


def check(config: EvaluationConfig, user_modules: Sequence[str]) -> None:
    """Refuses tasks that could not be evaluated on the way; loads seqio if there are any.

    Raises:
      InputError: a task is not known, or its data is not there.
    """
    if not config.every_steps:
        return
    data_dir = literal(config.data_dir)
    if not data_dir.is_dir():
        raise InputError(f"EvaluationConfig.data_dir = {config.data_dir} is no folder")
    with run_beginning.without_stderr():
        from welm_jax.evaluate import evaluator
    run_beginning.import_modules(user_modules)
    asked = list(evaluator.rows_of(config.tasks, data_dir))
    rows = {row.name: row for row, _ in (one for one in asked if not isinstance(one, str))}
    lacking = [name for name, row in rows.items() if row.available(data_dir) is None]
    if lacking or not asked:
        raise InputError(
            f"{data_dir} has no data of {', '.join(lacking or config.tasks)}; put it there, or let "
            "EvaluationConfig.tasks name only tasks whose data is there"
        )


def callback(run: RunFolder, parts: RunParts, log: RunLog) -> loop.Callback:
    """What training calls to have its parameters evaluated."""
    # In float32, whatever is trained in: see loaded_run.evaluate_tasks.
    model = dataclasses.replace(parts.config["ModelConfig"], compute_dtype="float32")
    assemble, config = Assembler(model), parts.config["EvaluationConfig"]

    def evaluate_tasks(state: TrainState, progress: Progress) -> None:
        asked = Model(assemble=assemble, parameters=state.parameters, mesh=parts.mesh)
        if not hosts.is_first():
            asked.follow()
            return
        place = {name: getattr(progress, name) for name in ("attempt", "step", "cursor", "tokens")}
        try:
            with log.lent() as console:
                found, _ = evaluated(run, asked, progress, config, WINDOW, console)
            log.evaluation(place, _scores(found))
            log.say(f"step {progress.step}: {_average_in_words(found, config.limit)}")
        except OutOfStep:
            raise
        except Exception as error:  # whatever it is, training is worth more
            failure = as_failure(error)
            told = str(failure) if failure else traceback.format_exc()
            log.say(f"step {progress.step}: NOT EVALUATED, and training goes on: {told}")
            named = str(failure) if failure else f"{type(error).__name__}: {error}"
            log.evaluation(place, {}, failed=named.partition("\n")[0])
        asked.dismiss()

    return evaluate_tasks


def is_missing(run: RunFolder, config: EvaluationConfig, progress: Progress) -> bool:
    """Whether a kill, or a request to stop, cut the evaluation of the step training goes on from.

    Then metrics.jsonl tells neither its scores nor why there are none. Of several processes all
    must ask.
    """
    if not config.every_steps or not progress.step or progress.step % config.every_steps:
        return False
    place = {"attempt": progress.attempt, "step": progress.step}.items()

    def is_told(line: Mapping[str, Any]) -> bool:
        return ("scores" in line or "failed" in line) and place <= line.items()

    return hosts.by_first(lambda: not any(map(is_told, run_files.read_lines(run.metrics))))


def evaluated(
    run: RunFolder,
    asked: Model,
    progress: Progress,
    config: EvaluationConfig,
    window: int,
    console: Console,
    user_modules: Sequence[str] = (),
) -> tuple[dict[str, dict[str, Any]], str]:
    """Evaluates tasks and files all that comes of it in evaluation/<step>/.

    Args:
      run: the folder.
      asked: the model.
      progress: where its training stood.
      config: which tasks, and how much of them.
      window: tokens that a prompt and its answer may take together.
      console: tells how far it is.
      user_modules: modules that register seqio Tasks and are not imported yet.

    Returns:
      Name -> summary of each task that could be done, and the tables as Markdown.

    Raises:
      InputError: a task is not known, or none could be evaluated.
    """
    with run_beginning.without_stderr():
        from welm_jax.evaluate import evaluator
        from welm_jax.tasks.vocabulary import WelmVocabulary
    run_beginning.import_modules(user_modules)
    subject = evaluator.Subject(
        assemble=asked.assemble,
        parameters=asked.parameters,
        mesh=asked.mesh,
        vocabulary=WelmVocabulary(str(run.own_tokenizer())),
        window=window,
        step=progress.step,
        attempt=progress.attempt,
    )
    folder = run.evaluation / f"{progress.step}"
    data_dir = literal(config.data_dir)
    about, name = subject.about(config.limit), run.path.resolve().name
    try:
        found = evaluator.evaluate(subject, config.tasks, data_dir, folder, config.limit, console)
    except evaluator.NoneEvaluated:
        result_files.write_tables(folder, about, name)  # older figures of these tasks are gone
        raise
    return found, result_files.write_tables(folder, about, name)


def _scores(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The figures of an evaluation by name, the CLUE average among them.

    One of fewer rows is named by their number, so that no curve joins it with one of all.
    """
    scores = {}
    for name, summary in found.items():
        of_others = summary.get("metrics", {})  # of a task that is not of ours
        scores |= {f"{name}/{metric}": value for metric, value in of_others.items()}
        scores |= {name: summary["value"]} if "value" in summary else {}
    average = averages.clue_average(found)
    if average.value is None:
        return scores
    there = len(paper_numbers.CLUE) - len(average.missing)
    name = f"clue_average_of_{there}" if average.missing else "clue_average"
    return scores | {name: average.value}


def _average_in_words(found: Mapping[str, Mapping[str, Any]], limit: int | None) -> str:
    average = averages.clue_average(found)
    if average.value is None:
        return f"{len(found)} tasks evaluated, none of which counts for the CLUE average"
    of = averages.clue_rows_in_words(average, limit)
    return f"CLUE average, zero-shot, {average.value:.2f}, the mean of {of}"
