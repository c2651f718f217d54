"""Raw files -> documents, with every byte accounted for.

What cannot be read becomes a dead letter with its place, and the rest of the file goes on; the
common readers die of one undecodable byte. Knows nothing of what makes a document worth keeping.
"""

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beam_pipelines import parquet_rows, warc
from beam_pipelines.document import DeadLetterReason, Document, DropReason, document_id
from beam_pipelines.ledger import Counts
from beam_pipelines.parquet_rows import Undecodable
from beam_pipelines.raw_bytes import COMPRESSED, RawBytes
from beam_pipelines.text_encoding import BOM, TextEncoding
from welm_jax.failures import InputError, Preempted

LAYOUT = (
    "RAW_DIR/<source>/*.jsonl, *.txt, *.wet, *.warc (each plain, .gz, .xz or .zst) or *.parquet, "
    "with <source> of at most 100 characters in [a-z0-9_]"
)
MAX_RECORD_BYTES = 16 << 20
_ABOUT = "SOURCE.json"  # what a folder may say of itself
_FIELDS = ("text", "id", "url", "timestamp")
_FORMATS = ("jsonl", "txt", "wet", "warc", "parquet")
_LONGEST_INTEGER = 4000  # digits; Python refuses to convert more than 4,300
Outcome = Document | DropReason | DeadLetterReason


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of the raw corpus: where it lies, the source that its folder names, its encoding."""

    path: Path
    source: str
    encoding: str = "utf-8"

    @property
    def name(self) -> str:
        """`<source>/<file name>`, the same wherever the corpus lies."""
        return f"{self.source}/{self.path.name}"

    @property
    def format(self) -> str:
        """One of _FORMATS."""
        parts = self.path.name.split(".")
        return parts[-2 if self.path.suffix in COMPRESSED else -1]


@dataclass(frozen=True, slots=True)
class Record:
    """A stretch of a file's decompressed bytes, and what it turned out to be.

    Attributes:
      offset: where it begins.
      length: its bytes, with the newline or the header; a file's records together are all of its
        bytes. Of a Parquet file, which has none that are a row's, those of the texts.
      outcome: the document, or why there is none.
    """

    offset: int
    length: int
    outcome: Outcome

    @property
    def failure(self) -> DropReason | DeadLetterReason | None:
        """Why there is no document, if there is none."""
        return None if isinstance(self.outcome, Document) else self.outcome

    @property
    def counts(self) -> Counts:
        """Its sizes, for the ledger."""
        is_document = isinstance(self.outcome, Document)
        return Counts(1, self.length, len(self.outcome.text) if is_document else 0)

    @property
    def sample(self) -> tuple[str, str] | None:
        """Id and text of the document, if there is one."""
        return (self.outcome.doc_id, self.outcome.text) if self.failure is None else None


def list_inputs(raw_dir: str, encodings: Mapping[str, str]) -> list[InputFile]:
    """Lists the files of a raw corpus, in the order of their names.

    Args:
      raw_dir: laid out as LAYOUT.
      encodings: of the sources that are not UTF-8.

    Raises:
      InputError: the folder or its sources are missing, a source has no file that can be read, or
        its name cannot be used.
    """
    root = Path(raw_dir)
    if not root.is_dir():
        raise InputError(f"no corpus at {root}: give a folder laid out as {LAYOUT}")
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "."]
    if not folders:
        raise InputError(f"{root} holds no source folders: lay the corpus out as {LAYOUT}")
    inputs = []
    for folder in folders:
        if not re.fullmatch(r"[a-z0-9_]{1,100}", folder.name):
            raise InputError(f"source {folder.name!r}: rename the folder; the layout is {LAYOUT}")
        there = [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
        files = [path for path in there if _is_readable(path)]
        if unread := [path.name for path in there if path not in files and path.name != _ABOUT]:
            more = f" and {len(unread) - 9} more" if unread[9:] else ""
            names = ", ".join(map(printable, unread[:9])) + more
            print(f"{folder}: not read: {names}; {LAYOUT}", file=sys.stderr)
        if not files:
            raise InputError(f"{folder} holds no file that can be read: the layout is {LAYOUT}")
        encoding = encodings.get(folder.name, "utf-8")
        inputs += [InputFile(path=path, source=folder.name, encoding=encoding) for path in files]
    if unknown := encodings.keys() - {one.source for one in inputs}:
        raise InputError(f"encodings name {sorted(unknown)[0]}, which is not a source of {root}")
    return inputs


def printable(name: str) -> str:
    """A file's name for a message of one line: as it is, or as Python writes it."""
    return name if name.isprintable() else repr(name)


