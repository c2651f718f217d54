"""From what a model gave to what it scored: one outcome a question, and a summary of a task.

Outcomes are plain dicts, as they are written to disk, so that whoever distrusts a number can look.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from welm_jax.tasks import scores
from welm_jax.tasks.demonstrations import SEED
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import Question, Row

TIE = 1e-4  # scores that differ by less are equal, for equal ones differ by rounding
NEGATIVE_SEEDS = 3  # draws of wrong labels over which accuracy is averaged
NORMS = ("token_mean", "sum", "char_mean", "byte_mean", "pmi")
HEADLINE = NORMS[0]  # the paper compares perplexities
ACCURACY, BLEU = "acc", "bleu_"  # a metric, and what others begin with
NOT_SCORED = "a reference that the metric gives nothing"
STRICT = "webqa_strict"  # of a corpus: right answers among those given and those asked for


def answerable(row: Row, asked: Sequence[Example]) -> list[Example]:
    """The examples without references that the headline gives nothing, even as the answer.

    Such as marks alone, which are taken away from every answer; an example that has no other is
    left out. Where that is most of them, all stay: not the data is odd then but the metric, and
    self-checks tell.
    """
    if row.metric not in scores.ANSWER_SCORES:
        return list(asked)
    score, found = scores.ANSWER_SCORES[row.metric], []
    for one in asked:
        kept = [text for text in one.references if math.isclose(score(text, text), 1)]
        if len(kept) < len(one.references):
            lost = {"references": kept, "lacks": NOT_SCORED} if kept else {"skipped": NOT_SCORED}
            found.append(replace(one, **lost))
        else:
            found.append(one)
    changed = sum(one is not other for one, other in zip(found, asked, strict=True))
    return found if 2 * changed <= len(asked) else list(asked)


def of_choice(
    row: Row, question: Question, sums: Sequence[float], null_sums: Sequence[float]
) -> dict[str, Any]:
    """The outcome of a question with choices.

    Args:
      row: of the tables.
      question: as it was asked.
      sums: log-likelihood of each candidate after the prompt.
      null_sums: the same after nothing; what pmi takes off.

    Returns:
      Beside the question's own fields: `tokens` of each choice that are scored; `losses` by norm,
      of each choice, the least the best, `sum` in nats;
      `predicted` and `right` by norm, `right` between 0 and 1 where wrong labels are drawn.
    """
    sums, null_sums = np.asarray(sums, np.float64), np.asarray(null_sums, np.float64)
    lengths = {
        "token_mean": [len(ids) for ids in question.candidates],
        "sum": [1] * len(sums),
        "char_mean": [len(text) for text in question.texts],
        "byte_mean": [len(text.encode()) for text in question.texts],
    }
    losses = {norm: -sums / lengths[norm] for norm in lengths} | {"pmi": null_sums - sums}
    gold, everything = question.example.gold, range(len(sums))
    seeds = range(SEED, SEED + (NEGATIVE_SEEDS if row.negatives else 1))
    drawn = [_options(row, question, seed) for seed in seeds]
    return {
        **_asked(question),
        "choices": list(question.example.choices),
        "gold": gold,
        "tokens": lengths["token_mean"],
        "losses": {norm: loss.tolist() for norm, loss in losses.items()},
        "predicted": {norm: _best(loss, everything, question) for norm, loss in losses.items()},
        "right": {
            norm: float(np.mean([_best(loss, options, question) == gold for options in drawn]))
            for norm, loss in losses.items()
        },
        "chance": float(np.mean([1 / len(options) for options in drawn])),
    }


def of_answer(row: Row, question: Question, answer: str) -> dict[str, Any]:
    """The outcome of a question that was answered freely: `answer`, `references` and `scores`.

    What counts is the answer's first line. BLEU is a corpus's: of it there are `bleu_counts`.
    """
    said = answer.split("\n", 1)[0].strip()
    references = list(question.example.references)
    names = [name for name in (row.metric, *row.also) if name in scores.ANSWER_SCORES]
    outcome = {
        **_asked(question),
        "answer": said,
        "references": references,
        "scores": {
            name: scores.best_of(scores.ANSWER_SCORES[name], references, said) for name in names
        },
        "language_is_right": _is_in(row.language, said),
    }
    if row.metric.startswith(BLEU):
        tokenizer = row.metric.removeprefix(BLEU)
        outcome["bleu_counts"] = scores.bleu_counts(references, said, tokenizer)
    return outcome


def summary(row: Row, outcomes: Sequence[Mapping[str, Any]], skipped: Mapping[str, int]) -> dict:
    """What a task comes to, all in per cent.

    Args:
      row: of the tables.
      outcomes: of all questions that were scored.
      skipped: reason -> examples that were not.

    Returns:
      `value` is the headline and `interval` its own; `intervals` has those of all means, under the
      name of a norm or a score.
    """
    groups = [one["group"] for one in outcomes]
    found: dict[str, Any] = {
        "metric": row.metric,
        "scored": len(outcomes),
        "skipped": dict(skipped),
        "n": len(outcomes) + sum(skipped.values()),
        "shots": dict(Counter(str(one["shots"]) for one in outcomes)),
        "demonstrations": float(np.mean([one["shots"] for one in outcomes])),
        "demos_dropped": sum(one["demos_dropped"] for one in outcomes),
        "passages_cut": sum(one["passage_cut"] > 0 for one in outcomes),
    }
    if row.metric == ACCURACY:
        found |= _of_choices(row, outcomes, groups)
    else:
        found |= _of_answers(row, outcomes, groups)
    return found


def _of_choices(
    row: Row, outcomes: Sequence[Mapping[str, Any]], groups: Sequence[str]
) -> dict[str, Any]:
    columns = {norm: [one["right"][norm] for one in outcomes] for norm in NORMS}
    if row.negatives:
        among_all = [one["predicted"][HEADLINE] == one["gold"] for one in outcomes]
        columns["among_all_labels"] = among_all
    means, intervals = _means(columns, groups)
    by_norm = {norm: means.pop(norm) for norm in NORMS}
    return {
        "value": by_norm[HEADLINE],
        "interval": intervals[HEADLINE],
        "intervals": intervals,
        "norm": HEADLINE,
        "region": "label_suffix" if row.suffix else "label",
        "by_norm": by_norm,
        **means,
        "chance": 100 * float(np.mean([one["chance"] for one in outcomes])),
    }


def _of_answers(
    row: Row, outcomes: Sequence[Mapping[str, Any]], groups: Sequence[str]
) -> dict[str, Any]:
    columns = {name: [one["scores"][name] for one in outcomes] for name in outcomes[0]["scores"]}
    if row.language:
        columns["language_is_right"] = [one["language_is_right"] for one in outcomes]
    means, intervals = _means(columns, groups)
    also = {name: means.pop(name) for name in outcomes[0]["scores"]}
    if STRICT in row.also:
        right = sum(
            any(scores.is_webqa(reference, one["answer"]) for reference in one["references"])
            for one in outcomes
        )
        answered = sum(bool(one["answer"]) for one in outcomes)
        also[STRICT] = 100 * scores.chunk_f1(right, answered, len(outcomes))
    found = {"intervals": intervals, "also": also, **means}
    if row.metric.startswith(BLEU):
        references, answers = ([one[of] for one in outcomes] for of in ("references", "answer"))
        value, signature = scores.bleu(references, answers, row.metric.removeprefix(BLEU))
        counts = np.array([one["bleu_counts"] for one in outcomes])
        interval = scores.bleu_interval(counts, groups).tolist()
        return {"value": value, "interval": interval, "signature": signature, **found}
    return {"value": also[row.metric], "interval": intervals[row.metric], **found}


def _means(
    columns: Mapping[str, Sequence[float]], groups: Sequence[str]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The mean of each column, and its interval, in per cent."""
    if not columns:
        return {}, {}
    values = np.array([*columns.values()], np.float64).T
    means, intervals = values.mean(axis=0), scores.interval(values, groups).T
    return (
        dict(zip(columns, (100 * means).tolist(), strict=True)),
        dict(zip(columns, (100 * intervals).tolist(), strict=True)),
    )


