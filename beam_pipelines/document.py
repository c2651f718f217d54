"""The Document record and the names of every reason to lose one: what travels between stages.

Knows nothing of files, of rules, or of the order in which the stages run.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

SPLITS = ("train", "heldout")
_SEED = 0  # another seed is another order of the documents and another held-out choice
SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("language", pa.string()),
        ("text", pa.large_string()),
        ("timestamp", pa.string()),
        ("attributes", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One document, its text exactly as it was found.

    Attributes:
      doc_id: 32 hexadecimal digits; equal only for documents equal in every field read.
      source: the folder of the raw corpus that it came from, a row of the paper's Table 1.
      url: where it was found, if the corpus says so.
      language: zh, en, ja, ko or other; empty until the language stage has looked.
      text: any Unicode string without lone surrogates.
      timestamp: as the corpus gives it.
      attributes: scores, counts and hashes of the text.
    """

    doc_id: str
    source: str
    url: str | None = None
    language: str = ""
    text: str
    timestamp: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class DropReason(StrEnum):
    """Why a document that could be read is not in the corpus; one name a rule."""

    EMPTY = "empty"
    NOT_TEXT = "not_text"
    LANGUAGE_ZH = "language_zh"
    LANGUAGE_EN = "language_en"
    LANGUAGE_JA = "language_ja"
    LANGUAGE_KO = "language_ko"
    LANGUAGE_OTHER = "language_other"
    TOO_SHORT = "too_short"
    NO_CLAUSE = "no_clause"
    FEW_LETTERS = "few_letters"
    SHORT_LINES = "short_lines"
    BULLETS = "bullets"
    CUT_SHORT = "cut_short"
    CODE = "code"
    MARKUP = "markup"
    TAGS = "tags"
    REPETITIVE = "repetitive"
    MOJIBAKE = "mojibake"
    PLACEHOLDER = "placeholder"
    BOILERPLATE = "boilerplate"
    NAVIGATION = "navigation"
    SPAM = "spam"
    BOILERPLATE_LINE = "boilerplate_line"
    OFFENSIVE = "offensive"
    NOISE = "noise"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    CONTAMINATED = "contaminated"


class DeadLetterReason(StrEnum):
    """Why a piece of a file could not be read as a document."""

    UNDECODABLE = "undecodable"
    NOT_JSON = "not_json"
    NO_TEXT = "no_text"
    LONE_SURROGATE = "lone_surrogate"
    TOO_LONG = "too_long"
    DAMAGED_FILE = "damaged_file"
    DECOMPRESSION_BOMB = "decompression_bomb"
    NOT_RECONCILED = "not_reconciled"


# What is lost to these is the rest of a file, of which nobody knows how much there was.
WHOLE_FILE = (DeadLetterReason.DAMAGED_FILE, DeadLetterReason.DECOMPRESSION_BOMB)


def document_id(*fields: str | None) -> str:
    """Names a document by what it says, so that the name survives a move or a new split of files.

    The length goes before each field, for any separator occurs in real text.

    Args:
      *fields: what tells two documents apart, in a fixed order; None is not the empty string.

    Returns:
      The BLAKE2b-128 digest, 32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for one in fields:
        data = b"" if one is None else one.encode()
        digest.update(b"%d:" % (-1 if one is None else len(data)))
        digest.update(data)
    return digest.hexdigest()


def draw(doc_id: str, purpose: str) -> int:
    """Draws a document's number for one purpose: uniform in [0, 2^63), and always the same."""
    key = f"{purpose}:{_SEED}:{doc_id}".encode()
    # 63 bits, for Beam carries no larger integers.
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
