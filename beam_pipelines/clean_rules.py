"""The rules that drop gibberish, placeholders, boilerplate and code: a measure and a reason each.

Raffel et al.'s rules re-thought for Chinese: characters in place of words, Chinese marks beside
ASCII ones. A rule drops a document or leaves it exactly as it is. Knows nothing of languages,
sources, or the order in which the stages run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.characters import Kind, TextBatch, hash_ngrams, owners
from beam_pipelines.document import DropReason

_LETTERS = (Kind.HAN, Kind.LATIN, Kind.KANA, Kind.HANGUL, Kind.OTHER_LETTER)
_BULLETS = np.array(list(map(ord, "·•●○■□◆◇★☆※►▶-*+")), np.uint32)
_CUT_ENDS = np.array(list(map(ord, "…")), np.uint32)
_MOJIBAKE = ("\ufffd", "锟斤拷", "烫烫烫", "屯屯屯")  # and fresh memory, read as GBK
_PLACEHOLDERS = ("loremipsum", "xxxxx", "某某某某", "此处填写", "在此输入", "测试测试测试")
_BOILERPLATE = (
    *("enablejavascript", "javascriptisdisabled", "启用javascript", "开启javascript"),
    *("您的浏览器不支持", "您的浏览器版本过低", "acceptcookies", "cookiepolicy", "隐私政策"),
    *("版权所有", "备案号", "icp备", "上一篇", "下一篇", "返回顶部", "点击查看更多", "展开全文"),
)
LONGEST_BOILERPLATE_LINE = 60  # characters; a longer line that mentions such a phrase is text


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where each rule draws its line; a source whose texts are of another kind has others.

    Shares are of the characters that are not blank, unless said otherwise.

    Attributes:
      min_characters: not blank.
      min_clause_marks: the least punctuation that ends a clause.
      min_letter_share: of letters and Han.
      min_line_length: characters of a line on average.
      max_bullet_lines: share of the lines that begin with a bullet.
      max_cut_lines: share of the lines that end in an ellipsis.
      max_brace_share: of { and }.
      max_tag_share: of # and of 【】.
      max_repeated_share: of 13-character runs that occurred in the text before.
      max_mojibake: signs of a wrong encoding per thousand characters.
      max_placeholders: phrases that stand for a text to come, per thousand.
      max_boilerplate: phrases of a page about itself, per thousand.
    """

    min_characters: int | float = 30
    min_clause_marks: int | float = 1
    min_letter_share: int | float = 0.5
    min_line_length: int | float = 5
    max_bullet_lines: int | float = 0.9
    max_cut_lines: int | float = 0.3
    max_brace_share: int | float = 0.02
    max_tag_share: int | float = 0.1
    max_repeated_share: int | float = 0.5
    max_mojibake: int | float = 1
    max_placeholders: int | float = 1
    max_boilerplate: int | float = 4


def characters(batch: TextBatch) -> np.ndarray:
    """Too little is on the page."""
    return batch.visible


def clause_marks(batch: TextBatch) -> np.ndarray:
    """Titles, menus and lists of keywords: text in which not even a clause ends."""
    return batch.kinds[:, Kind.CLAUSE_MARK]


def letter_share(batch: TextBatch) -> np.ndarray:
    """Tables of figures, rows of symbols and walls of exclamation marks have few letters."""
    return _share(batch, *_LETTERS)


def line_length(batch: TextBatch) -> np.ndarray:
    """Menus and tag clouds have a word a line."""
    return _by_lines(batch, batch.lines.lengths)


def bullet_lines(batch: TextBatch) -> np.ndarray:
    """Lists without a text."""
    return _by_lines(batch, np.isin(batch.lines.first, _BULLETS))


def cut_lines(batch: TextBatch) -> np.ndarray:
    """Pages of search results and teasers, each cut short."""
    return _by_lines(batch, np.isin(batch.lines.last, _CUT_ENDS))


def brace_share(batch: TextBatch) -> np.ndarray:
    """Code."""
    return _share(batch, Kind.BRACE)


def tag_share(batch: TextBatch) -> np.ndarray:
    """Advertisements and feeds: 【headline】, #topic#."""
    return _share(batch, Kind.TAG)


