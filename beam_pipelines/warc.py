"""WARC and WET files: a stream of bytes into records, each byte in one of them.

Reads what the common readers do too (ISO 28500), but counts: a header or a length that does not
lead to the next record ends the file, where they look for another and lose what lies between
without a word. Knows nothing of what a record's text is worth.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LONGEST_LINE = 64 << 10
_END = b"\r\n\r\n"


class WarcRecord(NamedTuple):
    """One record.

    Attributes:
      length: all its bytes: header, content and what ends it.
      headers: by their names in lower case.
      content: the bytes announced; None if they are more than asked for.
    """

    length: int
    headers: dict[str, str]
    content: bytes | None


class NotReconciled(Exception):
    """The bytes do not add up from here on."""


def records(chunks: Iterable[bytes], most_content: int) -> Iterator[WarcRecord]:
    """Yields the records of a decompressed stream.

    Args:
      chunks: its bytes.
      most_content: bytes of one record that are kept.

    Raises:
      NotReconciled: no record begins where the last one ends, or the stream ends within one.
    """
    stream = _Stream(chunks)
    while line := stream.line():
        begin = stream.place - len(line)
        if not line.startswith(b"WARC/1."):
            raise NotReconciled
        headers = {}
        while (line := stream.line()).strip():
            name, _, value = line.decode("utf-8", "replace").partition(":")
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise NotReconciled
        content = stream.take(int(length), most_content)
        if stream.take(len(_END), len(_END)) != _END:
            raise NotReconciled
        yield WarcRecord(stream.place - begin, headers, content)


class _Stream:
    """Bytes taken from chunks by number or by line; `place` is how many were taken."""

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks, self._chunk, self._at = iter(chunks), b"", 0
        self.place = 0

    def _more(self) -> bool:
        """Drops what was taken and reads on; whether there was anything to read."""
        chunk = next(self._chunks, b"")
        self._chunk, self._at = self._chunk[self._at :] + chunk, 0
        return bool(chunk)

    def line(self) -> bytes:
        """The next line with its newline, what is left of the stream, or too long a line's head."""
        while (end := self._chunk.find(b"\n", self._at) + 1) == 0:
            if len(self._chunk) - self._at > _LONGEST_LINE or not self._more():
                end = len(self._chunk)
                break
        line, self._at = self._chunk[self._at : end], end
        self.place += len(line)
        return line

    def take(self, count: int, most: int) -> bytes | None:
        """The next bytes, None for more than `most` of them; they are passed over all the same."""
        parts, left = [], count
        while left:
            part = self._chunk[self._at : self._at + left]
            self._at += len(part)
            left -= len(part)
            if count <= most:
                parts.append(part)
            if left and not self._more():
                raise NotReconciled
        self.place += count
        return b"".join(parts) if count <= most else None
