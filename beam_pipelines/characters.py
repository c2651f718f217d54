"""What kind of character each code point is, and many texts as one array of code points.

One frozen table, written out by hand: unicodedata differs between Python versions, and a duplicate
key that follows the interpreter is no key. Knows nothing of what the counts are used for.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from beam_pipelines.ideographs import PLAIN_FORMS, simplified


class Kind(IntEnum):
    """The kinds that the stages tell apart; what no range below lists is OTHER_LETTER."""

    OTHER_LETTER = 0
    BLANK = 1
    CONTROL = 2
    PUNCTUATION = 3
    CLAUSE_MARK = 4  # the punctuation that ends a clause or a sentence
    SYMBOL = 5
    DIGIT = 6
    LATIN = 7
    HAN = 8
    KANA = 9
    HANGUL = 10
    BRACE = 11
    TAG = 12  # the marks of topics and headlines in forums and feeds


# Inclusive ranges of code points; a later line wins where two overlap.
_RANGES = (
    (Kind.CONTROL, "00-1F 7F-9F AD 180E 200B-200F 202A-202E 2060-206F D800-DFFF FE00-FE0F FEFF"),
    (Kind.CONTROL, "E0000-E01FF"),
    (Kind.BLANK, "09-0D 20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000"),
    (Kind.PUNCTUATION, "21-2F 3A-40 5B-60 7B-7E A1 A7 AB B6-B7 BB BF 2010-2027 2030-205E"),
    (Kind.PUNCTUATION, "2E00-2E7F 3001-3003 3008-3011 3014-301F 3030 303D 30A0 30FB"),
    (Kind.PUNCTUATION, "FE10-FE1F FE30-FE6F FF01-FF0F FF1A-FF20 FF3B-FF40 FF5B-FF65"),
    (Kind.CLAUSE_MARK, "21 2C 2E 3B 3F 2026 203C 2047-2049 3002 FF01 FF0C FF0E FF1B FF1F FF61"),
    (Kind.SYMBOL, "A2-A6 A8-A9 AC AE-B1 B4 B8 D7 F7 20A0-20CF 2100-2BFF 3004 3012-3013 3020"),
    (Kind.SYMBOL, "3036-3037 3200-33FF E000-F8FF FFE0-FFFD 1F000-1FAFF F0000-10FFFF"),
    (Kind.DIGIT, "30-39 FF10-FF19"),
    (Kind.LATIN, "41-5A 61-7A AA BA C0-D6 D8-F6 F8-24F 1E00-1EFF FF21-FF3A FF41-FF5A"),
    (Kind.HAN, "2E80-2FDF 3005-3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FAFF 20000-3FFFF"),
    (Kind.KANA, "3041-309F 30A1-30FA 30FC-30FF 31F0-31FF FF66-FF9F 1B000-1B16F"),
    (Kind.HANGUL, "1100-11FF 3130-318F A960-A97F AC00-D7FF FFA0-FFDC"),
    (Kind.BRACE, "7B 7D FF5B FF5D"),
    (Kind.TAG, "23 FF03 3010-3011"),
)


def _kind_table() -> np.ndarray:
    table = np.full(0x110000, Kind.OTHER_LETTER, np.uint8)
    for kind, ranges in _RANGES:
        for span in ranges.split():
            first, _, last = span.partition("-")
            table[int(first, 16) : int(last or first, 16) + 1] = kind
    return table


KINDS = _kind_table()


@dataclass(frozen=True)
class TextBatch:
    """Texts laid end to end, with no separator between them.

    Attributes:
      texts: the texts; none holds a lone surrogate.
      codes: their code points, uint32 [characters of all texts].
      lengths: characters of each text, int64 [texts].
      kinds: how many characters of each kind each text has, int64 [texts, len(Kind)].
    """

    texts: Sequence[str]
    codes: np.ndarray
    lengths: np.ndarray
    kinds: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "TextBatch":
        """Lays the texts out and counts their characters."""
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        cells = owners(lengths) * len(Kind) + KINDS[codes]
        kinds = np.bincount(cells, minlength=len(texts) * len(Kind))
        return cls(texts, codes, lengths, kinds.reshape(len(texts), len(Kind)))

    @property
    def visible(self) -> np.ndarray:
        """Characters of each text that are neither blank nor control, int64 [texts]."""
        return self.lengths - self.kinds[:, Kind.BLANK] - self.kinds[:, Kind.CONTROL]

    @functools.cached_property
    def lines(self) -> "Lines":
        """The lines with anything visible in them."""
        ends = np.cumsum(self.lengths)
        breaks = np.flatnonzero(self.codes == ord("\n")) + 1
        edges = np.union1d(breaks, np.concatenate([[0], ends]))  # a text's end ends its line
        shown = np.flatnonzero(~np.isin(KINDS[self.codes], (Kind.BLANK, Kind.CONTROL)))
        first = np.searchsorted(shown, edges[:-1])
        last = np.searchsorted(shown, edges[1:]) - 1
        full = last >= first
        first, last = shown[first[full]], shown[last[full]]
        texts = np.searchsorted(ends, first, side="right")
        return Lines(texts, first, last)


class Lines(NamedTuple):
    """Lines of all texts of a batch.

    Attributes:
      texts: the index of each line's text, int64 [lines].
      first: the place of its first visible character in the batch's codes, int64 [lines].
      last: the place of its last.
    """

    texts: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Characters from the first to the last, int64 [lines]."""
        return self.last - self.first + 1


