"""The rules that drop gibberish, placeholders and boilerplate: one function a rule, one reason.

Raffel et al.'s rules re-thought for Chinese: characters in place of words, Chinese marks beside
ASCII ones. A rule drops a document or leaves it exactly as it is. Knows nothing of languages,
sources, or the order in which the stages run.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from beam_pipelines.characters import Kind, TextBatch, hash_ngrams, owners
from beam_pipelines.document import DropReason

MIN_CHARACTERS = 30  # that are not blank
MIN_LETTER_SHARE = 0.5  # of letters and Han among the characters that are not blank
MAX_REPEATED_SHARE = 0.5  # of 13-character runs that occurred in the text before
MAX_NOISE_HITS = 1  # signs of mojibake, or of boilerplate, per thousand characters


def is_too_short(batch: TextBatch) -> np.ndarray:
    """Drops a text with too little on the page."""
    return _visible(batch) < MIN_CHARACTERS


def has_no_clause(batch: TextBatch) -> np.ndarray:
    """Drops titles, menus and lists of keywords: text in which not even a clause ends."""
    return batch.kinds[:, Kind.CLAUSE_MARK] == 0


def has_few_letters(batch: TextBatch) -> np.ndarray:
    """Drops tables of figures, rows of symbols and walls of exclamation marks."""
    letters = batch.kinds[:, (Kind.HAN, Kind.LATIN, Kind.KANA, Kind.HANGUL, Kind.OTHER_LETTER)]
    return letters.sum(axis=1) < MIN_LETTER_SHARE * _visible(batch)


def is_repetitive(batch: TextBatch) -> np.ndarray:
    """Drops a text that mostly repeats itself, be it by lines, by phrases or by one character."""
    hashes, counts = hash_ngrams(batch.codes, batch.lengths, 13)
    # With its text's number in the highest bits, one sort brings equal runs of one text together.
    texts = owners(counts).astype(np.uint64) << np.uint64(48)
    runs = np.sort(texts | (hashes >> np.uint64(16)))
    repeated = runs[1:][runs[1:] == runs[:-1]] >> np.uint64(48)
    repeats = np.bincount(repeated.astype(np.int64), minlength=len(counts))
    return repeats > MAX_REPEATED_SHARE * counts


def is_mojibake(batch: TextBatch) -> np.ndarray:
    """Drops a text that was decoded with the wrong encoding somewhere on its way."""
    # The replacement character, and what it and fresh memory look like when read as GBK.
    return _has_many(("\ufffd", "锟斤拷", "烫烫烫", "屯屯屯"), batch.texts, batch)


def is_boilerplate(batch: TextBatch) -> np.ndarray:
    """Drops placeholder pages; a long article that merely mentions such a phrase stays."""
    phrases = ("loremipsum", "enablejavascript", "javascriptisdisabled")
    phrases += ("启用javascript", "开启javascript", "您的浏览器不支持", "您的浏览器版本过低")
    joined = (text.lower().replace(" ", "") for text in batch.texts)
    return _has_many(phrases, joined, batch)


def _visible(batch: TextBatch) -> np.ndarray:
    return batch.lengths - batch.kinds[:, Kind.BLANK] - batch.kinds[:, Kind.CONTROL]


def _has_many(phrases: Sequence[str], texts: Iterable[str], batch: TextBatch) -> np.ndarray:
    hits = np.array([sum(map(text.count, phrases)) for text in texts], np.int64)
    return 1000 * hits > MAX_NOISE_HITS * batch.lengths


RULES: tuple[tuple[DropReason, Callable[[TextBatch], np.ndarray]], ...] = (
    (DropReason.TOO_SHORT, is_too_short),
    (DropReason.NO_CLAUSE, has_no_clause),
    (DropReason.FEW_LETTERS, has_few_letters),
    (DropReason.REPETITIVE, is_repetitive),
    (DropReason.MOJIBAKE, is_mojibake),
    (DropReason.BOILERPLATE, is_boilerplate),
)


def apply_rules(texts: Sequence[str]) -> list[DropReason | None]:
    """Names the first rule that drops each text, or None for a text that all of them keep."""
    batch = TextBatch.of(texts)
    reasons: list[DropReason | None] = [None] * len(texts)
    for reason, rule in reversed(RULES):
        for index in np.flatnonzero(rule(batch)):
            reasons[index] = reason
    return reasons
