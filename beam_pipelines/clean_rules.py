"""The rules that drop gibberish, placeholders, boilerplate and code: a measure and a reason each.

Raffel et al.'s rules re-thought for Chinese: characters in place of words, Chinese marks beside
ASCII ones. A rule drops a document or leaves it exactly as it is. Knows nothing of languages,
sources, or the order in which the stages run.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.boilerplate import count_notices, navigation_share
from beam_pipelines.characters import KINDS, Kind, TextBatch, hash_ngrams, owners
from beam_pipelines.document import DropReason
from beam_pipelines.markup import markup_share
from beam_pipelines.mojibake import are_garbled, sign_counts
from beam_pipelines.spam import count_spam_words

_LETTERS = (Kind.HAN, Kind.LATIN, Kind.KANA, Kind.HANGUL, Kind.OTHER_LETTER)
_MIN_LINES = 4  # a share of fewer lines says nothing
_BULLETS = np.array(list(map(ord, "·•●○■□◆◇★☆※►▶")), np.uint32)
_BULLETS_BEFORE_BLANK = np.array(list(map(ord, "-*+")), np.uint32)  # else a minus, a mask, a dash
_LONGEST_BULLET = 30  # characters; a longer one is a paragraph
_SENTENCE_ENDS = np.array(list(map(ord, "。！？；…!?.;")), np.uint32)
_SHORTEST_TEASER = 50  # characters; shorter lines that end in an ellipsis are spoken or sung
_MIN_TEASERS = 3  # a writer may trail off twice
_LOUD = "！？!?"  # the marks of headlines
_WHOLE_CLAUSES = 3  # three clauses, or two of which the last ends as a sentence does
_MARKED_CLAUSES = 4  # who sets so many marks leaves none out
# Of spoken words a title seldom has three.
_SPOKEN = re.compile("我(?!们)|[你您他她这那了就也都很不没还再会吗呢吧啊]")
_HAN_OF_AN_ARTICLE = 300  # or a fifth of what is visible: with more, a text explains its code
_WHOLE_TEXT = 4000  # characters; a longer text may repeat itself once it has said half as much
# What the printers' Latin goes on with: who only names it says its first words.
_LATIN = ("seddoeiusmod", "magnaaliqua", "utenimadminim")
_PLACEHOLDERS = (*_LATIN, "此处填写", "在此输入", "测试测试测试")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where each rule draws its line; a source whose texts are of another kind has others.

    Shares are of the characters that are not blank, unless said otherwise.

    Attributes:
      min_characters: not blank; those of full sentences and of verse count one and a half.
      min_clause_marks: the least punctuation that ends a clause, or spoken words, three for a mark.
      min_letter_share: of letters and Han.
      min_line_length: characters of a line on average.
      max_bullet_lines: share of the lines that are short bullets and do not end as a sentence.
      max_cut_lines: share of the lines that are long and cut short by dots.
      max_brace_share: of { and }, in what looks like code.
      max_markup_share: of the words that elements enclose, or twice that of entities, or 2.4 times
        that of tags.
      max_tag_share: of # and of 【】.
      max_repeated_share: of 13-character runs that occurred in the text before; of a long text,
        what 4,000 characters lack in new ones.
      max_mojibake: signs of a wrong encoding per thousand characters.
      max_placeholders: phrases that stand for a text to come, per thousand, the first one
        forgiven.
      max_boilerplate: notices of a page about itself, per thousand.
      max_navigation: share of menus, links and headlines, in a text with several items of a menu.
      max_spam: different promises and calls of a gambling site or an account shop, see spam.py.
    """

    min_characters: int | float = 30
    min_clause_marks: int | float = 1
    min_letter_share: int | float = 0.4
    min_line_length: int | float = 4
    max_bullet_lines: int | float = 0.9
    max_cut_lines: int | float = 0.3
    max_brace_share: int | float = 0.02
    max_markup_share: int | float = 0.8
    max_tag_share: int | float = 0.2
    max_repeated_share: int | float = 0.5
    max_mojibake: int | float = 1
    max_placeholders: int | float = 1
    max_boilerplate: int | float = 4
    max_navigation: int | float = 0.5
    max_spam: int | float = 2


