"""Files of evaluation sets -> records, each with its place for whoever has to repair it.

A split is a file of JSON lines, or the Parquet files that the Hugging Face Hub has of it, as they
lie there. What a record has to hold is for the readers to say.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from welm_jax.failures import InputError

Record = Mapping[str, Any]
GZIP = b"\x1f\x8b"


def has_split(folder: epath.Path, split: str) -> bool:
    """Whether a folder holds a split."""
    return bool(_json_lines(folder, split) or _shards(folder, split))


def records(folder: epath.Path, split: str) -> Iterator[tuple[str, Record]]:
    """The records of a split in their order, each behind its place: a file and a line or row.

    Args:
      folder: holds `<split>.jsonl`, plain or gzipped, whatever its name ends in; or the Hub's
        `<split>-00000-of-00001.parquet`, all that there are.
      split: its name, such as `validation`.

    Raises:
      InputError: there is no such file, or one too many, or it is damaged.
    """
    lines, shards = _json_lines(folder, split), _shards(folder, split)
    if not lines and not shards:
        raise InputError(
            f"{folder} has no {split}.jsonl or {split}.jsonl.gz, nor {split}-*-of-*.parquet"
        )
    if lines and shards:
        raise InputError(
            f"{folder} has {split} twice, {lines[0].name} and {shards[0].name}; move one away"
        )
    if lines:
        yield from _records_of_lines(lines[0])
    _require_all(shards, split)
    for shard in shards:
        yield from _records_of_shard(shard)


def _json_lines(folder: epath.Path, split: str) -> list[epath.Path]:
    found = (folder / f"{split}.jsonl{ending}" for ending in ("", ".gz"))
    return [file for file in found if file.exists()]


def _records_of_lines(file: epath.Path) -> Iterator[tuple[str, Record]]:
    # Not splitlines: records hold other characters that it takes for ends of lines.
    for number, line in enumerate(_text_of_file(file).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}, is not of its format: {error}") from error
        yield place, record


def _text_of_file(file: epath.Path) -> str:
    content = file.read_bytes()
    try:
        return (gzip.decompress(content) if content[:2] == GZIP else content).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); convert it") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{file} is a damaged gzip file ({error}); fetch it again") from error


def _shards(folder: epath.Path, split: str) -> list[epath.Path]:
    return sorted(folder.glob(f"{split}-*-of-*.parquet")) if folder.exists() else []


def _require_all(shards: list[epath.Path], split: str) -> None:
    """Refuses a part of a set, which has another score."""
    for file in shards:
        wanted = re.match(rf"{split}-\d+-of-(\d+)", file.name)
        if wanted is None or int(wanted[1]) != len(shards):
            raise InputError(
                f"{file.parent} holds {len(shards)} of the files that {file.name} is one of; "
                "fetch all of them, and no others"
            )


def _records_of_shard(file: epath.Path) -> Iterator[tuple[str, Record]]:
    try:
        import pyarrow.parquet  # here, not above: JSON lines need no pyarrow
    except ModuleNotFoundError as error:
        raise InputError(f"{file} needs pyarrow: pip install -e '.[data]'") from error

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(file.read_bytes())) as parquet:
            names = _names_of_classes(parquet.schema_arrow.metadata or {})
            for batch in parquet.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", {**row, **_as_named(row, names)}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        what = str(error).partition("\n")[0]
        raise InputError(f"{file} is a damaged Parquet file ({what}); fetch it again") from error


def _names_of_classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> names of its classes; the Hub's Parquet holds their numbers alone.

    Source: `ClassLabel` among the features that the datasets library writes into a schema.
    """
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {
        column: feature["names"]
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _as_named(row: Record, names: Mapping[str, list[str]]) -> dict[str, str | None]:
    """The classes of a row by name; None of one without, which is -1 there."""
    return {
        column: of_column[row[column]] if row[column] in range(len(of_column)) else None
        for column, of_column in names.items()
    }
