"""The text of evaluation sets, from a folder of files in whatever form they were published.

Every string of every file counts, but for files of training text. What is below the folder and is
not read is named, so that no set is missed in silence. Knows nothing of what the text is for.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from beam_pipelines.text_files import json_values, read_text
from welm_jax.failures import InputError
from welm_jax.tasks import set_files

TFDS_INFO = "dataset_info.json"  # in the folder of a TFDS dataset
FORMATS = "*.jsonl, *.json, *.tsv, *.csv, *.txt (each plain, .gz, .xz or .zst) or *.parquet"
_READABLE = re.compile(r".+\.((jsonl?|tsv|csv|txt)(\.(gz|xz|zst))?|parquet)")
_TRAINING = "train"  # what the names of such files begin with
# About a set, not of it.
_ABOUT = re.compile(r"SOURCE\.json|(README|LICEN[CS]E)(\.(md|rst|txt))?", re.IGNORECASE)


def evaluation_files(folder: str) -> list[Path]:
    """The files of evaluation text below a folder, links followed; refuses a folder of none."""
    files = [path for path in _files(Path(folder)) if _is_read(path)]
    if not files:
        raise InputError(f"{folder} holds no {FORMATS} of evaluation text")
    return files


def unread_files(folder: str) -> str:
    """Names the files below a folder that are not read, in one line; empty if there are none."""
    others = [path for path in _files(Path(folder)) if not _is_read(path)]
    training = [path for path in others if path.name.startswith(_TRAINING)]
    names = [str(path.relative_to(folder)) for path in others if path not in training]
    named = [*names[:9], *([f"{len(names) - 9} more"] if names[9:] else [])]
    if training:
        named.append(f"{len(training)} files of training text ({_TRAINING}*)")
    return f"{folder}: not read: {', '.join(named)}; evaluation text is {FORMATS}" if named else ""


def texts_by_task(folder: str, files: Iterable[Path]) -> dict[str, set[str]]:
    """The texts of files below a folder, each once, by task: their folder, or a file at the top.

    Raises:
      InputError: a file is damaged.
    """
    texts: dict[str, set[str]] = {}
    for path in files:
        place = path.relative_to(folder)
        task = place.parts[0] if len(place.parts) > 1 else place.name.partition(".")[0]
        texts.setdefault(task, set()).update(_texts(path))
    return texts


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder but hidden ones and those about a set; of TFDS's datasets one each.

    A link to one of the folders above, which would lead on without end, is passed over.
    """
    above |= {folder.resolve()}
    if (folder / TFDS_INFO).exists():
        yield folder / TFDS_INFO
        return
    for path in sorted(folder.iterdir()):
        if path.name[0] == ".":
            continue
        if not path.is_dir():
            if not _ABOUT.fullmatch(path.name):
                yield path
        elif path.resolve() not in above:
            yield from _files(path, above)


def _is_read(path: Path) -> bool:
    is_text = bool(_READABLE.fullmatch(path.name)) and not path.name.startswith(_TRAINING)
    return is_text and path.is_file()


def _texts(path: Path) -> Iterator[str]:
    if path.name == TFDS_INFO:
        return _strings(set_files.records_of_tfds(path.parent))
    if path.suffix == ".parquet":
        return _strings(record for _, record in set_files.records_of_parquet(path))
    if re.search(r"\.jsonl?(\.|$)", path.name):
        # Of an object only the values: both of a key that stands twice.
        values = json_values(path, lambda pairs: [value for _, value in pairs])
        return _strings(value for _, value in values)
    # As one text: lines may be broken anywhere, and blanks and marks do not count.
    return iter([read_text(path)])


def _strings(values: Iterable[Any]) -> Iterator[str]:
    """Every string in these values, but not the names of fields."""
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, bytes):
            with contextlib.suppress(UnicodeDecodeError):  # Parquet's binary: text, or a picture
                yield value.decode()
