"""What a task's scores are for models of which they are known, before any other is believed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from welm_jax.failures import StopAndLook
from welm_jax.tasks import judgement
from welm_jax.tasks.eval_tasks import EvalTask
from welm_jax.tasks.prompted import Question

UNLIKELY = 4.5  # standard deviations off chance that a uniform model may score


def check(task: EvalTask, vocab_size: int) -> dict[str, float]:
    """Scores fakes on a task.

    Args:
      task: with its questions.
      vocab_size: of the uniform model.

    Returns:
      Name of the fake -> its score, and what chance is.

    Raises:
      StopAndLook: a fake does not score what it must; names it.
    """
    chosen = task.row.metric == judgement.ACCURACY
    return _of_choices(task, vocab_size) if chosen else _of_answers(task)


def _of_choices(task: EvalTask, vocab_size: int) -> dict[str, float]:
    def knowing(gold: float, others: float) -> Callable[[Question], list[float]]:
        return lambda one: [
            gold if at == one.example.gold else others for at in range(len(one.candidates))
        ]

    def uniform(one: Question) -> list[float]:
        return [-len(ids) * math.log(vocab_size) for ids in one.candidates]

    oracle, anti_oracle = (_accuracy(task, knowing(*by)) for by in ((0.0, -1e4), (-1e4, 0.0)))
    summary = _summary(task, uniform)
    chance, scored = summary["chance"] / 100, summary["scored"]
    losses = [loss for one in _outcomes(task, uniform) for loss in one["losses"]["token_mean"]]
    _must(task, "the oracle", oracle, oracle == 100)
    _must(task, "the anti-oracle", anti_oracle, anti_oracle == 0)
    spread = UNLIKELY * math.sqrt(chance * (1 - chance) / scored)
    off = abs(summary["value"] / 100 - chance)
    _must(task, "a uniform model", summary["value"], off <= spread)
    perplexity = math.exp(float(np.mean(losses)))
    _must(task, "a uniform model's perplexity", perplexity, math.isclose(perplexity, vocab_size))
    return {
        "oracle": oracle,
        "anti_oracle": anti_oracle,
        "uniform": summary["value"],
        "chance": summary["chance"],
    }


def _of_answers(task: EvalTask) -> dict[str, float]:
    def scored(answer: Callable[[Question], str]) -> float:
        outcomes = [judgement.of_answer(task.row, one, answer(one)) for one in task.questions]
        return task.summary(outcomes)["value"]

    oracle = scored(lambda one: one.example.references[0])
    nothing = scored(lambda one: "")
    longest = max(len(one) for asked in task.questions for one in asked.example.references)
    is_short = task.row.metric.startswith("bleu_") and longest < 12  # BLEU wants runs of four
    _must(task, "the oracle", oracle, is_short or math.isclose(oracle, 100))
    _must(task, "an empty answer", nothing, nothing == 0)
    return {"oracle": oracle, "empty": nothing}


def _outcomes(task: EvalTask, sums: Callable[[Question], list[float]]) -> list[dict[str, Any]]:
    return [
        judgement.of_choice(task.row, one, sums(one), [0.0] * len(one.candidates))
        for one in task.questions
    ]


def _summary(task: EvalTask, sums: Callable[[Question], list[float]]) -> dict[str, Any]:
    return task.summary(_outcomes(task, sums))


def _accuracy(task: EvalTask, sums: Callable[[Question], list[float]]) -> float:
    return _summary(task, sums)["value"]


def _must(task: EvalTask, who: str, scored: float, holds: bool) -> None:
    if not holds:
        raise StopAndLook(
            f"{task.name}: {who} scores {scored:g}, which cannot be; its data or its metric is "
            "broken, so no score of it is to be believed"
        )
