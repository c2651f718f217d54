"""Contamination: documents that share long runs of characters with evaluation text.

Compared are 17-grams of characters without blanks and punctuation, in lower case, full width as
half, Traditional as Simplified: a copy in the other script is a copy. 17 letters are four words or
a line of code, and 17 digits are two dates, which anybody may write. So a run of 17-grams counts
only if one of them is mostly ideographs, kana or Hangul, or if it has 60 characters, some 13 words.
That is asked of the run, in any text, and a longer run never counts less. A 17-gram that repeats up
to four characters, such as a ruled line, is in no index. Knows nothing of files, nor of what the
evaluation is for.

Source: WeLM section 2.1 (two 17-grams); what a run must have is our choice.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_pipelines.characters import KINDS, Kind, folded, hash_ngrams, owners
from beam_pipelines.evaluation_text import evaluation_files, texts_by_task
from beam_pipelines.ideographs import simplified

NGRAM = 17
MOST_SHARED = 1  # places in a document at which a 17-gram of an evaluation text begins
LEAST_IDEOGRAPHS = 9  # in one 17-gram of a run; or
LEAST_CHARACTERS = 60  # of a run
_LONGEST_PERIOD = 4  # characters; 哈哈哈, xoxo and ruled lines are nobody's text
_IS_IDEOGRAPH = np.isin(KINDS, (Kind.HAN, Kind.KANA, Kind.HANGUL))
_TABLE_BITS = 27  # of a table of hashes that most lookups end at


class EvaluationIndex(NamedTuple):
    """The 17-grams of evaluation texts.

    Attributes:
      hashes: sorted, each once, uint64.
      is_known: whether any hash begins with these 27 bits, bool [2^27].
      tasks: names.
      pairs: sorted hashes, and the number of a task that has the 17-gram; one for each such task.
      too_short: texts of each task of which no run can count.
    """

    hashes: np.ndarray
    is_known: np.ndarray
    tasks: tuple[str, ...]
    pairs: tuple[np.ndarray, np.ndarray]
    too_short: dict[str, int]


def read_index(folder: str) -> EvaluationIndex:
    """Indexes the evaluation text below a folder.

    Raises:
      InputError: there is none, or a file is damaged.
    """
    files = evaluation_files(folder)
    return _read_index(folder, tuple((file, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=1)
def _read_index(folder: str, files: Sequence[tuple[Path, int]]) -> EvaluationIndex:
    texts = texts_by_task(folder, [file for file, _ in files])
    hashes, numbers, too_short = [], [], {}
    for number, (task, mine) in enumerate(texts.items()):
        codes, lengths = _compared(sorted(mine))
        found, counts = hash_ngrams(codes, lengths, NGRAM)
        starts = np.arange(len(found)) + _shifts(lengths, counts)[owners(counts)]
        dense = np.bincount(owners(counts)[_are_dense(codes, starts)], minlength=len(lengths))
        too_short[task] = int(((dense == 0) & (lengths < LEAST_CHARACTERS)).sum())
        hashes.append(np.unique(found[~_are_periodic(codes, starts)]))
        numbers.append(np.full(len(hashes[-1]), number))
    pairs, numbers = np.concatenate(hashes), np.concatenate(numbers)
    order = np.argsort(pairs, kind="stable")
    unique = np.unique(pairs)
    is_known = np.zeros(1 << _TABLE_BITS, bool)
    is_known[_heads(unique)] = True
    pairs = pairs[order], numbers[order]
    return EvaluationIndex(unique, is_known, tuple(texts), pairs, too_short)


class Shared(NamedTuple):
    """What a text shares with evaluation texts.

    Attributes:
      places: of the text at which a 17-gram of an evaluation text begins. Two may be one run of 18
        characters; so a 34-gram, which the paper names beside two 17-grams, always has two as well.
      tasks: name -> how many of these places it has.
      span: the first run of such places, as it was compared.
    """

    places: int
    tasks: dict[str, int]
    span: str


NOTHING = Shared(0, {}, "")


def is_contaminated(one: Shared) -> bool:
    """Whether a text shares too much with evaluation texts to be trained on."""
    return one.places > MOST_SHARED


def shared(texts: Sequence[str], index: EvaluationIndex) -> list[Shared]:
    """Looks each text up among the evaluation texts."""
    codes, lengths = _compared(texts)
    hashes, counts = hash_ngrams(codes, lengths, NGRAM)
    # 1. The 17-grams that evaluation texts have too, and where they begin.
    likely = np.flatnonzero(index.is_known[_heads(hashes)])
    places = np.minimum(np.searchsorted(index.hashes, hashes[likely]), len(index.hashes) - 1)
    found = likely[index.hashes[places] == hashes[likely]] if len(index.hashes) else likely
    results = [NOTHING] * len(texts)
    if not len(found):
        return results
    text_of = owners(counts)[found]
    starts = found + _shifts(lengths, counts)[text_of]
    # 2. Their runs: where one does not begin a character behind the one before, or in its text.
    firsts = np.flatnonzero((np.diff(found, prepend=-2) > 1) | (np.diff(text_of, prepend=-1) > 0))
    sizes = np.diff(firsts, append=len(found))
    # 3. The runs that count, and what they say of their texts.
    is_dense = np.logical_or.reduceat(_are_dense(codes, starts), firsts)
    counting = np.flatnonzero(is_dense | (sizes + NGRAM - 1 >= LEAST_CHARACTERS))
    for text in np.unique(text_of[firsts[counting]]):
        mine = counting[text_of[firsts[counting]] == text]
        places = np.concatenate([found[firsts[run] : firsts[run] + sizes[run]] for run in mine])
        begin = starts[firsts[mine[0]]]
        span = codes[begin : begin + sizes[mine[0]] + NGRAM - 1]
        tasks = _tasks(hashes[places], index)
        results[text] = Shared(len(places), tasks, "".join(map(chr, span)))
    return results


def _compared(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    codes, lengths = folded(texts)
    return simplified(codes), lengths


def _shifts(lengths: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """From the number of a 17-gram to where it begins among the codes, int64 [texts]."""
    return (np.cumsum(lengths) - lengths) - (np.cumsum(counts) - counts)


def _are_dense(codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether the 17-grams that begin there have ideographs enough, bool [starts]."""
    ideographs = np.concatenate([[0], np.cumsum(_IS_IDEOGRAPH[codes])])
    return ideographs[starts + NGRAM] - ideographs[starts] >= LEAST_IDEOGRAPHS


def _are_periodic(codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether the 17-grams that begin there repeat a few characters, bool [starts]."""
    are_periodic = np.zeros(len(starts), bool)
    for period in range(1, _LONGEST_PERIOD + 1):
        differences = np.concatenate([[0], np.cumsum(codes[period:] != codes[:-period])])
        are_periodic |= differences[starts + NGRAM - period] == differences[starts]
    return are_periodic


def _tasks(hashes: np.ndarray, index: EvaluationIndex) -> dict[str, int]:
    begins, ends = (np.searchsorted(index.pairs[0], hashes, side) for side in ("left", "right"))
    numbers = [n for b, e in zip(begins, ends, strict=True) for n in index.pairs[1][b:e]]
    counts = np.bincount(np.array(numbers, np.int64), minlength=len(index.tasks))
    return {index.tasks[n]: int(counts[n]) for n in np.flatnonzero(counts)}


def _heads(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
