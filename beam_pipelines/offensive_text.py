"""Offensive text: the share of a document that a list of words makes up.

A list that drops at one hit loses one clean Chinese document in twenty, for its words have innocent
uses; so hits are weighed, a few mild ones forgiven, and the rest held against the length. Letters
and digits match whole words only: class is not in classic. Han, kana and Hangul match anywhere. The
list is the user's. Knows nothing of what share is too much.
"""

import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_pipelines.characters import folded_words, hash_ngrams, owners
from beam_pipelines.text_files import read_text
from welm_jax.failures import InputError

LONGEST_WORD = 24
_WANTED = f"a word has 1 to {LONGEST_WORD} letters, a weight above 0 that is not infinite"
FORGIVEN = 3  # hits of weight 1 in a text are too few to say anything; one of weight 3 is enough


class WordList(NamedTuple):
    """Hashes of words, and their weights, by the number of characters that count in them."""

    by_length: dict[int, tuple[np.ndarray, np.ndarray]]


def read_words(path: str) -> WordList:
    """Reads a word list: a word a line, and after a tab its weight (1 if there is none).

    Raises:
      InputError: it cannot be read, or a line is no word.
    """
    try:
        return _read_words(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"the word list {path} cannot be read ({error})") from error


@functools.lru_cache(maxsize=1)
def _read_words(path: str, _changed: int) -> WordList:
    weights: dict[tuple[int, ...], float] = {}
    for number, line in enumerate(read_text(Path(path)).split("\n"), start=1):
        word, _, weight = line.strip().partition("\t")
        if word and not word.startswith("#"):
            place = f"{path}, line {number}"
            codes, weight = _codes(word, place), _weight(weight, place)
            weights[codes] = max(weight, weights.get(codes, 0))  # 坏蛋 and 壞蛋 are one word
    if not weights:
        raise InputError(f"{path} holds no words")
    by_length = {}
    for length in sorted(set(map(len, weights))):
        mine = [word for word in weights if len(word) == length]
        lengths = np.full(len(mine), length)
        hashes, _ = hash_ngrams(np.array(mine, np.uint32).reshape(-1), lengths, length)
        order = np.argsort(hashes)
        by_length[length] = hashes[order], np.array([weights[word] for word in mine])[order]
    return WordList(by_length)


def _codes(word: str, place: str) -> tuple[int, ...]:
    codes, _ = folded_words([word])
    if not 0 < len(codes) <= LONGEST_WORD:
        raise InputError(f"{place}: {_WANTED}")
    if len(codes) == 1 and codes[0] > sys.maxunicode:  # marked as a word
        raise InputError(
            f"{place}: one letter of {word!r} counts, which most texts have as a word; take it out"
        )
    return tuple(codes.tolist())


def _weight(weight: str, place: str) -> float:
    try:
        number = float(weight or 1)
    except ValueError as error:
        raise InputError(f"{place}: weight {weight!r} is no number") from error
    if not 0 < number < math.inf:  # NaN is not
        raise InputError(f"{place}: {_WANTED}")
    return number


def offensive_shares(texts: Sequence[str], words: WordList) -> np.ndarray:
    """How much of each text offends: weights of the words found, each times its length, over all.

    0 where the weights of all hits together stay below FORGIVEN: in a short text two innocent words
    are a large share. Capitals, width and script do not hide a word, nor do blanks and punctuation
    between Han. In letters they part words, so that f.u.c.k is found only if the list has it so.
    Words may overlap.

    Returns:
      float64 [texts]; of the characters that are neither blank nor punctuation.
    """
    codes, lengths = folded_words(texts)
    totals, all_weights = np.zeros(len(texts)), np.zeros(len(texts))
    for length, (known, weights) in words.by_length.items():
        hashes, counts = hash_ngrams(codes, lengths, length)
        places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        found = np.flatnonzero(known[places] == hashes)
        hits, texts_hit = weights[places[found]], owners(counts)[found]
        all_weights += np.bincount(texts_hit, hits, minlength=len(texts))
        totals += np.bincount(texts_hit, hits * length, minlength=len(texts))
    return np.where(all_weights < FORGIVEN, 0.0, totals / np.maximum(lengths, 1))
