"""Contamination: documents that share long runs of characters with evaluation text.

Compared are 17-grams of characters without blanks and punctuation, in lower case, full width as
half, Traditional as Simplified: a copy in the other script is a copy. 17 letters are four words or
a line of code, which anybody may write, and so is a date between two others. So a run of 17-grams
counts only from 12 ideographs, kana or Hangul on, or from 60 characters of any kind, some 13 words,
in whichever text it occurs. Knows nothing of files, nor of what the evaluation is for.

Source: WeLM section 2.1 (two 17-grams); what a run must have is our choice.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_pipelines.characters import KINDS, Kind, folded, hash_ngrams, owners
from beam_pipelines.evaluation_text import evaluation_files, texts_by_task
from beam_pipelines.ideographs import simplified

NGRAM = 17
MOST_SHARED = 1  # places in a document at which a 17-gram of an evaluation text begins
LEAST_IDEOGRAPHS = 12  # of a run; two dates and what is between them have up to 11
LEAST_CHARACTERS = 60  # of a run with fewer ideographs, in letters and digits
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
        found = np.unique(hash_ngrams(codes, lengths, NGRAM)[0])
        hashes.append(found)
        numbers.append(np.full(len(found), number))
        begins = np.cumsum(lengths) - lengths
        too_short[task] = int((~_are_long(codes, begins, lengths)).sum())
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
    likely = np.flatnonzero(index.is_known[_heads(hashes)])
    places = np.minimum(np.searchsorted(index.hashes, hashes[likely]), len(index.hashes) - 1)
    found = likely[index.hashes[places] == hashes[likely]] if len(index.hashes) else likely
    results = [NOTHING] * len(texts)
    for text, runs in _long_runs(found, codes, lengths, counts):
        begin, places = runs[0]
        span = codes[begin : begin + len(places) + NGRAM - 1]
        places = np.concatenate([mine for _, mine in runs])
        tasks = _tasks(hashes[places], index)
        results[text] = Shared(len(places), tasks, "".join(map(chr, span)))
    return results


def _compared(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    codes, lengths = folded(texts)
    return simplified(codes), lengths


def _long_runs(
    found: np.ndarray, codes: np.ndarray, lengths: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[int, list[tuple[int, np.ndarray]]]]:
    """The runs that count of each text that has any.

    Args:
      found: numbers of the 17-grams that evaluation texts have, in order.
      codes: of all texts.
      lengths: of each text.
      counts: 17-grams of each text.

    Yields:
      The number of a text, and for each run where it begins among the codes, and its 17-grams.
    """
    texts = owners(counts)[found]
    is_first = np.ones(len(found), bool)
    is_first[1:] = (np.diff(found) > 1) | (np.diff(texts) > 0)
    firsts = np.flatnonzero(is_first)
    texts, sizes = texts[firsts], np.diff(firsts, append=len(found))
    # A text has as many 17-grams fewer than characters as all of its kind.
    begins = found[firsts] + (np.cumsum(lengths) - lengths - np.cumsum(counts) + counts)[texts]
    is_long = _are_long(codes, begins, sizes + NGRAM - 1)
    for text in np.unique(texts[is_long]):
        mine = np.flatnonzero(is_long & (texts == text))
        yield (
            int(text),
            [(int(begins[run]), found[firsts[run] : firsts[run] + sizes[run]]) for run in mine],
        )


def _are_long(codes: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether stretches of codes are long enough to count, bool [stretches]."""
    ideographs = np.concatenate([[0], np.cumsum(_IS_IDEOGRAPH[codes])])
    ideographs = ideographs[begins + lengths] - ideographs[begins]
    is_long = (ideographs >= LEAST_IDEOGRAPHS) | (lengths >= LEAST_CHARACTERS)
    return is_long & (lengths >= NGRAM)


def _tasks(hashes: np.ndarray, index: EvaluationIndex) -> dict[str, int]:
    begins, ends = (np.searchsorted(index.pairs[0], hashes, side) for side in ("left", "right"))
    numbers = [n for b, e in zip(begins, ends, strict=True) for n in index.pairs[1][b:e]]
    counts = np.bincount(np.array(numbers, np.int64), minlength=len(index.tasks))
    return {index.tasks[n]: int(counts[n]) for n in np.flatnonzero(counts)}


def _heads(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
