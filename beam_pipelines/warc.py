"""WARC and WET files: a stream of bytes into records, each byte in one of them or counted as lost.

Reads what the common readers do too (ISO 28500), but counts: where a header or a length does not
lead to the next record, they lose what lies between without a word, or all that follows. Here
reading goes on where the next record begins. Knows nothing of what a record's text is
worth.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LONGEST_LINE = 64 << 10
_LONGEST_HEADER = 1 << 20
_BEGIN = b"WARC/"  # of any version: those of 2008 are laid out alike
# The first line of a record and a header below it, so that a text about WARC is not cut.
_NEXT = re.compile(rb"WARC/[0-9]\.[0-9]+\r?\n(?:WARC|warc|Content|content)-[A-Za-z-]+:")
_LONGEST_NEXT = 256  # bytes in which the pattern is found whole


class WarcRecord(NamedTuple):
    """One record.

    Attributes:
      length: all its bytes: header, content and the blank lines that end it.
      headers: by their names in lower case.
      content: the bytes announced; None if they are more than asked for.
    """

    length: int
    headers: dict[str, str]
    content: bytes | None


class Lost(NamedTuple):
    """Bytes between two sound records that are not a record; `length` of them."""

    length: int


def records(chunks: Iterable[bytes], most_content: int) -> Iterator[WarcRecord | Lost]:
    """Yields the records of a decompressed stream, and the bytes lost between them.

    What is lost at the end, after the last sound record, is left for the caller to count.

    Args:
      chunks: its bytes.
      most_content: bytes of one record that are kept.
    """
    stream = _Stream(chunks)
    reconciled = 0  # bytes up to the end of the last sound record
    while stream.has_more():
        begin = stream.place
        record = _record(stream, most_content)
        if record is None:
            stream.seek_next_record()
            continue
        if begin > reconciled:
            yield Lost(begin - reconciled)
        yield WarcRecord(stream.place - begin, *record)
        reconciled = stream.place
        stream.forget()


def _record(stream: "_Stream", most_content: int) -> tuple[dict[str, str], bytes | None] | None:
    """Headers and content of the record that begins here; None if it does not lead to the next."""
    stream.take_head()
    first = stream.line()
    if not first.startswith(_BEGIN):
        return None
    headers = _headers(stream)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return None
    begin, is_kept = stream.place, int(length) <= most_content
    is_whole = stream.skip(int(length)) if is_kept else stream.pass_over(int(length))
    if not (is_whole and stream.take_end(first)):
        return None
    return headers, stream.kept(begin, int(length)) if is_kept else None


def _headers(stream: "_Stream") -> dict[str, str]:
    """The headers up to a blank line, none if there is none; a folded line continues the last."""
    headers, name, begin = {}, "", stream.place
    while (line := stream.line()).strip():
        # No header is so long, or holds the beginning of another record: so that a file of many
        # beginnings is not read anew from each.
        if line.startswith(_BEGIN) or stream.place - begin > _LONGEST_HEADER:
            return {}
        text = line.decode("utf-8", "replace")
        if text[0] in " \t" and name:
            headers[name] += " " + text.strip()
        else:
            name, _, value = text.partition(":")
            name = name.strip().lower()
            headers[name] = value.strip()
    return headers if line else {}


class _Stream:
    """Bytes from chunks, kept from the beginning of a record on, so that reading can go back.

    Attributes:
      place: bytes of the stream that were taken.
    """

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks = iter(chunks)
        self._kept = bytearray()  # from _begin on
        self._begin = 0  # of what is kept, as bytes of the stream
        self._next = 1  # where the next record may begin, if this is not one
        self.place = 0

    def _fill(self, count: int) -> bool:
        """Reads until so many bytes are ahead; whether there are."""
        while len(self._kept) - (self.place - self._begin) < count:
            chunk = next(self._chunks, b"")
            if not chunk:
                return False
            self._kept += chunk
        return True

    def has_more(self) -> bool:
        """Whether any byte is ahead."""
        return self._fill(1)

    def forget(self) -> None:
        """Drops what was taken: there is no going back behind this place."""
        del self._kept[: self.place - self._begin]
        self._begin, self._next = self.place, self.place + 1

    def line(self) -> bytes:
        """Takes the next line with its newline, what is left, or the head of too long a line."""
        size = 256
        while True:
            is_there, at = self._fill(size), self.place - self._begin
            end = self._kept.find(b"\n", at, at + _LONGEST_LINE) + 1
            if end or not is_there or size >= _LONGEST_LINE:
                break
            size *= 4
        line = bytes(self._kept[at : end or at + _LONGEST_LINE])
        self.place += len(line)
        return line

    def skip(self, count: int) -> bool:
        """Goes over the next bytes and keeps them; False if there are fewer."""
        is_there = self._fill(count)
        self.place += count if is_there else 0
        return is_there

    def kept(self, begin: int, count: int) -> bytes:
        """The bytes from a place on that was not forgotten."""
        return bytes(self._kept[begin - self._begin : begin - self._begin + count])

    def pass_over(self, count: int) -> bool:
        """Passes over more bytes than are kept; False where a record begins among them.

        There is no going back behind these bytes, so their announced length is not trusted.
        """
        end = self.place + count
        while self.place < end:
            self.forget()
            if not self.has_more():
                return False
            self._fill(_LONGEST_NEXT)
            if found := _NEXT.search(self._kept, 0, min(len(self._kept), end - self.place)):
                self._next = self.place + found.start()
                return False
            # What may be half of such a beginning stays for the next look.
            ahead = max(len(self._kept) - _LONGEST_NEXT, 1)
            self.place = min(self.place + ahead, end)
        return True

    def take_head(self) -> None:
        """Takes a byte order mark and blank lines at the head of the stream."""
        if self.place == 0:
            self.place = len(codecs.BOM_UTF8) if self._starts_with(codecs.BOM_UTF8) else 0
            self._take_blank_lines()

    def take_end(self, first_line: bytes) -> bool:
        """Takes the blank lines that end a record; whether they do end it.

        The standard wants two line ends, such as the record's first line has. Where there are
        others the next record has to follow, or nothing at all.
        """
        line_end = b"\r\n" if first_line.endswith(b"\r\n") else b"\n"
        is_standard = self._starts_with(2 * line_end)
        self._take_blank_lines()
        self._fill(len(_BEGIN))
        at = self.place - self._begin
        # The next record may be cut by the end of the file.
        return is_standard or _BEGIN.startswith(bytes(self._kept[at : at + len(_BEGIN)]))

    def _take_blank_lines(self) -> None:
        while self._starts_with(b"\r") or self._starts_with(b"\n"):
            self.place += 1

    def _starts_with(self, data: bytes) -> bool:
        """Whether these bytes are ahead."""
        self._fill(len(data))
        return self._kept.startswith(data, self.place - self._begin)

    def seek_next_record(self) -> None:
        """Goes on to where the next record seems to begin, or to the end."""
        self.place = self._next  # it may lie within what was taken for the last record
        found = None
        while found is None and self._fill(_LONGEST_NEXT):
            self.forget()
            found = _NEXT.search(self._kept)
            # What may be half of a beginning stays for the next look.
            self.place += found.start() if found else len(self._kept) - _LONGEST_NEXT + 1
        self.forget()
        if found is None:
            found = _NEXT.search(self._kept)
            self.place += found.start() if found else len(self._kept)
            self.forget()
