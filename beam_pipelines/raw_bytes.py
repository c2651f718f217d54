"""The bytes of a raw file, decompressed as far as they go: damage ends them, and is recorded.

The common readers end a half-cut file without a word, and a small file may decompress to more than
any disk holds. Knows nothing of records.
"""

import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from beam_pipelines.document import DeadLetterReason

_GZIP = 31  # zlib's word for a gzip member with its checksum
_MAGIC = b"\x1f\x8b\x08"  # of a gzip member
_LONGEST_WINDOW = 1 << 31  # bytes that zstd may look back: `zstd --long=31`
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(_GZIP),
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW).decompressobj(),
}
COMPRESSED = tuple(_DECOMPRESSORS)
_DAMAGES = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
_CHUNK_BYTES = 1 << 20
_COMPRESSED_BYTES = 2 << 10  # read at a time: a bomb makes up to thirty thousand times as much
_ALWAYS_READ = 256 << 20  # decompressed bytes of any file, however small
_MOST_RATIO = 200  # decompressed to compressed bytes beyond that; text does not reach 50


class RawBytes:
    """A file's decompressed bytes, to be iterated over once, in chunks.

    Attributes:
      bytes_read: how many there were so far.
      damage: why they ended before their end, once they did, or where some are missing.
    """

    def __init__(self, path: Path, resumes: bool = False):
        """Takes a file; `resumes` goes on at the next gzip member behind damage within one."""
        self._path, self._resumes = path, resumes
        self._sha256 = hashlib.sha256()
        self.bytes_read = 0
        self.damage: DeadLetterReason | None = None

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes so far."""
        return self._sha256.hexdigest()

    def count(self, data: bytes) -> None:
        """Takes bytes into account that were read in another way."""
        self.bytes_read += len(data)
        self._sha256.update(data)

    def __iter__(self) -> Iterator[bytes]:
        most = max(_ALWAYS_READ, _MOST_RATIO * self._path.stat().st_size)
        try:
            with naming(self._path), self._path.open("rb") as file:
                for chunk in _gathered(self._pieces(file, self._path.suffix)):
                    self.count(chunk)
                    yield chunk
                    if self.bytes_read > most:
                        self.damage = DeadLetterReason.DECOMPRESSION_BOMB
                        return
        except _DAMAGES:
            self.damage = DeadLetterReason.DAMAGED_FILE

    def _pieces(self, file: BinaryIO, suffix: str) -> Iterator[bytes]:
        """What a file holds: its bytes, or those of one compressed stream after the other.

        The libraries' own readers pass over what follows a stream if it is not a stream itself, and
        take a file of no bytes for one of no content: a download that never began.

        Raises:
          EOFError: a stream has no end, or there is none at all.
        """
        if suffix not in _DECOMPRESSORS:
            while data := file.read(_CHUNK_BYTES):
                yield data
            return
        stream, streams, begin = None, 0, 0
        while data := file.read(_COMPRESSED_BYTES):
            if stream is None:
                data = data.lstrip(b"\0") if streams else data  # zeros after a stream are padding
                if not data:
                    continue
                stream, begin = _DECOMPRESSORS[suffix](), file.tell() - len(data)
                streams += 1
            try:
                piece = stream.decompress(data)
            except zlib.error:
                if not self._resumes:
                    raise
                self.damage = DeadLetterReason.DAMAGED_FILE
                stream = None
                _seek_member(file, begin + 1)
                continue
            yield piece
            if stream.eof:
                file.seek(-len(stream.unused_data), os.SEEK_CUR)
                stream = None
        if stream or not streams:
            raise EOFError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in an OSError that does not: the error of a read knows a number alone."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces in chunks that are worth looking at; what came before damage comes out before it."""
    parts, size = [], 0
    try:
        for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size >= _CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    except _DAMAGES:
        if size:
            yield b"".join(parts)
        raise
    if size:
        yield b"".join(parts)


def _seek_member(file: BinaryIO, begin: int) -> None:
    """Goes to where a gzip member seems to begin, from a place on, or to the end."""
    file.seek(begin)
    tail = b""
    while data := file.read(_CHUNK_BYTES):
        if (at := (tail + data).find(_MAGIC)) >= 0:
            file.seek(at - len(tail + data), os.SEEK_CUR)
            return
        tail = data[1 - len(_MAGIC) :]
