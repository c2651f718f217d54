"""Tokenizers as Hugging Face's library has them: ours written as one, and theirs read.

A tokenizer.json is written that gives the same ids as our SentencePiece model and is read by every
tool of that world; one that came with a public model is opened with the face of `Tokenizer`.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from welm_jax.failures import InputError
from welm_jax.text.tokenizer import (
    EOD_ID,
    PAD_ID,
    UNKNOWN_ID,
    Tokenizer,
    refuse_surrogates,
)

# Where a literal `</s>` or `<0x41>` of a text is cut in two: whole, the library takes it for the
# control or the byte of that name. SentencePiece joins no letter and no digit with these signs.
BEFORE_CUTS = "</?(?=(s|pad|unk|0x[0-9A-F]{2})>)"
FILE, SETTINGS_FILE = "tokenizer.json", "tokenizer_config.json"
# Where Hugging Face's tools look for a special token's text, and where for its id.
NAMING_FILES = (SETTINGS_FILE, "special_tokens_map.json")
NUMBERING_FILES = ("generation_config.json", "config.json")


def as_fast(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a tokenizer.json that encodes and decodes as ours does.

    Its pieces hold blanks themselves, so that U+2581 is a character like any other. Asked for
    special tokens, it puts an end of document before a text, as our models are trained.

    Args:
      tokenizer: ours, of SentencePiece.
    """
    pieces = tokenizer.pieces()
    lowest = min(one.score for one in pieces if one.kind == "text")
    end = pieces[EOD_ID].text
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token,
                "content": one.text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": one.kind == "control",
            }
            for token, one in enumerate(pieces)
            if one.kind == "control" or one.text in ("\n", "\t")
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": BEFORE_CUTS},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special(end), _text("A")],
            "pair": [_special(end), _text("A"), _text("B")],
            "special_tokens": {end: {"id": end, "ids": [EOD_ID], "tokens": [end]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "Unigram",
            "unk_id": UNKNOWN_ID,
            "byte_fallback": True,
            "vocab": [[one.text, one.score if one.kind == "text" else lowest] for one in pieces],
        },
    }


def _special(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _text(which: str) -> dict[str, Any]:
    return {"Sequence": {"id": which, "type_id": 0}}


def settings(tokenizer: Tokenizer, window: int) -> dict[str, Any]:
    """The content of a tokenizer_config.json beside it; window is the longest text, in tokens."""
    pieces = tokenizer.pieces()
    end = pieces[EOD_ID].text
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "unk_token": pieces[UNKNOWN_ID].text,
        "pad_token": pieces[PAD_ID].text,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # a literal "</s>" in a text is no end of document
        "model_max_length": window,
    }