def repeated_share(batch: TextBatch) -> np.ndarray:
    """A text that mostly repeats itself, be it by lines, by phrases or by one character."""
    hashes, counts = hash_ngrams(batch.codes, batch.lengths, 13)
    # With its text's number in the highest bits, one sort brings equal runs of one text together.
    texts = owners(counts).astype(np.uint64) << np.uint64(48)
    runs = np.sort(texts | (hashes >> np.uint64(16)))
    repeated = runs[1:][runs[1:] == runs[:-1]] >> np.uint64(48)
    repeats = np.bincount(repeated.astype(np.int64), minlength=len(counts))
    return repeats / np.maximum(counts, 1)


def mojibake(batch: TextBatch) -> np.ndarray:
    """A text that was decoded with the wrong encoding somewhere on its way."""
    return _per_thousand(_MOJIBAKE, batch.texts, batch)


def placeholders(batch: TextBatch) -> np.ndarray:
    """What stands for a text that never came; an article that mentions such a phrase stays."""
    return _per_thousand(_PLACEHOLDERS, _squeezed(batch), batch)


def boilerplate(batch: TextBatch) -> np.ndarray:
    """Pages about themselves: cookies, scripts, licences, buttons."""
    return _per_thousand(_BOILERPLATE, _squeezed(batch), batch)


def _share(batch: TextBatch, *kinds: Kind) -> np.ndarray:
    return batch.kinds[:, kinds].sum(axis=1) / np.maximum(batch.visible, 1)


def _by_lines(batch: TextBatch, values: np.ndarray) -> np.ndarray:
    texts = len(batch.lengths)
    lines = np.bincount(batch.lines.texts, minlength=texts)
    return np.bincount(batch.lines.texts, values, minlength=texts) / np.maximum(lines, 1)


def _squeezed(batch: TextBatch) -> Iterable[str]:
    return (text.lower().replace(" ", "") for text in batch.texts)


def _per_thousand(phrases: Sequence[str], texts: Iterable[str], batch: TextBatch) -> np.ndarray:
    hits = np.array([sum(map(text.count, phrases)) for text in texts], np.int64)
    return 1000 * hits / np.maximum(batch.lengths, 1)


# A text is dropped for the first of these whose measure lies beyond its threshold.
RULES: tuple[tuple[DropReason, str, Callable[[TextBatch], np.ndarray]], ...] = (
    (DropReason.TOO_SHORT, "min_characters", characters),
    (DropReason.NO_CLAUSE, "min_clause_marks", clause_marks),
    (DropReason.FEW_LETTERS, "min_letter_share", letter_share),
    (DropReason.SHORT_LINES, "min_line_length", line_length),
    (DropReason.BULLETS, "max_bullet_lines", bullet_lines),
    (DropReason.CUT_SHORT, "max_cut_lines", cut_lines),
    (DropReason.CODE, "max_brace_share", brace_share),
    (DropReason.TAGS, "max_tag_share", tag_share),
    (DropReason.REPETITIVE, "max_repeated_share", repeated_share),
    (DropReason.MOJIBAKE, "max_mojibake", mojibake),
    (DropReason.PLACEHOLDER, "max_placeholders", placeholders),
    (DropReason.BOILERPLATE, "max_boilerplate", boilerplate),
)


def apply_rules(texts: Sequence[str], thresholds: Thresholds) -> list[DropReason | None]:
    """Names the first rule that drops each text, or None for a text that all of them keep."""
    batch = TextBatch.of(texts)
    reasons: list[DropReason | None] = [None] * len(texts)
    for reason, field, measure in reversed(RULES):
        values, threshold = measure(batch), getattr(thresholds, field)
        is_beyond = values < threshold if field.startswith("min_") else values > threshold
        for index in np.flatnonzero(is_beyond):
            reasons[index] = reason
    return reasons


def without_boilerplate_lines(texts: Sequence[str]) -> list[str]:
    """Takes the short lines out that hold a phrase of boilerplate; leaves all else as it is."""
    return [_without_lines(text) if _mentions(text) else text for text in texts]


def _without_lines(text: str) -> str:
    return "\n".join(
        line
        for line in text.split("\n")
        if len(line) > LONGEST_BOILERPLATE_LINE or not _mentions(line)
    )


def _mentions(text: str) -> bool:
    squeezed = text.lower().replace(" ", "")
    return any(phrase in squeezed for phrase in _BOILERPLATE)
