"""Log-likelihoods of candidates after a prompt: ids in, numbers out. It knows no tokenizer.

The candidates of a prompt share one row, in which each sees the prompt and itself alone and counts
its positions from the prompt's end; so the prompt is computed once for all of them.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from welm_jax.decode.shapes import (
    bucket,
    lengths,
    most_rows,
    padded_rows,
    power_of_two,
    row_numbers,
)
from welm_jax.failures import InputError
from welm_jax.model import attention, axes, loss, masks
from welm_jax.model.decoder import Assembler

LOGITS_AT_A_TIME = 32  # scored places of a row whose logits exist at one time
SHORTEST = 32  # row, and number of places


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt and what may follow it.

    Attributes:
      prompt: ids below vocab_size, at least one; a document's beginning is [eod_id].
      candidates: ids of each, at least one.
    """

    prompt: Sequence[int]
    candidates: Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Some candidates of a question behind their prompt."""

    question: int
    first: int  # of the candidates
    prompt: Sequence[int]
    candidates: Sequence[Sequence[int]]

    @property
    def length(self) -> int:
        return len(self.prompt) + self.places

    @property
    def places(self) -> int:
        return sum(map(len, self.candidates))


def log_likelihoods(
    assemble: Assembler,
    parameters: PyTree,
    questions: Sequence[Question],
    *,
    row_tokens: int,
    batch_tokens: int,
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Scores the candidates of each question, the shortest rows first.

    A score does not depend on the other questions or candidates. Call it under the mesh on which
    the parameters live. Rows are filled up to lengths of which there are few, so that few programs
    are compiled.

    Args:
      assemble: makes the decoder; the same object every time, or it compiles again.
      parameters: the decoder's weights, sharded as in training.
      questions: what is asked.
      row_tokens: most tokens of a row that holds several candidates; one that is longer by itself
        has a longer row.
      batch_tokens: of the rows that are computed together, about.

    Yields:
      The number of a question, once all of it is scored, and for each of its candidates the
      log-probability of each of its ids, float32.

    Raises:
      InputError: a prompt or a candidate is empty or holds an id that the vocabulary has not.
    """
    _check(questions, assemble.config.vocab_size)
    rows = sorted(
        (row for number, one in enumerate(questions) for row in _rows(number, one, row_tokens)),
        key=_sizes,
    )
    found: dict[int, list[np.ndarray | None]] = {}
    missing = [len(one.candidates) for one in questions]
    for batch in _batches(rows, batch_tokens):
        size = padded_rows(len(batch), most_rows(_sizes(batch[0])[0], batch_tokens))
        scores = np.asarray(_scores(assemble, parameters, *_arrays(batch, size)))
        for row, of_row in zip(batch, scores[: len(batch)], strict=True):
            ends = np.cumsum([len(one) for one in row.candidates])
            parts = np.split(of_row[: row.places], ends[:-1])
            slots = found.setdefault(row.question, [None] * len(questions[row.question].candidates))
            slots[row.first : row.first + len(parts)] = parts
            missing[row.question] -= len(parts)
            if not missing[row.question]:
                yield row.question, found.pop(row.question)


