"""Which texts were decoded with the wrong encoding, wholly or in places.

Chinese that cannot be read is undone: encoded as it was wrongly read and decoded as it should have
been. Real text of rare characters (names, verse, dictionaries) turns into nothing that way, or into
characters that are rarer still. Inside a text that can be read, signs are counted: replacement
characters, and what becomes of them and of the marks of other languages.
"""

import re
from collections.abc import Sequence

import numpy as np

from beam_pipelines.characters import KINDS, Kind, TextBatch, owners, spread_sample

# The commonest characters of Chinese: modern, classical and verse, Simplified and Traditional. Two
# in five characters of a usual text are of these; of a text read as GBK or Big5, one in fifty.
_COMMON = (
    "一三上下不与东两个中为么之也了事二于五人今从他以们件会体何作你使來個們光两公兵其军出分到制前动動化十千南去"
    "又及发古只可合同后吗君和嗎四回国國在地多夜大天太头好如子官定实客家寒實对将將對小就山州已常年应度建开当很後"
    "得從心性患情意應成我所手数數文新方於无日时明春是時曰書最會月有未本机李来東林果機次此歸比水江沒没治法流深清"
    "点無然爲物玉王现現理生用电當病發白百的相看着知石秋种種空系結經经结老者而聲肝能自至與花药萬藥處血行裏西要見"
    "见詩說誰说起軍过还这進這過道還那都里重量金長門開間门间陽雨雲電青面頭風食首馬马體高麼點"
)
# (as it was read, as it should have been); what was read as Windows-1252 is undone as Latin-1.
_MISREADINGS = (
    ("gbk", "utf-8"),
    ("big5", "utf-8"),
    ("latin-1", "utf-8"),
    ("big5", "gbk"),
    ("latin-1", "gbk"),
    ("gbk", "big5"),
    ("latin-1", "big5"),
)
_WIDTHS = {"utf-8": 3, "gbk": 2, "big5": 2, "latin-1": 1}  # bytes of a character of Chinese text
_WINDOWS_1252 = {
    ord(bytes([byte]).decode("cp1252")): byte
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_MIN_CHARACTERS, _MIN_COMMON = 10, 4  # fewer may be chance
_LONG_STRETCH = 60  # characters from mark to mark of Chinese, of which mojibake has none
# What follows the first two bytes of a mark of Chinese, read as GBK: its third byte begins a
# character that is not common, or is nothing. 锛 and its like are characters, too, that few write.
_SECOND_HALVES = "?€\ufffd" + "".join(
    bytes([first, second]).decode("gbk", "ignore")
    for first in range(0x81, 0xA1)
    for second in range(0x40, 0xFF)
    if second != 0x7F
)
# Two replacement characters of UTF-8 or more, and fresh memory, as GBK: who explains them quotes
# them, or names them once. Curly marks and accents of UTF-8 as Windows-1252 or Latin-1, curly marks
# of Windows-1252 as Latin-1, and what the marks of Chinese and English begin with as GBK.
_REPLACED = re.compile("锟[^\\W\\d_a-z]{1,3}(?=锟)|(?<![“‘「『\"'《])(?:烫{6,}|屯{6,})")
_MARKS = re.compile(
    "â€[\x80-\x9f]?|Ã[\x80-\xbf\u0152-\u2122]|Â[\xa0-\xbf]|â?[\x80-\x84\x86-\x9f]+"
    f"|[鈥锛銆][{_SECOND_HALVES}]"
)
_MENTIONS = 2  # of marks; so many may be quoted


def _flags(codes: Sequence[int]) -> np.ndarray:
    table = np.zeros(len(KINDS), bool)
    table[list(codes)] = True
    return table


_IS_EDGE = _flags([ord(one) for one in "\n。，、！？；："])
_IS_SIGN = _flags([*map(ord, "\ufffd锟烫屯âÃÂ鈥锛銆"), *range(0x80, 0x85), *range(0x86, 0xA0)])
_IS_COMMON = _flags([ord(one) for one in _COMMON])
_IS_HIGH_BYTE = _flags([*range(0x80, 0x100), *_WINDOWS_1252])


def are_garbled(batch: TextBatch) -> np.ndarray:
    """Whether each text, or a stretch of it, is Chinese in the wrong encoding, bool [texts].

    Half of a line may be in another encoding than the rest, so a long stretch is judged by itself.
    """
    begins, count = np.cumsum(batch.lengths) - batch.lengths, len(batch.lengths)
    # 1. Each text is cut before marks of Chinese, and what lies between these is counted.
    is_edge = _IS_EDGE[batch.codes]
    is_edge[begins[batch.lengths > 0]] = True
    edges = np.append(np.flatnonzero(is_edge), len(batch.codes))
    counts = _counts(batch.codes, edges[:-1])
    texts = owners(batch.lengths)[edges[:-1]]
    # 2. A text as a whole.
    garbled = np.zeros(count, bool)
    of_texts = np.stack([np.bincount(texts, row, minlength=count) for row in counts])
    for text in np.flatnonzero(_are_odd(of_texts)):
        garbled[text] = _can_be_undone(spread_sample(batch.texts[text]))
    # 3. A long stretch.
    is_long = np.diff(edges) > _LONG_STRETCH  # with the mark before it
    for stretch in np.flatnonzero(is_long & _are_odd(counts) & ~garbled[texts]):
        text = texts[stretch]
        begin, end = edges[stretch : stretch + 2] - begins[text]
        garbled[text] |= _can_be_undone(spread_sample(batch.texts[text][begin:end]))
    return garbled


def sign_counts(batch: TextBatch) -> np.ndarray:
    """How many signs of a wrong encoding each text has, as `count_signs` counts, int64 [texts]."""
    counts = np.zeros(len(batch.lengths), np.int64)
    for text in np.unique(owners(batch.lengths)[_IS_SIGN[batch.codes]]):  # one text in a thousand
        counts[text] = count_signs(batch.texts[text])
    return counts


def count_signs(text: str) -> int:
    """How many signs of a wrong encoding a text has that can be read otherwise."""
    signs = text.count("\ufffd")
    if "锟" in text or "烫烫" in text or "屯屯" in text:
        signs += len(_REPLACED.findall(text))
    return signs + max(len(_MARKS.findall(text)) - _MENTIONS, 0)


def _counts(codes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many are not ASCII, Han, common, high bytes, from edge to edge, int64 [4, edges]."""
    kinds = (codes >= 0x80, KINDS[codes] == Kind.HAN, _IS_COMMON[codes], _IS_HIGH_BYTE[codes])
    return np.stack([np.add.reduceat(are, edges, dtype=np.int64) for are in kinds])


def _are_odd(counts: np.ndarray) -> np.ndarray:
    """Which are worth undoing: of usual texts one in a hundred; the rest costs four counts."""
    foreign, han, common, high = counts
    is_rare = (2 * han >= foreign) & (100 * common < 15 * han)
    return (foreign >= _MIN_CHARACTERS) & (is_rare | (2 * high >= foreign))


def _can_be_undone(text: str) -> bool:
    """Whether a misreading, undone, gives usual Chinese for a third of what is not ASCII."""
    foreign = "".join(one if ord(one) >= 0x80 else " " for one in text)
    characters = len(foreign) - foreign.count(" ")
    _, read_common = _count(foreign)
    for wrong, right in _MISREADINGS:
        read = foreign.translate(_WINDOWS_1252) if wrong == "latin-1" else foreign
        han, common = _count(read.encode(wrong, "ignore").decode(right, "ignore"))
        covers = 3 * han * _WIDTHS[right] >= characters * _WIDTHS[wrong]  # what broke is lost
        is_usual = 100 * common >= 15 * han and common * characters >= 2 * read_common * han
        if common >= _MIN_COMMON and covers and is_usual:
            return True
    return False


def _count(text: str) -> tuple[int, int]:
    """How many Han a text has, and how many of the commonest."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return int(np.count_nonzero(KINDS[codes] == Kind.HAN)), int(_IS_COMMON[codes].sum())
