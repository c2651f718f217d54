"""Prompts of any length as arrays of few shapes, so that few programs are compiled for them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from welm_jax.decode.shapes import bucket, lengths, most_rows, padded_rows, row_numbers
from welm_jax.failures import InputError

SHORTEST = 32  # slots for a prompt
NO_TOKEN = -1


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """Prompts that are continued together, with room for what will be written.

    Rows end together: a shorter prompt begins with empty slots.

    Attributes:
      numbers: of the prompts. Rows beyond theirs fill up the array.
      tokens: ids, int32 [B, slots]; -1 before a prompt and where nothing is written yet.
      empty: slots before each prompt, int32 [B].
    """

    numbers: Sequence[int]
    tokens: np.ndarray
    empty: np.ndarray

    @property
    def is_filler(self) -> np.ndarray:
        """True, [B], for rows that are nobody's prompt."""
        return np.arange(len(self.tokens)) >= len(self.numbers)


def prompt_batches(
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    vocab_size: int,
    rows_each: int,
    batch_tokens: int,
) -> Iterator[PromptBatch]:
    """Neighbours in length together, the shortest first.

    Args:
      prompts: ids below vocab_size, at least one a prompt.
      max_new_tokens: slots for what will be written, 1 or more.
      vocab_size: ids that the model knows.
      rows_each: continuations of a prompt that are computed together.
      batch_tokens: of all continuations that are computed together, about.

    Raises:
      InputError: an empty prompt, an id the vocabulary does not have, or max_new_tokens below 1.
    """
    _check(prompts, max_new_tokens, vocab_size)
    waiting = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    while waiting:
        length = bucket(len(prompts[waiting[0]]), SHORTEST)
        most = most_rows(rows_each * (length + max_new_tokens), batch_tokens)
        numbers = [number for number in waiting[:most] if len(prompts[number]) <= length]
        waiting = waiting[len(numbers) :]
        rows = padded_rows(len(numbers), most)
        tokens = np.full((rows, length + max_new_tokens), NO_TOKEN, np.int32)
        empty = np.full(rows, length - 1, np.int32)  # whatever a filler's one token is
        for row, number in enumerate(numbers):
            empty[row] = length - len(prompts[number])
            tokens[row, empty[row] : length] = prompts[number]
        yield PromptBatch(numbers=numbers, tokens=tokens, empty=empty)


def most_programs(longest: int, batch_tokens: int) -> int:
    """The number of shapes that all prompts together can have, whatever their lengths.

    So many programs at most are compiled for one max_new_tokens, one way of choosing and one
    number of stop states; one call needs no more than two for each length, that of full batches
    and that of the last.

    Args:
      longest: tokens of a prompt.
      batch_tokens: as in prompt_batches.
    """
    return sum(len(row_numbers(length, batch_tokens)) for length in lengths(longest, SHORTEST))


def until_end(row: Sequence[int], eod_id: int) -> list[int]:
    """The ids of a row up to the end of its document, or of what was written."""
    return list(itertools.takewhile(lambda token: token not in (eod_id, NO_TOKEN), row))


def _check(prompts: Sequence[Sequence[int]], max_new_tokens: int, vocab_size: int) -> None:
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise InputError(
                f"prompt {number} is empty; give it a token (eod_id begins a document)"
            )
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            wrong = next(token for token in prompt if not 0 <= token < vocab_size)
            raise InputError(
                f"prompt {number} holds id {wrong}, but the model knows ids 0 to {vocab_size - 1}; "
                "use the tokenizer the model was trained with"
            )
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens = {max_new_tokens}; it must be 1 or more")