def characters(batch: TextBatch) -> np.ndarray:
    """The visible characters; those of verse and of full sentences count one and a half."""
    marks = batch.kinds[:, Kind.CLAUSE_MARK] - _occurrences(batch, _LOUD)
    ends = np.zeros(len(batch.lengths), np.uint32)
    ends[batch.lines.texts] = batch.codes[batch.lines.last]  # of several lines the last
    marks += np.isin(ends, list(map(ord, "。.")))
    # Three in four characters are Han: a row of dots is not a sentence.
    is_whole = (marks >= _WHOLE_CLAUSES) & (4 * batch.kinds[:, Kind.HAN] >= 3 * batch.visible)
    return np.where(is_whole, 1.5, 1) * batch.visible


def clause_marks(batch: TextBatch) -> np.ndarray:
    """How many clauses end; in titles, menus and lists of keywords none does.

    Who writes as he speaks may leave the marks out: three spoken words stand for a clause, and up
    to two blanks count as such words beside one.
    """
    marks = batch.kinds[:, Kind.CLAUSE_MARK].copy()
    for index in np.flatnonzero((marks < _MARKED_CLAUSES) & (batch.kinds[:, Kind.HAN] > 0)):
        spoken = len(_SPOKEN.findall(batch.texts[index]))
        blanks = min(len(batch.texts[index].split()) - 1, 2)
        marks[index] += (spoken + blanks) // 3 if spoken else 0
    return marks


def letter_share(batch: TextBatch) -> np.ndarray:
    """The share of letters and Han, low in tables of figures and in rows of symbols."""
    return _share(batch, *_LETTERS)


def line_length(batch: TextBatch) -> np.ndarray:
    """The mean length of a line; menus and tag clouds have a word a line."""
    return _by_lines(batch, batch.lines.lengths, of_few=np.inf)


def bullet_lines(batch: TextBatch) -> np.ndarray:
    """The share of lines that are bullets of a list; those that end as sentences do are text."""
    first = batch.lines.first
    codes, following = batch.codes[first], batch.codes[np.minimum(first + 1, batch.lines.last)]
    is_bullet = np.isin(codes, _BULLETS)
    is_bullet |= np.isin(codes, _BULLETS_BEFORE_BLANK) & (KINDS[following] == Kind.BLANK)
    is_bullet &= ~np.isin(batch.codes[batch.lines.last], _SENTENCE_ENDS)
    return _by_lines(batch, is_bullet & (batch.lines.lengths <= _LONGEST_BULLET))


def cut_lines(batch: TextBatch) -> np.ndarray:
    """The share of lines that are teasers, cut short by dots; who trails off writes ……."""
    last = batch.lines.last
    end, before = batch.codes[last], batch.codes[last - 1]
    is_cut = ((end == ord(".")) & (before == ord("."))) | ((end == ord("…")) & (before != ord("…")))
    is_teaser = is_cut & (batch.lines.lengths >= _SHORTEST_TEASER)
    teasers = np.bincount(batch.lines.texts, is_teaser, minlength=len(batch.lengths))
    return np.where(teasers >= _MIN_TEASERS, _by_lines(batch, is_teaser), 0)


def brace_share(batch: TextBatch) -> np.ndarray:
    """The share of braces in code, which a text in Chinese may show; formulas are none."""
    braces, signs = _occurrences(batch, "{}"), _occurrences(batch, "();=:")
    article = np.minimum(batch.visible / 5, _HAN_OF_AN_ARTICLE)
    is_code = (signs >= braces) & (batch.kinds[:, Kind.HAN] < article)
    return np.where(is_code, braces, 0) / np.maximum(batch.visible, 1)


def markup(batch: TextBatch) -> np.ndarray:
    """How much is the source of a page; an article that shows tags has text of its own."""
    return np.array([markup_share(text) for text in batch.texts], np.float64)


def tag_share(batch: TextBatch) -> np.ndarray:
    """The share of the marks of advertisements and feeds: 【headline】, #topic#."""
    return _share(batch, Kind.TAG)


