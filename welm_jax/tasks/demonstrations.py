"""Which solved examples stand before a question: drawn for each anew, and never of its own text."""

import functools
import random
import re
from collections.abc import Sequence

from welm_jax.tasks.examples import Example

SEED = 0  # of all draws in an evaluation
SHARED = 34  # characters in a row that make two texts the same, as section 2 counts overlap


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
    """Whether both are about one passage, or have 34 characters in common but for punctuation."""
    return one.group == other.group or not _grams(_text(one)).isdisjoint(_grams(_text(other)))


def _text(example: Example) -> str:
    return "\n".join(example.inputs.values())


@functools.lru_cache(maxsize=2048)  # a pool and the question at hand
def _grams(text: str) -> frozenset[str]:
    """All runs of SHARED characters of each line, without blanks and punctuation."""
    lines = (re.sub(r"[\W_]+", "", line) for line in text.split("\n"))
    return frozenset(
        line[at : at + SHARED] for line in lines for at in range(len(line) - SHARED + 1)
    )
