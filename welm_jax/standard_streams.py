"""Standard output and error that end nothing: neither a lost reader nor an encoding stops the work.

Knows nothing of what is printed.
"""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import TextIO

# The reader of a pipe has ended, a terminal or a connection is closed.
_NO_READER = {errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ENOTCONN}


class _Stream(io.FileIO):
    """A file that takes all that it is given; what cannot be written is lost.

    Attributes:
      error: what prevented a write, other than that nobody reads.
      is_needed: whether a person misses what is lost.
    """

    error: OSError | None = None
    is_needed = True

    def write(self, data) -> int:
        """Writes what can be written and returns the size of all."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NO_READER:
                self.error = error
            return len(data)


def make_lasting() -> None:
    """Replaces sys.stdout and sys.stderr by streams whose writes never fail.

    A character that the encoding lacks is written as an escape. Streams that do not write to the
    process's own output, such as those of a test, are left alone.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by the shell (`>&-`): a file of the run would get its number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = _lasting(sys.stdout, 1), _lasting(sys.stderr, 2)


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # Python found it closed
        encoding, by_line = "utf-8", False
    elif _number_of(stream) != number or _raw(stream):
        return stream
    else:
        with contextlib.suppress(OSError):
            stream.flush()
        encoding, by_line = stream.encoding, stream.line_buffering or stream.write_through
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(number, "wb", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=by_line,
    )


def _number_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError):
        return None


def _raw(stream: TextIO) -> _Stream | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Stream) else None


@contextlib.contextmanager
def outliving_terminal() -> Iterator[None]:
    """Lets work go on when its terminal closes, and end well whatever becomes of its output."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if raw := _raw(sys.stdout):
        raw.is_needed = False
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)


def lost_output() -> OSError | None:
    """Returns why a part of standard output is lost although somebody waits for it."""
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    return raw.error if raw and raw.is_needed else None
