"""The rows of a Parquet file, read by a process of their own, for a damaged file may end it.

Arrow's reader aborts on some files, and raises almost anything on others. What a file says of
itself is held against what it gives: its numbers of rows, and the checksums of its pages. A small
file may give more than any memory or disk holds, for a value that is often the same is stored once.
Knows nothing of what a row means.
"""

import errno
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

# Rows that are decoded at a time, or fewer where those of a row group have more bytes together.
BATCH_ROWS = 8
_BATCH_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
# How the process says that it was the file, the disk or the memory; and how a file ends it.
_DAMAGED, _UNREADABLE, _NO_MEMORY = os.EX_DATAERR, os.EX_IOERR, os.EX_TEMPFAIL
_BOMB = os.EX_UNAVAILABLE
_CRASHES = {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class DamagedParquet(Exception):
    """The file ends here: what follows cannot be read."""


class ParquetBomb(Exception):
    """The file gives more bytes than were asked for."""


class ReaderKilled(Exception):
    """The process that reads was ended from outside, or had too little memory."""


class Undecodable(bytes):
    """A string of a column of text, as the file has it: it is not UTF-8."""


def read_rows(path: Path, fields: Sequence[str], most_bytes: int) -> Iterator[dict[str, Any]]:
    """Yields the rows, as far as they go, with those of the fields that are columns.

    A value is Undecodable where it is not UTF-8, and a tuple where two columns have its name.

    Raises:
      DamagedParquet: after the last row that could be read.
      ParquetBomb: after the last row within `most_bytes`.
      ReaderKilled: says nothing about the file.
      OSError: the disk does not give the file.
    """
    with path.open("rb") as file, tempfile.TemporaryFile() as errors:
        # As a script, in which nothing is imported but this file and Arrow; in a session of its
        # own, so that Control-C ends the job and not the file.
        child = subprocess.Popen(
            [sys.executable, "-P", __file__, str(most_bytes), *fields],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            # Arrow's own pool keeps a hundred megabytes more.
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
        try:
            yield from _rows(child.stdout, fields)
        finally:
            child.stdout.close()
            status = child.wait()
        if status == _UNREADABLE:
            raise OSError(errno.EIO, "Input/output error", str(path))
        if status == _DAMAGED or -status in _CRASHES:
            raise DamagedParquet
        if status == _BOMB:
            raise ParquetBomb
        if status == _NO_MEMORY or status < 0:
            raise ReaderKilled
        if status:
            errors.seek(0)
            raise RuntimeError(errors.read().decode(errors="replace"))


def _rows(stream: BinaryIO, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows that the process sends; they end where it ends."""
    try:
        for batch in pa.ipc.open_stream(stream):
            names = batch.schema.names
            columns: dict[str, list[Any]] = {}
            for name in {*names} & {*fields}:
                same = [
                    _values(column)
                    for column, its_name in zip(batch.columns, names, strict=True)
                    if its_name == name
                ]
                columns[name] = same[0] if len(same) == 1 else [*zip(*same, strict=True)]
            for row in range(batch.num_rows):
                yield {name: values[row] for name, values in columns.items()}
    except (pa.ArrowInvalid, OSError):  # it died within a batch, or before the first
        return


def _values(column: pa.Array) -> list[Any]:
    """The values of a column as Python's, each by itself where not all can be."""
    try:
        return column.to_pylist()
    except Exception:  # of any kind: times and zones that Python lacks, bytes that are not UTF-8
        return [_value(one) for one in column]


def _value(scalar: pa.Scalar) -> Any:
    """A value as Python's; one that Python cannot express as Arrow writes it, or None."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Undecodable(_cast(scalar, pa.large_binary()) or b"")
    except Exception:  # see _values
        text = _cast(scalar, pa.string()) or ""
        return None if not text or text.startswith("<value out of range") else text


def _cast(scalar: pa.Scalar, to: pa.DataType) -> Any:
    try:
        return scalar.cast(to).as_py()
    except (pa.ArrowException, ValueError):
        return None


class _ParquetFile(pq.ParquetFile):
    """A file whose columns are not asked for by name: a name may be in other bytes than UTF-8."""

    def _build_nested_paths(self) -> dict[str, list[int]]:
        return {}


def _send(file: BinaryIO, fields: Sequence[str], most_bytes: int, sink: BinaryIO) -> None:
    """Writes the rows of a file to a pipe; raises anything where they do not add up."""
    # Its buffers would keep all columns of all row groups until the end.
    parquet = _ParquetFile(
        file, page_checksum_verification=True, pre_buffer=False, buffer_size=_BUFFER_BYTES
    )
    columns = [number for number in range(len(parquet.schema)) if _name(parquet, number) in fields]
    groups = range(parquet.num_row_groups)
    grouped = sum(_group_rows(parquet, number, columns) for number in groups)
    _require_equal(parquet.metadata.num_rows, grouped)
    rows, size, writer = 0, 0, None
    for batch in _batches(parquet, columns, most_bytes):
        batch = batch.replace_schema_metadata(None)
        size += batch.nbytes
        if size > most_bytes:
            raise ParquetBomb
        writer = writer or pa.ipc.new_stream(sink, batch.schema)
        writer.write_batch(batch)
        sink.flush()  # these rows are sound, even if the next are not
        rows += len(batch)
    _require_equal(parquet.metadata.num_rows, rows)


def _batches(
    parquet: pq.ParquetFile, columns: Sequence[int], most_bytes: int
) -> Iterator[pa.RecordBatch]:
    """The rows, few at a time where they are large.

    Raises:
      ParquetBomb: when it comes to a row group that is larger than `most_bytes`.
    """

    def rows_at_a_time(number: int) -> int:
        group = parquet.metadata.row_group(number)
        size = sum(group.column(column).total_uncompressed_size for column in columns)
        if size > most_bytes:
            return 0
        return min(BATCH_ROWS, max(_BATCH_BYTES * group.num_rows // max(size, 1), 1))

    for rows, groups in itertools.groupby(range(parquet.num_row_groups), rows_at_a_time):
        if not rows:
            raise ParquetBomb
        for batch in parquet.reader.iter_batches(
            rows, [*groups], column_indices=columns, use_threads=False
        ):
            # The size is of values as they are stored: each once, however often it occurs.
            step = 1 if batch.nbytes > _BATCH_BYTES else rows
            for row in range(0, len(batch), step):
                yield batch.slice(row, step)


def _name(parquet: pq.ParquetFile, number: int) -> str:
    """The first name on the way to a leaf column, empty for one in other bytes than UTF-8."""
    try:
        return parquet.schema.column(number).path.split(".")[0]
    except UnicodeDecodeError:
        return ""


def _group_rows(parquet: pq.ParquetFile, number: int, columns: Sequence[int]) -> int:
    """The rows of a row group, on which its flat columns have to agree."""
    group = parquet.metadata.row_group(number)
    for column in columns:
        if not parquet.schema.column(column).max_repetition_level:
            _require_equal(group.num_rows, group.column(column).num_values)
    return group.num_rows


def _require_equal(declared: int, found: int) -> None:
    if declared != found:
        raise ValueError(f"{declared} rows are declared, {found} found")


def main(arguments: Sequence[str]) -> int:
    """Reads the file at standard input; returns the status that says how that ended."""
    most_bytes, *fields = arguments
    try:
        _send(sys.stdin.buffer, fields, int(most_bytes), sys.stdout.buffer)
    except ParquetBomb:
        return _BOMB
    except OSError as error:
        # Arrow's own have no number; a broken pipe says that what was sent is not Arrow's.
        return _UNREADABLE if error.errno not in (None, errno.EPIPE) else _DAMAGED
    except MemoryError:
        return _NO_MEMORY
    except Exception as error:  # Arrow's words for damage are too many to name
        print(error, file=sys.stderr)
        return _DAMAGED
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # at an ordinary exit Arrow's threads abort now and then
