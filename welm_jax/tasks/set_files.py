"""Files of evaluation sets -> records, each with its place for whoever has to repair it.

A split is a file of JSON lines, or the Parquet files that the Hugging Face Hub has of it, as they
lie there. Questions in two languages may be TFDS's, which has a dataset of each. What a record has
to hold is for the readers to say. No TensorFlow.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath
from google.protobuf.json_format import ParseError

from welm_jax.failures import InputError

Record = Mapping[str, Any]
GZIP = b"\x1f\x8b"
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON writes one, alone or in a pair
TFDS_SPLITS = {"validation": "test"}  # ours -> what TFDS calls it


def has_split(folder: epath.Path, split: str) -> bool:
    """Whether a folder holds a split."""
    return any(find(folder, split) for find in (_json_lines, _shards, _of_tfds))


def is_json_lines(folder: epath.Path, split: str) -> bool:
    """Whether a split is there as JSON lines, and not as somebody else's copy."""
    return bool(_json_lines(folder, split))


def records(folder: epath.Path, split: str) -> Iterator[tuple[str, Record]]:
    """The records of a split in their order, each behind its place: a file and a line or row.

    Args:
      folder: holds `<split>.jsonl`, plain or gzipped, whatever its name ends in; or the Hub's
        `<split>-00000-of-00001.parquet`, all that there are; or, in place of `validation` alone,
        TFDS's `<name>/<language>/<version>` for each language.
      split: its name, such as `validation`.

    Raises:
      InputError: there is no such file, or one too many, or it is damaged.
    """
    lines, shards, languages = (find(folder, split) for find in (_json_lines, _shards, _of_tfds))
    forms = [one[0].relative_to(folder) for one in (lines, shards, languages) if one]
    if not forms:
        raise InputError(
            f"{folder} has no {split}.jsonl or {split}.jsonl.gz, nor {split}-*-of-*.parquet"
        )
    if len(forms) > 1:
        raise InputError(f"{folder} has {split} twice, {forms[0]} and {forms[1]}; move one away")
    if lines:
        yield from _records_of_lines(lines[0])
    _require_all(shards, split)
    for shard in shards:
        yield from records_of_parquet(shard)
    if languages:
        yield from _joined(languages)


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
        if SURROGATE.search(line):
            _require_text(place, record)
        yield place, record


def _require_text(place: str, record: Any) -> None:
    """Refuses halves of surrogate pairs, with which a record can be neither encoded nor written."""
    fields = record.items() if isinstance(record, Mapping) else [("it", record)]
    for name, value in fields:
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{place}, is not of its format: {ascii(name)} holds half of a surrogate pair, "
                f"{ascii(error.object[error.start])}; write the whole character, or take it out"
            ) from error


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


def records_of_parquet(file: epath.Path) -> Iterator[tuple[str, Record]]:
    """The rows of a file, with the names of their classes, each behind its place.

    Raises:
      InputError: the file is damaged, or pyarrow is not installed.
    """
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


def _of_tfds(folder: epath.Path, split: str) -> list[epath.Path]:
    """The datasets of a folder's languages, where TFDS has such a split."""
    if split not in TFDS_SPLITS or not folder.exists():
        return []
    return sorted(file.parent for file in folder.glob("*/*/*/dataset_info.json"))


def _joined(datasets: list[epath.Path]) -> Iterator[tuple[str, Record]]:
    """Questions that all languages have, joined by their ids."""
    of_language = {
        folder.parent.name: {row["id"]: row for row in records_of_tfds(folder)}
        for folder in datasets
    }
    if len(of_language) < len(datasets):
        raise InputError(f"{datasets[0].parent.parent} has a language twice; move a version away")
    first, *others = of_language.values()
    for one in first:
        if all(one in rows for rows in others):
            place = f"{datasets[0].parent.parent}, question {one}"
            yield place, {"id": one, **{name: rows[one] for name, rows in of_language.items()}}


def records_of_tfds(folder: epath.Path) -> Iterator[Record]:
    """What is asked of a TFDS dataset.

    Args:
      folder: of a version, with its dataset_info.json.

    Raises:
      InputError: it is damaged, or not in ArrayRecord, the form that is read without TensorFlow.
    """
    import tensorflow_datasets as tfds  # here, not above: files need none

    try:
        source = tfds.builder_from_directory(folder).as_data_source(TFDS_SPLITS["validation"])
        yield from map(_plain, source)
    except (OSError, ValueError, KeyError, RuntimeError, ParseError) as error:
        what = str(error).partition("\n")[0]
        raise InputError(
            f"{folder} is damaged, or not built with file_format='array_record' ({what})"
        ) from error


def _plain(value: Any) -> Any:
    """What JSON would have in place of TFDS's bytes and NumPy's numbers."""
    match value:
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case list() | np.ndarray():
            return [*map(_plain, value)]
        case bytes():
            return value.decode()
        case np.generic():
            return value.item()
    return value