SAMPLE_PARTS, SAMPLE_PART = 20, 200  # of a long text, and characters of each


def spread_sample(text: str) -> str:
    """The text, or of a long one parts that lie evenly over the whole of it."""
    if len(text) <= SAMPLE_PARTS * SAMPLE_PART:
        return text
    places = (
        (len(text) - SAMPLE_PART) * part // (SAMPLE_PARTS - 1) for part in range(SAMPLE_PARTS)
    )
    return " ".join(text[place : place + SAMPLE_PART] for place in places)


def owners(lengths: np.ndarray) -> np.ndarray:
    """The index of the text that each character belongs to."""
    return np.repeat(np.arange(len(lengths)), lengths)


def hash_ngrams(codes: np.ndarray, lengths: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes every run of n characters that lies within one text.

    Args:
      codes: the code points of texts laid end to end.
      lengths: the length of each text.
      n: characters in a run.

    Returns:
      uint64 hashes in the order of the texts, and how many of them each text has (none, if it is
      shorter than n).
    """
    runs = max(len(codes) - n + 1, 0)
    wide = codes.astype(np.uint64)
    hashes = np.zeros(runs, np.uint64)
    for start in range(n):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += wide[start : start + runs]
    is_within, ends = np.ones(len(codes), bool), np.cumsum(lengths)
    for back in range(1, n):  # these begin so late that they cross the end of their text
        is_within[ends[ends >= back] - back] = False
    return scramble(hashes[is_within[:runs]]), np.maximum(lengths - n + 1, 0)


def scramble(numbers: np.ndarray) -> np.ndarray:
    """Mixes uint64 numbers so that each bit depends on every bit (splitmix64's finaliser)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _fold_table() -> np.ndarray:
    """Code point -> what it counts as where texts are compared, 0 for what does not count.

    Blanks and punctuation go, full-width forms become ASCII, ASCII becomes lower case, radicals and
    compatibility ideographs become plain ideographs.
    """
    table = np.arange(len(KINDS), dtype=np.uint32)
    table[0xFF01:0xFF5F] = np.arange(0x21, 0x7F)
    is_upper = (table >= ord("A")) & (table <= ord("Z"))
    table[is_upper] += 32
    table[list(PLAIN_FORMS)] = list(PLAIN_FORMS.values())
    ignored = (Kind.BLANK, Kind.CONTROL, Kind.PUNCTUATION, Kind.CLAUSE_MARK, Kind.BRACE, Kind.TAG)
    table[np.isin(KINDS, ignored)] = 0
    return table


_FOLD = _fold_table()


def folded(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The code points of all texts that count where texts are compared, and how many each has.

    A lone surrogate does not count.
    """
    codes = _FOLD[_code_points(texts)]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return codes[codes > 0], np.bincount(owners(lengths)[codes > 0], minlength=len(texts))


def _code_points(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)


# A word in letters and digits begins with a character of this bit, and ends with one of the other.
_BEGINS, _ENDS = np.uint32(1 << 21), np.uint32(1 << 22)
_IS_OF_WORD = np.isin(KINDS, (Kind.LATIN, Kind.DIGIT, Kind.OTHER_LETTER))


def folded_words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """As `folded` and `simplified`, with the edges of words marked in the code points.

    Two runs of equal codes are then equal words: class is not found in classic, nor in two words.
    Han, kana and Hangul have no words between blanks and no marks.
    """
    codes = _code_points(texts)
    text_of = owners(np.fromiter(map(len, texts), np.int64, len(texts)))
    is_shown = KINDS[codes] != Kind.CONTROL  # a soft hyphen parts no word
    codes, text_of = codes[is_shown], text_of[is_shown]
    is_of_word = _IS_OF_WORD[codes]
    goes_on = is_of_word[1:] & is_of_word[:-1] & (text_of[1:] == text_of[:-1])
    marks = np.where(is_of_word, _BEGINS | _ENDS, np.uint32(0))
    marks[1:][goes_on] ^= _BEGINS
    marks[:-1][goes_on] ^= _ENDS
    codes = _FOLD[codes]
    counts = codes > 0
    return simplified(codes[counts]) | marks[counts], np.bincount(
        text_of[counts], minlength=len(texts)
    )
