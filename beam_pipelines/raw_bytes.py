"""The bytes of a raw file, decompressed as far as they go: damage ends them, and is recorded.

The common readers end a half-cut file without a word, give bytes that the checksum behind them
refutes, and a small file may decompress to more than any disk holds. Knows nothing of records.
"""

import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
      most: how many there may be.
      bytes_read: how many there were so far.
      damage: why they ended before their end, once they did, or where some are missing.
    """

    def __init__(self, path: Path, resumes: bool = False):
        """Takes a file; `resumes` goes on at the next gzip member behind damage within one."""
        self._path, self._resumes = path, resumes
        self._sha256 = hashlib.sha256()
        self.most = max(_ALWAYS_READ, _MOST_RATIO * path.stat().st_size)
        self.bytes_read = 0
        self.damage: DeadLetterReason | None = None

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes so far."""
        return self._sha256.hexdigest()

    def count(self, data: bytes) -> None:
        """Takes bytes into account that were read, here or in another way."""
        self.bytes_read += len(data)
        self._sha256.update(data)
        if self.bytes_read > self.most:
            self.damage = DeadLetterReason.DECOMPRESSION_BOMB

    def __iter__(self) -> Iterator[bytes]:
        try:
            with naming(self._path), self._path.open("rb") as file:
                for chunk in _gathered(self._pieces(file)):
                    self.count(chunk)
                    yield chunk
                    if self.damage is DeadLetterReason.DECOMPRESSION_BOMB:
                        return
        except _DAMAGES:
            self.damage = DeadLetterReason.DAMAGED_FILE

    def _pieces(self, file: BinaryIO) -> Iterator[bytes]:
        """What a file holds: its bytes, or those of one compressed stream after the other.

        The libraries' own readers give a stream's bytes before its checksum, pass over what follows
        a stream if it is not a stream itself, and take a file of no bytes for one of no content: a
        download that never began.

        Raises:
          EOFError: a stream has no end, or there is none at all.
        """
        suffix, streams = self._path.suffix, 0
        if suffix not in _DECOMPRESSORS:
            while data := file.read(_CHUNK_BYTES):
                yield data
            return
        while _has_stream(file, streams):
            begin = file.tell()
            streams += 1
            # 1. To its end and back, keeping nothing: a wrong checksum refutes all of it.
            try:
                self._verify(_stream(file, suffix))
            except zlib.error:
                if not self._resumes:
                    raise
                self.damage = DeadLetterReason.DAMAGED_FILE
                _seek_member(file, begin + 1)
                continue
            # 2. Its bytes; of one that is cut, which nothing refutes, as many as there are.
            file.seek(begin)
            yield from _stream(file, suffix)
        if not streams:
            raise EOFError

    def _verify(self, pieces: Iterable[bytes]) -> None:
        """Reads a stream as far as it goes, or until it is a bomb; raises what refutes it."""
        left = self.most - self.bytes_read
        with suppress(EOFError):
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    return


def _has_stream(file: BinaryIO, streams: int) -> bool:
    """Whether the file goes on; zeros after a stream are padding, and passed over."""
    while data := file.read(_COMPRESSED_BYTES):
        stream = data.lstrip(b"\0") if streams else data
        if stream:
            file.seek(-len(stream), os.SEEK_CUR)
            return True
    return False


def _stream(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The bytes of the compressed stream that begins here; leaves the file at its end.

    Raises:
      EOFError: it has none.
    """
    stream = _DECOMPRESSORS[suffix]()
    while not stream.eof:
        data = file.read(_COMPRESSED_BYTES)
        if not data:
            raise EOFError
        yield stream.decompress(data)
    file.seek(-len(stream.unused_data), os.SEEK_CUR)


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