def _is_in(language: str, said: str) -> bool:
    """Whether an answer is in a language; figures are in any, and Han alone may be Japanese."""
    found = scores.language_of(said)
    return bool(said) and found in (language, "", *["zh"] * (language == "ja"))


def _asked(question: Question) -> dict[str, Any]:
    return {
        "id": question.example.id,
        "group": question.example.group,
        "prompt": question.prompt,
        "shots": question.shots,
        "demos_dropped": question.demos_dropped,
        "passage_cut": question.passage_cut,
    }


def _options(row: Row, question: Question, seed: int) -> list[int]:
    """The choices that are compared: all, or the right one and some wrong ones, shuffled."""
    gold, places = question.example.gold, list(range(len(question.candidates)))
    if not row.negatives:
        return places
    draw = random.Random(f"{row.name} {question.example.id} {seed}")
    options = [gold, *draw.sample([place for place in places if place != gold], row.negatives)]
    draw.shuffle(options)
    return options


def _best(losses: np.ndarray, options: Sequence[int], question: Question) -> int:
    """The choice of least loss; of equal ones a drawn one, never the first."""
    least = min(losses[place] for place in options)
    tied = sorted(
        question.example.choices[place] for place in options if losses[place] <= least + TIE
    )
    chosen = random.Random(f"{question.example.id} {tied}").choice(tied)
    return list(question.example.choices).index(chosen)