class FastTokenizer:
    """A tokenizer.json with the face of `Tokenizer`: of a public model, or one that we wrote.

    Unlike ours it may lose characters, as some that normalize do.

    Attributes:
      model_file: the tokenizer.json; files that name its special tokens lie beside it.
      settings_text: of a tokenizer_config.json that names them without the other files.
      sha256: hex digest of both.
      vocab_size: number of ids.
      eod_id: what ends a document.
      pad_id: what fills up; the same where there is no other.
      unknown_id: stands for ids beyond the vocabulary; the same again, which is silent.
    """

    def __init__(self, model_file: epath.PathLike):
        from tokenizers import Tokenizer as Reader

        self.model_file = str(model_file)
        file = epath.Path(model_file)
        try:
            content = file.read_text(encoding="utf-8")
            self._kind = _kind(json.loads(content))
            self._reader = Reader.from_str(content)
            # Settings of the last call that was made with it, which are no part of a vocabulary.
            self._reader.no_truncation()
            self._reader.no_padding()
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror}); a model of Hugging Face needs it"
            ) from error
        except Exception as error:  # its reader raises nothing narrower
            raise InputError(f"{file} is no tokenizer that can be read: {error}") from error
        self._reader.encode_special_tokens = True  # those in a text are text
        self.vocab_size = self._reader.get_vocab_size()
        self._name_special_tokens(file.parent)
        self.sha256 = hashlib.sha256((content + self.settings_text).encode()).hexdigest()

    def _name_special_tokens(self, folder: epath.Path) -> None:
        beside = {
            name: read_object(folder / name) for name in NAMING_FILES if (folder / name).exists()
        }
        end, pad = (self._named(beside, field) for field in ("eos_token", "pad_token"))
        end = self._numbered(folder) if end is None else end
        if end is None:
            raise InputError(
                f"no file in {folder} says what ends a document; give {SETTINGS_FILE} an eos_token"
            )
        self.eod_id = self.unknown_id = end
        self.pad_id = end if pad is None else pad
        own = beside.get(SETTINGS_FILE, {})
        if own.get("eos_token") and (pad is None or own.get("pad_token")):
            self.settings_text = (folder / SETTINGS_FILE).read_text(encoding="utf-8")
        else:
            names = {"eos_token": end, "pad_token": self.pad_id}
            texts = {field: self._reader.id_to_token(token) for field, token in names.items()}
            self.settings_text = json.dumps({**own, **texts}, ensure_ascii=False)

    def _named(self, beside: Mapping[str, Mapping[str, Any]], field: str) -> int | None:
        """The id of the token that files name by its text; None where none of them does."""
        found: dict[int, str] = {}
        for name, content in beside.items():
            text = content.get(field) or None
            text = text.get("content", text) if isinstance(text, dict) else text
            token = self._reader.token_to_id(text) if isinstance(text, str) else None
            if text is not None and token is None:
                raise InputError(
                    f"the {name} beside {self.model_file} names {text!r} as {field}, which the "
                    "vocabulary has not; name one that it has"
                )
            if token is not None:
                found[token] = name
        if len(found) > 1:
            raise InputError(
                f"{' and '.join(found.values())} beside {self.model_file} name two tokens as "
                f"{field}; take one of them away"
            )
        return next(iter(found), None)

    def _numbered(self, folder: epath.Path) -> int | None:
        """The id of what ends a document, by the first file that has one."""
        for name in NUMBERING_FILES:
            content = read_object(folder / name) if (folder / name).exists() else {}
            token = content.get("eos_token_id")
            [token] = token if isinstance(token, list) and len(token) == 1 else [token]
            if token is None:
                continue
            is_id = type(token) is int and 0 <= token < 2**31
            if not is_id or self._reader.id_to_token(token) is None:
                raise InputError(
                    f"{folder / name} says eos_token_id {token!r}; it must be one id of the "
                    f"vocabulary, or {SETTINGS_FILE} must name an eos_token"
                )
            return token
        return None

    def encode(self, text: str) -> list[int]:
        """Gives the ids of a text, without any end of document; see Tokenizer.encode."""
        refuse_surrogates(text)
        return self._reader.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Gives the text of ids; special ones are silent, bytes that are no UTF-8 U+FFFD."""
        # Not by its reader, which gives up a whole run of bytes for a wrong one.
        return b"".join(self.bytes_of(int(token)) for token in ids).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to the UTF-8 of a text; nothing for a special one."""
        added = self._added.get(token)
        if added is not None:
            return b"" if added.special else added.content.encode()
        text = self._reader.id_to_token(token)
        if text is None:  # an id of a model that has more of them than its tokenizer
            return b""
        if self._kind == "ByteLevel":
            return bytes(_byte_letters()[letter] for letter in text)
        is_byte = re.fullmatch("<0x([0-9A-F]{2})>", text)
        return bytes.fromhex(is_byte[1]) if is_byte else text.encode()

    @functools.cached_property
    def _added(self) -> dict[int, Any]:
        return self._reader.get_added_tokens_decoder()


def read_object(file: epath.Path) -> dict[str, Any]:
    """The content of a JSON file of Hugging Face's.

    Raises:
      InputError: it cannot be read, or holds something else than an object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); give a model's folder") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no JSON object; give a model's folder")
    return found


def _kind(content: dict[str, Any]) -> str:
    """How its pieces become text: as GPT-2's letters for bytes, or as what they are."""
    decoder = content.get("decoder") or {}
    kinds = [one["type"] for one in decoder.get("decoders", [decoder]) if one]
    if kinds not in (["ByteLevel"], ["ByteFallback", "Fuse"]):
        raise ValueError(f"its decoder is {kinds}; known are ByteLevel, and ByteFallback with Fuse")
    return kinds[0]


@functools.cache
def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level vocabularies write bytes: printable ones as themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


AnyTokenizer = Tokenizer | FastTokenizer


def open_tokenizer(model_file: epath.PathLike) -> AnyTokenizer:
    """Opens a tokenizer of either kind, told by its name.

    Raises:
      InputError: it cannot be read, or is none.
    """
    return (FastTokenizer if str(model_file).endswith(".json") else Tokenizer)(model_file)