def programs(longest: int, batch_tokens: int) -> tuple[int, int]:
    """How many programs were compiled for scoring in this process, and the most there can be.

    A shape has a length, a number of scored places (a power of two) and a number of rows. One call
    needs no more than two shapes for each length and number of places. Call it under the mesh on
    which the model lives, by which rows are counted.

    Args:
      longest: tokens of a row.
      batch_tokens: as in log_likelihoods.
    """
    most = sum(
        len(row_numbers(length, batch_tokens)) * (power_of_two(length) // SHORTEST).bit_length()
        for length in lengths(longest, SHORTEST)
    )
    return _scores._cache_size(), most


def _check(questions: Sequence[Question], vocab_size: int) -> None:
    for number, one in enumerate(questions):
        if not one.candidates or not all(map(len, [one.prompt, *one.candidates])):
            raise InputError(
                f"question {number} has an empty prompt or candidate; give each a token (eod_id "
                "begins a document)"
            )
        ids = np.concatenate([one.prompt, *one.candidates])
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise InputError(
                f"question {number} holds ids from {ids.min()} to {ids.max()}, but the model knows "
                f"0 to {vocab_size - 1}; use the tokenizer the model was trained with"
            )


def _rows(number: int, question: Question, row_tokens: int) -> Iterator[_Row]:
    """The candidates of a question in as few rows as hold them."""
    first, held, length = 0, [], len(question.prompt)
    for place, candidate in enumerate(question.candidates):
        if held and length + len(candidate) > row_tokens:
            yield _Row(question=number, first=first, prompt=question.prompt, candidates=held)
            first, held, length = place, [], len(question.prompt)
        held = [*held, candidate]
        length += len(candidate)
    yield _Row(question=number, first=first, prompt=question.prompt, candidates=held)


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[Sequence[_Row]]:
    """Neighbours of the same two sizes, as many as are computed together."""
    waiting: list[_Row] = []
    for row in rows:
        same = waiting and _sizes(waiting[0]) == _sizes(row)
        if waiting and (not same or len(waiting) == most_rows(_sizes(row)[0], batch_tokens)):
            yield waiting
            waiting = []
        waiting.append(row)
    if waiting:
        yield waiting


def _sizes(row: _Row) -> tuple[int, int]:
    return bucket(row.length, SHORTEST), max(power_of_two(row.places), SHORTEST)


def _arrays(rows: Sequence[_Row], batch: int) -> tuple[np.ndarray, ...]:
    """Tokens, positions and segments [B, T]; the places that predict, and what they should, [B, S].

    Segment 0 is the prompt's, and that of the padding behind all else, which nobody sees.
    """
    length, places = _sizes(rows[0])
    tokens, positions, segments = (np.zeros((batch, length), np.int32) for _ in range(3))
    sources, targets = (np.zeros((batch, places), np.int32) for _ in range(2))
    for at, row in enumerate(rows):
        begin = len(row.prompt)
        ids = [*row.prompt, *(token for one in row.candidates for token in one)]
        tokens[at, : row.length] = ids
        positions[at, :begin] = np.arange(begin)
        targets[at, : row.places] = ids[begin:]
        scored = 0
        for number, candidate in enumerate(row.candidates, 1):
            own = slice(begin + scored, begin + scored + len(candidate))
            positions[at, own] = begin + np.arange(len(candidate))
            segments[at, own] = number
            # The first id is predicted by the prompt's last, each other by the one before it.
            of_own = slice(scored, scored + len(candidate))
            sources[at, of_own] = [begin - 1, *range(own.start, own.stop - 1)]
            scored += len(candidate)
    return tokens, positions, segments, sources, targets


@functools.partial(jax.jit, static_argnums=0)
def _scores(
    assemble: Assembler,
    parameters: PyTree,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    sources: Int[Array, "B S"],
    targets: Int[Array, "B S"],
) -> Float[Array, "B S"]:
    """Log-probability of each target after its source."""
    tokens, positions, segments, sources, targets = jax.reshard(
        (tokens, positions, segments, sources, targets), axes.spec("batch")
    )
    mask = masks.shared_prompt(segments)

    def attend(queries, keys, values, state):
        return attention.masked(queries, keys, values, mask), state

    decoder = assemble(parameters)
    hidden, _ = decoder.run(tokens, positions, attend, None)
    # A product with ones and zeros, exact: a gather would have to be told where its result lives.
    chosen = jax.nn.one_hot(sources, tokens.shape[1], dtype=hidden.dtype)
    hidden = jnp.einsum("bst,btd->bsd", chosen, hidden, precision="highest")
    chunks = max(sources.shape[1] // LOGITS_AT_A_TIME, 1)
    losses = loss.token_losses_of(
        hidden, decoder.head_matrix(), targets, vocab_size=assemble.config.vocab_size, chunks=chunks
    )
    return jax.reshard(-losses, jax.P())  # every host gets every row
