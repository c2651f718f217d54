"""Summaries of tasks that nobody was asked."""

import numpy as np

from welm_jax.tasks import chinese, cross_lingual, judgement
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import Question

ROWS = {row.name: row for row in (*chinese.ROWS, *cross_lingual.ROWS)}


def outcome(row, number, right, shots):
    """Of a question with four choices, or of one that is answered freely."""
    choices = ["甲", "乙", "丙", "丁"]
    example = Example(id=f"{number}", group=f"{number}", inputs={}, choices=choices, gold=0)
    if row.metric != judgement.ACCURACY:
        example = Example(id=f"{number}", group=f"{number}", inputs={}, references=["苹果"])
    question = Question(
        example=example,
        prompt="问",
        ids=[1],
        candidates=[[5], [6], [7], [8]],
        texts=choices,
        shots=shots,
        demos_dropped=0,
        passage_cut=0,
    )
    if example.references:
        return judgement.of_answer(row, question, "苹果" if right else "梨")
    return judgement.of_choice(row, question, [-1 if right else -9, -2, -2, -2], [0] * 4)


def summary(name, shots, right=1, of=4, **changed):
    """Of a row, as the evaluator gives it: some questions answered rightly, of a few."""
    row = ROWS[name]
    found = [outcome(row, number, number < right, shots) for number in range(of)]
    return {
        "task": f"{name}_{shots}shot",
        "split": "validation",
        "step": 7,
        "set": row.sets[0].folder,
        "stands_in": "",
        "checked": "nothing",
        "shots_asked": shots,
        "seed": 0,
        "prompt_id": row.prompt_id,
        "lead": 12.0,
        **judgement.summary(row, found, {}),
        **changed,
    }


def summaries(names, **changed):
    """Zero- and few-shot of each row, one question more right from row to row; by their names."""
    found = [
        summary(name, shots, right=number % 5, **changed)
        for number, name in enumerate(names)
        for shots in (0, ROWS[name].shots)
    ]
    return {one["task"]: one for one in found}


def mean(names):
    """What the average of those comes to."""
    return np.mean([100 * (number % 5) / 4 for number in range(len(names))])
