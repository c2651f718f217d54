"""What a task's scores are for models of which they are known, before any other is believed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from welm_jax.failures import StopAndLook
from welm_jax.tasks import judgement
from welm_jax.tasks.eval_tasks import EvalTask
from welm_jax.tasks.prompted import Question

FORGIVING = ("f1_cmrc", "em_cmrc")  # metrics that see no full stop
UNLIKELY = 4.5  # standard deviations off chance that a uniform model may score

Fake = Callable[[Question], list[float]]  # gives log-likelihoods of its choices


def check(task: EvalTask, vocab_size: int) -> dict[str, float]:
    """Scores fakes on a task.

    Args:
      task: with its questions.
      vocab_size: of the uniform model.

    Returns:
      Name of the fake -> its score, and what chance is; only of those that could be scored.

    Raises:
      StopAndLook: a fake does not score what it must; names it.
    """
    if task.row.metric == judgement.ACCURACY:
        return _of_certain_models(task) | _of_a_uniform_model(task, vocab_size)
    return _of_answers(task)


def _of_certain_models(task: EvalTask) -> dict[str, float]:
    """Those that like one choice of each question, or all but one."""
    golds = [one.example.gold for one in task.questions]
    places = range(min(len(one.candidates) for one in task.questions))
    often = max(places, key=golds.count)

    def scored(fake: Fake, figure: str = "value") -> float:
        return task.summary(_outcomes(task, fake))[figure]

    oracle = scored(lambda one: _liking(one, one.example.gold))
    anti_oracle = scored(lambda one: [-1e4 - like for like in _liking(one, one.example.gold)])
    among_all = "among_all_labels" if task.row.negatives else "value"
    constant = scored(lambda one: _liking(one, often), among_all)
    _must(task, "the oracle", oracle, oracle == 100)
    _must(task, "the anti-oracle", anti_oracle, anti_oracle == 0)
    share = 100 * golds.count(often) / len(golds)
    _must(task, f"a constant that is right in {share:g} %", constant, math.isclose(constant, share))
    return {"oracle": oracle, "anti_oracle": anti_oracle, "constant": constant}


def _of_a_uniform_model(task: EvalTask, vocab_size: int) -> dict[str, float]:
    """By means of tokens at chance, by their sum for the choice that has the fewest."""
    outcomes = _outcomes(
        task, lambda one: [-len(ids) * math.log(vocab_size) for ids in one.candidates]
    )
    found = task.summary(outcomes)
    chance = found["chance"] / 100
    spread = UNLIKELY * math.sqrt(chance * (1 - chance) / found["scored"])
    _must(task, "a uniform model", found["value"], abs(found["value"] / 100 - chance) <= spread)
    losses = [loss for one in outcomes for loss in one["losses"]["token_mean"]]
    perplexity = math.exp(float(np.mean(losses)))
    _must(task, "a uniform model's perplexity", perplexity, math.isclose(perplexity, vocab_size))
    shortest = 0
    for question, outcome in zip(task.questions, outcomes, strict=True):
        lengths = [len(ids) for ids in question.candidates]
        shortest += lengths[outcome["predicted"]["sum"]] == min(lengths)
    share = 100 * shortest / len(outcomes)
    _must(task, "by sums, a uniform model's share of shortest choices", share, share == 100)
    return {"uniform": found["value"], "chance": found["chance"]}


def _of_answers(task: EvalTask) -> dict[str, float]:
    def outcomes(answer: Callable[[Question], str]) -> list[dict[str, Any]]:
        return [judgement.of_answer(task.row, one, answer(one)) for one in task.questions]

    right = outcomes(lambda one: one.example.references[0])
    nothing = task.summary(outcomes(lambda one: ""))["value"]
    _must(task, "an empty answer", nothing, nothing == 0)
    found = {"empty": nothing}
    # Without a run of four tokens BLEU is not 100 whoever answers: the oracle would show nothing.
    if not task.row.metric.startswith(judgement.BLEU) or any(
        one["bleu_counts"][-1] for one in right
    ):
        found["oracle"] = oracle = task.summary(right)["value"]
        _must(task, "the oracle", oracle, math.isclose(oracle, 100))
    if forgiving := [name for name in FORGIVING if name in (task.row.metric, *task.row.also)]:
        stopped = task.summary(outcomes(lambda one: one.example.references[0] + "。"))["also"]
        for name in forgiving:
            found[f"full_stop_{name}"] = value = stopped[name]
            _must(task, f"the answer and a full stop, by {name},", value, math.isclose(value, 100))
    return found


def _liking(question: Question, place: int) -> list[float]:
    return [0.0 if at == place else -1e4 for at in range(len(question.candidates))]


def _outcomes(task: EvalTask, fake: Fake) -> list[dict[str, Any]]:
    return [
        judgement.of_choice(task.row, one, fake(one), [0.0] * len(one.candidates))
        for one in task.questions
    ]


def _must(task: EvalTask, who: str, scored: float, holds: bool) -> None:
    if not holds:
        raise StopAndLook(
            f"{task.name}: {who} scores {scored:g}, which cannot be; its data or its metric is "
            "broken, so no score of it is to be believed"
        )
