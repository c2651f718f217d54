"""The rows of the paper's tables as seqio Tasks, for our evaluator or any other that takes those.

A Task's examples are pairs of ids, `inputs` and `targets`. A question with choices is one example
for each choice, scored by its log-likelihood; what pmi takes off, a choice after nothing, is one
for each choice that there is. A question that is answered freely is one example, without targets.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from welm_jax.failures import InputError, StopAndLook
from welm_jax.tasks import chinese, cross_lingual, examples, judgement, set_files
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import EvalSet, Prompter, Question, Row
from welm_jax.tasks.vocabulary import WelmVocabulary

# TensorFlow only feeds seqio here; left alone, it would take every GPU's memory from jax.
tf.config.set_visible_devices([], "GPU")

SPLIT, POOL = "validation", "train"
AFTER_NOTHING = -1
NAMED = 5  # odd examples that a summary names
MIXTURES = {"welm_table3": chinese.ROWS, "welm_table5": cross_lingual.ROWS}


class AsTheyAre(seqio.PassThroughFeatureConverter):
    """Hands features on, and has what seqio's evaluator asks of a converter besides."""

    TASK_FEATURES = {
        name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32) for name in ("inputs", "targets")
    }
    pack = False


@dataclass(frozen=True, kw_only=True)
class EvalTask:
    """A row's questions, zero-shot or few-shot.

    Attributes:
      name: of the seqio Task, such as cmrc2018_0shot.
      row: of the tables.
      eval_set: where its examples come from.
      shots: demonstrations wanted.
      questions: as a model is asked them.
      skipped: why other examples are not asked, counted.
      eod_id: what stands before a text; the prompt of a choice after nothing.
      odd: examples of which something is left out, or all.
    """

    name: str
    row: Row
    eval_set: EvalSet
    shots: int
    questions: Sequence[Question]
    skipped: Mapping[str, int]
    eod_id: int
    odd: Sequence[Example] = ()

    def pairs(self) -> Iterator[dict[str, np.ndarray]]:
        """The seqio examples; `place` leads back to (question, choice), or (-1, choice as such)."""
        for number, question in enumerate(self.questions):
            for choice, ids in enumerate(question.candidates or [[]]):
                yield _pair(question.ids, ids, (number, choice))
        for number, ids in enumerate(self._distinct):
            yield _pair([self.eod_id], ids, (AFTER_NOTHING, number))

    @functools.cached_property
    def _distinct(self) -> dict[tuple[int, ...], int]:
        """Each choice that any question has -> its number."""
        found = dict.fromkeys(tuple(ids) for one in self.questions for ids in one.candidates)
        return {ids: number for number, ids in enumerate(found)}

    def outcomes(self, places: Sequence[Sequence[int]], given: Sequence[Any]) -> list[dict]:
        """What was given for each question, judged.

        Args:
          places: of the seqio examples, in any order.
          given: for each the log-likelihood of its target, or the text that was generated.
        """
        by_place = {tuple(map(int, place)): one for place, one in zip(places, given, strict=True)}
        found = []
        for number, question in enumerate(self.questions):
            if question.candidates:
                sums = [by_place[number, choice] for choice in range(len(question.candidates))]
                null_sums = [
                    by_place[AFTER_NOTHING, self._distinct[tuple(ids)]]
                    for ids in question.candidates
                ]
                if np.isfinite([*sums, *null_sums]).all():  # what is not is counted in the summary
                    found.append(judgement.of_choice(self.row, question, sums, null_sums))
            else:
                found.append(judgement.of_answer(self.row, question, by_place[number, 0]))
        return found

    def summary(self, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the task comes to: judgement.summary, and which examples are odd.

        `skipped_ids` has the first ids of those left out, `lacks` number and first ids of those
        asked without something, both by reason.

        Raises:
          StopAndLook: the model gave no numbers at all.
        """
        skipped = dict(self.skipped)
        if lost := len(self.questions) - len(outcomes):
            skipped["the model's likelihoods are no numbers"] = lost
        if not outcomes:
            raise StopAndLook(f"{self.name}: none of the model's likelihoods is a number")
        lacking = _ids_by_reason(self.odd, "lacks").items()
        return {
            **judgement.summary(self.row, outcomes, skipped),
            "skipped_ids": {
                reason: ids[:NAMED] for reason, ids in _ids_by_reason(self.odd, "skipped").items()
            },
            "lacks": {reason: {"count": len(ids), "ids": ids[:NAMED]} for reason, ids in lacking},
        }


def _ids_by_reason(odd: Sequence[Example], field: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in odd:
        if reason := getattr(one, field):
            found.setdefault(reason, []).append(one.id)
    return found


def _pair(inputs: Sequence[int], targets: Sequence[int], place: tuple) -> dict[str, np.ndarray]:
    return {
        "inputs": np.array(inputs, np.int32),
        "targets": np.array(targets, np.int32),
        "place": np.array(place, np.int32),
    }


def prepared(
    row: Row,
    shots: int,
    data_dir: epath.Path,
    vocabulary: WelmVocabulary,
    window: int,
    limit: int | None = None,
) -> EvalTask:
    """Reads a row's examples and makes its questions.

    Args:
      row: of the tables.
      shots: demonstrations wanted.
      data_dir: holds a folder for each set.
      vocabulary: the model's.
      window: tokens that a prompt and its answer may take together.
      limit: examples to take, the first ones; all unless given.

    Raises:
      InputError: the row's data is not there, or not of its format, or nothing of it can be asked.
    """
    eval_set = row.available(data_dir)
    if eval_set is None:
        wanted = " or ".join(one.folder for one in row.sets)
        raise InputError(f"{row.name} needs {wanted} in {data_dir}, with a {SPLIT} split")
    if not set_files.is_json_lines(data_dir / eval_set.folder, SPLIT):
        eval_set = replace(
            eval_set, checked="own fixture"
        )  # no file of the Hub or TFDS was at hand
    read = examples.read(data_dir / eval_set.folder, SPLIT, eval_set.reader)[:limit]
    asked = judgement.answerable(row, read)
    pool, pool_folder = [], data_dir / (eval_set.pool or eval_set.folder)
    if shots and set_files.has_split(pool_folder, POOL):
        pool = examples.read(pool_folder, POOL, eval_set.reader)
    prompter = Prompter(row=row, tokenizer=vocabulary.tokenizer, window=window, shots=shots)
    questions, skipped = prompter.questions(asked, pool)
    if not questions:
        raise InputError(f"{row.name}: none of {len(asked)} examples can be asked: {dict(skipped)}")
    return EvalTask(
        name=f"{row.name}_{shots}shot",
        row=row,
        eval_set=eval_set,
        shots=shots,
        questions=questions,
        skipped=skipped,
        odd=[one for one in asked if one.skipped or one.lacks],
        eod_id=vocabulary.eos_id,
    )


def register(task: EvalTask, vocabulary: WelmVocabulary) -> seqio.Task:
    """Registers a task with seqio, in place of one that had its name."""
    if task.name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(task.name)
    ids = tf.TensorSpec([None], tf.int32)
    spec = {"inputs": ids, "targets": ids, "place": tf.TensorSpec([2], tf.int32)}

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(task.pairs, output_signature=spec)

    chosen = task.row.metric == judgement.ACCURACY
    return seqio.TaskRegistry.add(
        task.name,
        source=seqio.FunctionDataSource(dataset, splits=[SPLIT]),
        preprocessors=[],
        output_features={
            name: seqio.Feature(vocabulary, add_eos=False, required=False)
            for name in ("inputs", "targets")
        },
        postprocess_fn=_place_or_text,
        metric_fns=[functools.partial(_metric_of_scores if chosen else _metric_of_texts, task)],
    )


def _place_or_text(decoded: Any, example: Mapping[str, Any], is_target: bool = False) -> Any:
    return example["place"].tolist() if is_target else decoded


def _metric_of_scores(task: EvalTask, targets: Sequence, scores: Sequence) -> dict[str, float]:
    return _metric(task, targets, scores)


def _metric_of_texts(task: EvalTask, targets: Sequence, predictions: Sequence) -> dict[str, float]:
    return _metric(task, targets, predictions)


def _metric(task: EvalTask, places: Sequence, given: Sequence) -> dict[str, float]:
    """The headline alone; seqio tells by the names of arguments what a metric wants."""
    summary = task.summary(task.outcomes(places, given))
    return {summary["metric"]: summary["value"]}
