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
_LONG_LINE = 60  # characters; a paragraph, which is judged by itself
# Two replacement characters of UTF-8 or more, and fresh memory, as GBK: who explains them quotes
# them, or names them once. Curly marks and accents of UTF-8 as Windows-1252.
_REPLACED = re.compile("锟[^\\W\\d_a-z]{1,3}(?=锟)|(?<![“‘「『\"'《])(?:烫{6,}|屯{6,})")
_ACCENTS = re.compile("â€|Ã[\x80-\xbf\u0152-\u2122]|Â[\xa0-\xbf]")
_MENTIONS = 2  # of accents; so many may be quoted


def _flags(codes: Sequence[int]) -> np.ndarray:
    table = np.zeros(len(KINDS), bool)
    table[list(codes)] = True
    return table


_IS_COMMON = _flags([ord(one) for one in _COMMON])
_IS_HIGH_BYTE = _flags([*range(0x80, 0x100), *_WINDOWS_1252])


def are_garbled(batch: TextBatch) -> np.ndarray:
    """Whether each text, or a long line of it, is Chinese in the wrong encoding, bool [texts]."""
    garbled = _are_garbled(batch)
    lines = [
        (index, line)
        for index, text in enumerate(batch.texts)
        if "\n" in text
        for line in text.split("\n")
        if len(line) >= _LONG_LINE
    ]
    of_lines = _are_garbled(TextBatch.of([line for _, line in lines]))
    garbled[[lines[place][0] for place in np.flatnonzero(of_lines)]] = True
    return garbled


def count_signs(text: str) -> int:
    """How many signs of a wrong encoding a text has that can be read otherwise."""
    signs = text.count("\ufffd")
    if "锟" in text or "烫烫" in text or "屯屯" in text:
        signs += len(_REPLACED.findall(text))
    if "â" in text or "Ã" in text or "Â" in text:
        signs += max(len(_ACCENTS.findall(text)) - _MENTIONS, 0)
    return signs


def _are_garbled(batch: TextBatch) -> np.ndarray:
    texts, count = owners(batch.lengths), len(batch.lengths)

    def counted(are: np.ndarray) -> np.ndarray:
        return np.bincount(texts[are], minlength=count)

    foreign, han = counted(batch.codes >= 0x80), batch.kinds[:, Kind.HAN]
    common, high = counted(_IS_COMMON[batch.codes]), counted(_IS_HIGH_BYTE[batch.codes])
    # Only these are undone, one usual text in a hundred: all other texts cost three counts.
    is_odd = (foreign >= _MIN_CHARACTERS) & (
        ((2 * han >= foreign) & (100 * common < 15 * han)) | (2 * high >= foreign)
    )
    garbled = np.zeros(count, bool)
    for index in np.flatnonzero(is_odd):
        garbled[index] = _can_be_undone(spread_sample(batch.texts[index]))
    return garbled


def _can_be_undone(text: str) -> bool:
    """Whether a misreading, undone, gives usual Chinese for a third of what is not ASCII."""
    foreign = "".join(one if ord(one) >= 0x80 else " " for one in text)
    characters = len(foreign) - foreign.count(" ")
    read_han, read_common = _count(foreign)
    for wrong, right in _MISREADINGS:
        read = foreign.translate(_WINDOWS_1252) if wrong == "latin-1" else foreign
        han, common = _count(read.encode(wrong, "ignore").decode(right, "ignore"))
        covers = 3 * han * _WIDTHS[right] >= characters * _WIDTHS[wrong]  # what broke is lost
        is_usual = 100 * common >= 15 * han and common * read_han >= 2 * read_common * han
        if common >= _MIN_COMMON and covers and is_usual:
            return True
    return False


def _count(text: str) -> tuple[int, int]:
    """How many Han a text has, and how many of the commonest."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return int(np.count_nonzero(KINDS[codes] == Kind.HAN)), int(_IS_COMMON[codes].sum())