def repeated_share(batch: TextBatch) -> np.ndarray:
    """The share of a text that repeats itself: its lines, its phrases or one character."""
    hashes, counts = hash_ngrams(batch.codes, batch.lengths, 13)
    # With its text's number in the highest bits, one sort brings equal runs of one text together.
    texts = owners(counts).astype(np.uint64) << np.uint64(48)
    runs = np.sort(texts | (hashes >> np.uint64(16)))
    repeated = runs[1:][runs[1:] == runs[:-1]] >> np.uint64(48)
    repeats = np.bincount(repeated.astype(np.int64), minlength=len(counts))
    enough = np.minimum(counts, _WHOLE_TEXT)
    return np.maximum(enough - (counts - repeats), 0) / np.maximum(enough, 1)


def mojibake(batch: TextBatch) -> np.ndarray:
    """The signs of a wrong encoding per thousand; 1000 for Chinese that cannot be read."""
    signs = _per_thousand(sign_counts(batch), batch)
    return np.where(are_garbled(batch), 1000, signs)


def placeholders(batch: TextBatch) -> np.ndarray:
    """Phrases per thousand in place of a text that never came; one may be mentioned.

    A masked name or number (xxxxx, 某某) is not a placeholder: the text around it is there.
    """
    squeezed = (text.lower().replace(" ", "") for text in batch.texts)
    counts = [max(sum(map(text.count, _PLACEHOLDERS)) - 1, 0) for text in squeezed]
    return _per_thousand(counts, batch)


def boilerplate(batch: TextBatch) -> np.ndarray:
    """Notices per thousand: scripts that are off, browsers that are old, registration numbers."""
    return _per_thousand(list(map(count_notices, batch.texts)), batch)


def navigation(batch: TextBatch) -> np.ndarray:
    """The share of menus, links and headlines; of prose with a menu around it, it is small."""
    return np.array([navigation_share(text) for text in batch.texts], np.float64)


def spam(batch: TextBatch) -> np.ndarray:
    """Promises and calls of a gambling site or a shop for accounts; of a report on them, few."""
    return np.array(count_spam_words(batch.texts), np.int64)


def _share(batch: TextBatch, *kinds: Kind) -> np.ndarray:
    return batch.kinds[:, kinds].sum(axis=1) / np.maximum(batch.visible, 1)


def _by_lines(batch: TextBatch, values: np.ndarray, of_few: float = 0) -> np.ndarray:
    """The mean of what each line of a text has; `of_few` where there are too few lines."""
    texts = len(batch.lengths)
    lines = np.bincount(batch.lines.texts, minlength=texts)
    sums = np.bincount(batch.lines.texts, values, minlength=texts)
    return np.where(lines >= _MIN_LINES, sums / np.maximum(lines, 1), of_few)


def _occurrences(batch: TextBatch, characters: str) -> np.ndarray:
    are_these = np.isin(batch.codes, list(map(ord, characters)))
    return np.bincount(owners(batch.lengths)[are_these], minlength=len(batch.lengths))


def _per_thousand(counts: Sequence[int], batch: TextBatch) -> np.ndarray:
    return 1000 * np.array(counts, np.int64) / np.maximum(batch.lengths, 1)


# A text is dropped for the first of these whose measure is beyond its threshold.
RULES: tuple[tuple[DropReason, str, Callable[[TextBatch], np.ndarray]], ...] = (
    (DropReason.MOJIBAKE, "max_mojibake", mojibake),
    (DropReason.TOO_SHORT, "min_characters", characters),
    (DropReason.NO_CLAUSE, "min_clause_marks", clause_marks),
    (DropReason.FEW_LETTERS, "min_letter_share", letter_share),
    (DropReason.SHORT_LINES, "min_line_length", line_length),
    (DropReason.BULLETS, "max_bullet_lines", bullet_lines),
    (DropReason.CUT_SHORT, "max_cut_lines", cut_lines),
    (DropReason.CODE, "max_brace_share", brace_share),
    (DropReason.MARKUP, "max_markup_share", markup),
    (DropReason.TAGS, "max_tag_share", tag_share),
    (DropReason.REPETITIVE, "max_repeated_share", repeated_share),
    (DropReason.PLACEHOLDER, "max_placeholders", placeholders),
    (DropReason.BOILERPLATE, "max_boilerplate", boilerplate),
    (DropReason.NAVIGATION, "max_navigation", navigation),
    (DropReason.SPAM, "max_spam", spam),
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
