"""Raw files -> documents, with every byte accounted for.

Owns the byte layer: the common readers end a half-cut gzip file without a word and die of one
undecodable byte. Here whatever cannot be read becomes a dead letter with its place, and the rest
of the file goes on. Knows nothing of what makes a document worth keeping.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from beam_pipelines.data_card import Counts
from beam_pipelines.document import DeadLetterReason, Document, DropReason, document_id
from welm_jax.failures import InputError

LAYOUT = "RAW_DIR/<source>/*.jsonl or *.txt, plain or .gz, with <source> in [a-z0-9_]"
MAX_RECORD_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of the raw corpus: where it lies, and the source that its folder names."""

    path: Path
    source: str

    @property
    def name(self) -> str:
        """`<source>/<file name>`, the same wherever the corpus lies."""
        return f"{self.source}/{self.path.name}"

    @property
    def holds_json_lines(self) -> bool:
        """Whether each line is a record; otherwise the whole file is one document."""
        return self.path.name.removesuffix(".gz").endswith(".jsonl")


@dataclass(frozen=True, slots=True)
class Record:
    """A stretch of a file's decompressed bytes, and what it turned out to be.

    Attributes:
      offset: where it begins.
      length: its bytes, newline included; a file's records together are all of its bytes.
      outcome: the document, or why there is none.
    """

    offset: int
    length: int
    outcome: Document | DropReason | DeadLetterReason

    @property
    def failure(self) -> DropReason | DeadLetterReason | None:
        """Why there is no document, if there is none."""
        return None if isinstance(self.outcome, Document) else self.outcome

    @property
    def counts(self) -> Counts:
        """Its sizes, for the ledger."""
        is_document = isinstance(self.outcome, Document)
        return Counts(1, self.length, len(self.outcome.text) if is_document else 0)


def list_inputs(raw_dir: str) -> list[InputFile]:
    """Lists the files of a raw corpus, in the order of their names.

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
        if not re.fullmatch(r"[a-z0-9_]+", folder.name):
            raise InputError(f"source {folder.name!r}: rename it; the layout is {LAYOUT}")
        files = [path for path in sorted(folder.iterdir()) if _is_readable(path)]
        if not files:
            raise InputError(f"{folder} holds no file that can be read: the layout is {LAYOUT}")
        inputs += [InputFile(path=path, source=folder.name) for path in files]
    return inputs


def _is_readable(path: Path) -> bool:
    return bool(re.fullmatch(r"[^.].*\.(jsonl|txt)(\.gz)?", path.name)) and path.is_file()


class RecordReader:
    """Reads a file to its end, or as far as it can be decompressed; never raises on its content.

    Iterate over it once for the file's Records. Lines end at a newline byte only: str.splitlines
    would cut JSON at a U+2028 inside its text.

    Attributes:
      bytes_read: decompressed bytes so far.
    """

    def __init__(self, file: InputFile):
        self._file = file
        self.bytes_read = 0
        self._sha256 = hashlib.sha256()
        self._is_damaged = False

    def __iter__(self) -> Iterator[Record]:
        opener = gzip.open if self._file.path.suffix == ".gz" else open
        parse = _parse_json if self._file.holds_json_lines else _parse_plain
        offset = 0
        with opener(self._file.path, "rb") as stream:
            for piece in self._pieces(stream):
                outcome = _outcome(piece, offset, parse, self._file.source)
                yield Record(offset, piece.length, outcome)
                offset += piece.length
        if self._is_damaged:  # what had come of the last piece is half a text
            yield Record(offset, self.bytes_read - offset, DeadLetterReason.DAMAGED_GZIP)

    def fingerprint(self) -> dict[str, str | int]:
        """What the ledger says of the file once it is read: sha256 is of the decompressed bytes."""
        return {
            "source": self._file.source,
            "bytes": self._file.path.stat().st_size,
            "decompressed_bytes": self.bytes_read,
            "sha256": self._sha256.hexdigest(),
        }

    def _pieces(self, stream: BinaryIO) -> Iterator["_Piece"]:
        """Yields the lines, or the whole file; not a last piece that damage has cut."""
        is_lines, piece = self._file.holds_json_lines, _Piece()
        for chunk in self._chunks(stream):
            start = 0
            while is_lines and (end := chunk.find(b"\n", start) + 1):
                piece.add(chunk[start:end])
                yield piece
                piece, start = _Piece(), end
            piece.add(chunk[start:])
        if piece.length and not self._is_damaged:
            yield piece

    def _chunks(self, stream: BinaryIO) -> Iterator[bytes]:
        try:
            # read() would lose what it had decompressed when it meets the damage.
            while chunk := stream.read1(_CHUNK_BYTES):
                self.bytes_read += len(chunk)
                self._sha256.update(chunk)
                yield chunk
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self._is_damaged = True


class _Piece:
    """Bytes that gather until their end is found; beyond the cap only their length is kept."""

    def __init__(self):
        self._parts: list[bytes] = []
        self.length = 0

    def add(self, data: bytes) -> None:
        self.length += len(data)
        self._parts = [*self._parts, data] if self.length <= MAX_RECORD_BYTES else []

    @property
    def data(self) -> bytes | None:
        return b"".join(self._parts) if self.length <= MAX_RECORD_BYTES else None


def _outcome(
    piece: _Piece,
    offset: int,
    parse: Callable[[str, str], Document | DropReason | DeadLetterReason],
    source: str,
) -> Document | DropReason | DeadLetterReason:
    data = piece.data
    if data is None:
        return DeadLetterReason.TOO_LONG
    try:
        text = (data if offset else data.removeprefix(_BOM)).decode("utf-8")
    except UnicodeDecodeError:
        return DeadLetterReason.NOT_UTF8
    return parse(text, source) if text.strip() else DropReason.EMPTY


def _parse_plain(text: str, source: str) -> Document:
    return Document(doc_id=document_id(source, None, None, None, text), source=source, text=text)


def _parse_json(line: str, source: str) -> Document | DropReason | DeadLetterReason:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return DeadLetterReason.NOT_JSON
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        return DeadLetterReason.NO_TEXT
    if not text.strip():
        return DropReason.EMPTY
    url, timestamp, given_id = (_as_text(record.get(key)) for key in ("url", "timestamp", "id"))
    try:
        doc_id = document_id(source, given_id, url, timestamp, text)
    except UnicodeEncodeError:
        return DeadLetterReason.LONE_SURROGATE
    return Document(doc_id=doc_id, source=source, url=url, timestamp=timestamp, text=text)


def _as_text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
