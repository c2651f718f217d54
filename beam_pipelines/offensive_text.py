"""Offensive text: the share of a document that a list of words makes up.

A list that drops at one hit loses one clean Chinese document in twenty, for its words have innocent
uses; so hits are weighed, a few mild ones forgiven, and the rest held against the length. The list
is the user's. Knows nothing of what share is too much.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_pipelines.characters import folded, hash_ngrams, owners
from welm_jax.failures import InputError

LONGEST_WORD = 24
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
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the word list {path} cannot be read ({error})") from error


@functools.lru_cache(maxsize=1)
def _read_words(path: str, _changed: int) -> WordList:
    words: dict[str, float] = {}
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        word, _, weight = line.strip().partition("\t")
        if not word or word.startswith("#"):
            continue
        codes, [length] = folded([word])
        try:
            weight = float(weight or 1)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: weight {weight!r} is no number") from error
        if not 0 < length <= LONGEST_WORD or weight <= 0:
            raise InputError(
                f"{path}, line {number}: a word has 1 to {LONGEST_WORD} letters, a weight above 0"
            )
        words["".join(map(chr, codes))] = weight
    if not words:
        raise InputError(f"{path} holds no words")
    by_length = {}
    for length in sorted(set(map(len, words))):
        mine = [word for word in words if len(word) == length]
        codes, lengths = folded(mine)
        hashes, _ = hash_ngrams(codes, lengths, length)
        order = np.argsort(hashes)
        by_length[length] = hashes[order], np.array([words[word] for word in mine])[order]
    return WordList(by_length)


def offensive_shares(texts: Sequence[str], words: WordList) -> np.ndarray:
    """How much of each text offends: weights of the words found, each times its length, over all.

    0 where the weights of all hits together stay below FORGIVEN: in a short text two innocent words
    are a large share. Blanks and punctuation between a word's characters do not hide it, nor do
    capitals or width; words may overlap.

    Returns:
      float64 [texts]; of the characters that are neither blank nor punctuation.
    """
    codes, lengths = folded(texts)
    totals, all_weights = np.zeros(len(texts)), np.zeros(len(texts))
    for length, (known, weights) in words.by_length.items():
        hashes, counts = hash_ngrams(codes, lengths, length)
        places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        found = np.flatnonzero(known[places] == hashes)
        hits, texts_hit = weights[places[found]], owners(counts)[found]
        all_weights += np.bincount(texts_hit, hits, minlength=len(texts))
        totals += np.bincount(texts_hit, hits * length, minlength=len(texts))
    return np.where(all_weights < FORGIVEN, 0.0, totals / np.maximum(lengths, 1))