def _is_readable(path: Path) -> bool:
    text = rf"[^.].*\.(({'|'.join(_FORMATS[:-1])})({'|'.join(COMPRESSED)})?|parquet)"
    return bool(re.fullmatch(text, path.name, re.DOTALL)) and path.is_file()


class RecordReader:
    """Reads a file to its end, or as far as it can be read; never raises on its content.

    Iterate over it once for the file's Records. Lines end at a newline byte only: str.splitlines
    would cut JSON at a U+2028 inside its text.
    """

    def __init__(self, file: InputFile):
        self._file = file
        self._bytes = RawBytes(file.path, resumes=file.format in ("wet", "warc"))

    def __iter__(self) -> Iterator[Record]:
        formats = {"jsonl": self._lines, "txt": self._whole, "parquet": self._rows}
        place = 0
        for length, outcome in formats.get(self._file.format, self._warc_records)():
            yield Record(place, length, outcome)
            place += length
        left = self._bytes.bytes_read - place  # half a record: the file ends early
        if self._bytes.damage or left:
            yield Record(place, left, self._bytes.damage or DeadLetterReason.DAMAGED_FILE)

    def fingerprint(self) -> dict[str, str | int]:
        """What the ledger says of the file once it is read: sha256 is of the decompressed bytes."""
        return {
            "source": self._file.source,
            "bytes": self._file.path.stat().st_size,
            "decompressed_bytes": self._bytes.bytes_read,
            "sha256": self._bytes.sha256,
        }

    def _lines(self) -> Iterator[tuple[int, Outcome]]:
        chunks = iter(self._bytes)
        first = next(chunks, b"")
        self._encoding = TextEncoding(self._file.encoding, first)
        line = _Gathered()
        for piece, is_end in self._encoding.pieces(itertools.chain([first], chunks)):
            line.add(piece)
            if is_end:
                yield line.length, self._decoded(line.data, self._json)
                line = _Gathered()
        if line.length and not self._bytes.damage:
            yield line.length, self._decoded(line.data, self._json)

    def _whole(self) -> Iterator[tuple[int, Outcome]]:
        whole = _Gathered()
        for chunk in self._bytes:
            whole.add(chunk)
        if whole.length and not self._bytes.damage:
            self._encoding = TextEncoding(self._file.encoding, whole.data or b"")
            yield whole.length, self._decoded(whole.data, lambda text: self._document(text))

    def _warc_records(self) -> Iterator[tuple[int, Outcome]]:
        for record in warc.records(self._bytes, MAX_RECORD_BYTES):
            if isinstance(record, warc.Lost):
                yield record.length, DeadLetterReason.NOT_RECONCILED
            else:
                yield record.length, self._conversion(record)

    def _conversion(self, record: warc.WarcRecord) -> Outcome:
        """A WET file's text; other records say how it was made, or hold pages as they were."""
        content_type = record.headers.get("content-type", "text/plain").partition(";")[0]
        is_text = content_type.strip().lower() == "text/plain"
        if record.headers.get("warc-type", "").lower() != "conversion" or not is_text:
            return DropReason.NOT_TEXT
        names = ("warc-record-id", "warc-target-uri", "warc-date")
        fields = [record.headers.get(name) for name in names]
        self._encoding = TextEncoding(self._file.encoding, record.content or b"")
        return self._decoded(record.content, lambda text: self._document(text, *fields))

    def _rows(self) -> Iterator[tuple[int, Outcome]]:
        try:
            for row in parquet_rows.read_rows(self._file.path, _FIELDS, self._bytes.most):
                data = _data(row.get("text"))
                self._bytes.count(data)
                yield len(data), self._row(row, len(data))
        except parquet_rows.DamagedParquet:
            self._bytes.damage = DeadLetterReason.DAMAGED_FILE
        except parquet_rows.ParquetBomb:
            self._bytes.damage = DeadLetterReason.DECOMPRESSION_BOMB
        except parquet_rows.ReaderKilled:
            raise Preempted(
                f"the process that reads {printable(str(self._file.path))} was killed, or has too "
                "little memory; start again, with more memory if it happens again"
            ) from None

    def _row(self, row: Mapping[str, Any], length: int) -> Outcome:
        if length > MAX_RECORD_BYTES:
            return DeadLetterReason.TOO_LONG
        if any(isinstance(value, Undecodable) for value in row.values()):
            return DeadLetterReason.UNDECODABLE
        if any(isinstance(value, tuple) for value in row.values()):  # columns of one name
            return DeadLetterReason.NO_TEXT
        return self._record(row)

    def _decoded(self, data: bytes | None, parse: Callable[[str], Outcome]) -> Outcome:
        if data is None:
            return DeadLetterReason.TOO_LONG
        try:
            text = self._encoding.decode(data)
        except UnicodeDecodeError:
            return DeadLetterReason.UNDECODABLE
        return parse(text) if text.strip() else DropReason.EMPTY

    def _json(self, line: str) -> Outcome:
        try:
            record = json.loads(line, parse_int=_integer, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            return DeadLetterReason.NOT_JSON
        if isinstance(record, _Doubled) and record.doubled & {*_FIELDS}:
            return DeadLetterReason.NOT_JSON
        return self._record(record if isinstance(record, dict) else {})

    def _record(self, record: Mapping[str, Any]) -> Outcome:
        if not isinstance(record.get("text"), str):
            return DeadLetterReason.NO_TEXT
        try:
            text, *fields = (_as_text(record.get(name)) for name in _FIELDS)
        except RecursionError:
            return DeadLetterReason.NOT_JSON
        return self._document(text, *fields)

    def _document(
        self,
        text: str,
        given_id: str | None = None,
        url: str | None = None,
        timestamp: str | None = None,
    ) -> Outcome:
        text = text.lstrip(BOM)
        if not text.strip():
            return DropReason.EMPTY
        source = self._file.source
        try:
            doc_id = document_id(source, given_id, url, timestamp, text)
        except UnicodeEncodeError:
            return DeadLetterReason.LONE_SURROGATE
        return Document(doc_id=doc_id, source=source, url=url, timestamp=timestamp, text=text)


class _Gathered:
    """Bytes that gather until their end is found; beyond the cap only their length is kept."""

    def __init__(self):
        self._parts: list[bytes] = []
        self.length = 0

    def add(self, data: bytes) -> None:
        self.length += len(data)
        self._parts.append(data)
        if self.length > MAX_RECORD_BYTES:
            self._parts = []

    @property
    def data(self) -> bytes | None:
        return None if self.length > MAX_RECORD_BYTES else b"".join(self._parts)


class _Doubled(dict):
    """A JSON object with keys that it has more than once, which contradict each other."""

    doubled: set[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    keys = Counter(key for key, _ in pairs)
    doubled = _Doubled(record)
    doubled.doubled = {key for key, count in keys.items() if count > 1}
    return doubled


def _integer(digits: str) -> int | str:
    """A JSON integer; as text where it is too long for Python, which refuses the whole line."""
    return int(digits) if len(digits) < _LONGEST_INTEGER else digits


def _as_text(value: object) -> str | None:
    """A field that may be anything: JSON's kinds as JSON, others, such as dates, as Python does."""
    if value is None or isinstance(value, str):
        return value
    is_json = isinstance(value, dict | list | bool | int | float)
    return json.dumps(value, default=str) if is_json else str(value)


def _data(text: object) -> bytes:
    """The bytes of a Parquet row's text, which is what the row weighs."""
    match text:
        case str():
            return text.encode()
        case bytes():
            return bytes(text)
        case tuple():
            return b"".join(map(_data, text))
    return b""
