"""Which solved examples stand before a question: drawn for each anew, and never of its own text."""

import random
from collections.abc import Sequence

from welm_jax.tasks import same_text
from welm_jax.tasks.examples import Example

SEED = 0  # of all draws in an evaluation


def choose(
    pool: Sequence[Example], example: Example, shots: int, task: str, seed: int = SEED
) -> list[Example]:
    """Examples to demonstrate with, in the order in which they are shown.

    They depend on the task, the example and the seed alone, so that all models see the same.

    Args:
      pool: of the training split.
      example: the question.
      shots: how many are wanted; fewer come back where the pool has no more that may be shown.
      task: its name.
      seed: of the draw.
    """
    drawn = list(range(len(pool)))
    random.Random(f"{task} {example.id} {seed}").shuffle(drawn)
    found: list[Example] = []
    for place in drawn:
        if len(found) == shots:
            break
        if not pool[place].skipped and not shares_text(pool[place], example):
            found.append(pool[place])
    return found


def shares_text(one: Example, other: Example) -> bool:
    """Whether both are about the same text, or have 34 characters in a row in common."""
    texts = ("\n".join(example.inputs.values()) for example in (one, other))
    shared = frozenset.intersection(*map(same_text.runs, texts))
    return one.group == other.group or bool(shared)
