"""The output of a pipeline: where curation's files lie, and that none is ever seen half written.

Work goes on in a hidden folder beside the output and takes its place when all is done; within it
each file appears by a rename, for Beam may run a step twice. Knows nothing of what files hold.
"""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from welm_jax.failures import InputError
from welm_jax.run_files import locked

ASIDE = "aside"  # what the first pass of curation leaves for the second
DOCUMENTS = "documents"
DEAD_LETTERS = "dead_letters"
_LONGEST_NAME = 180  # bytes; file systems allow 255


def aside_file(folder: Path, file: int) -> Path:
    """Where the documents of one raw file lie between the two passes."""
    return folder / ASIDE / f"{file:06d}.parquet"


def done_file(folder: Path, file: int) -> Path:
    """What the first pass said of one raw file, once it was done with it."""
    return folder / ASIDE / f"{file:06d}.done"


def released_file(folder: Path, file: int) -> Path:
    """Where the documents of one raw file lie that duplicates and contamination have left."""
    return folder / ASIDE / f"{file:06d}.arrow"


def duplicates_file(folder: Path, file: int) -> Path:
    """The documents of one raw file that duplicates displaced, and which: a line each."""
    return folder / "duplicates" / f"{file:06d}.jsonl"


def shard_file(folder: Path, dataset: str, split: str, shard: int, shards: int) -> Path:
    """Where one shard of a dataset's documents lies."""
    return folder / DOCUMENTS / dataset / f"{split}-{shard:05d}-of-{shards:05d}.parquet"


def dead_letter_file(folder: Path, raw: str) -> Path:
    """Where the unreadable places of a raw file, by its name in the corpus, are listed.

    A long name is cut and told from others by a digest, for it grows while the file is written.
    """
    name = os.fsencode(raw.replace("/", "-"))
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + b"-" + hashlib.sha256(name).hexdigest()[:16].encode()
    return folder / DEAD_LETTERS / f"{os.fsdecode(name)}.jsonl"


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to; on success the file appears whole under its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    yield temporary
    temporary.replace(path)


@contextmanager
def replacing(output_dir: Path, sign: str, asked: str = "") -> Iterator[Path]:
    """Gives a folder to work in; on success it becomes output_dir, whole.

    Work that failed or was killed stays in the hidden folder, if it can be gone on with: who asks
    for the same finds ASIDE and DEAD_LETTERS as they were left.

    Args:
      output_dir: the output; an earlier one goes as a whole, and only then.
      sign: pattern of files that every earlier output has and no other folder.
      asked: what ASIDE depends on; empty for work that always begins anew.

    Raises:
      InputError: output_dir holds something that is not an earlier output, or another job is
        at it.
    """
    place = output_dir.with_name(f".{output_dir.name}.partial")
    old, new = place / "old", place / "new"
    is_taken = output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir()))
    if is_taken and not any(output_dir.glob(sign)):
        raise InputError(
            f"{output_dir} holds something else, which would be replaced; "
            "give the output a folder of its own"
        )
    place.mkdir(parents=True, exist_ok=True)
    told = f"{output_dir} is being written by another job; wait for it, or stop it"
    with locked(place / "lock", told):
        if old.exists() and not output_dir.exists():  # of a job killed between two renames
            old.rename(output_dir)
        _prepare(place, asked)
        try:
            yield new
        except BaseException:
            if not asked:
                shutil.rmtree(place, ignore_errors=True)
            raise
        if output_dir.exists():
            output_dir.rename(old)
        new.rename(output_dir)
        shutil.rmtree(place, ignore_errors=True)


def _prepare(place: Path, asked: str) -> None:
    """Leaves of earlier work what can be gone on with, and nothing half written."""
    new, sign = place / "new", place / "asked"
    shutil.rmtree(place / "old", ignore_errors=True)
    is_same = asked and sign.is_file() and sign.read_text(encoding="utf-8") == asked
    if not is_same:
        sign.unlink(missing_ok=True)  # first, for it must not vouch for what is half removed
    for folder in new.iterdir() if new.exists() else ():
        if not is_same or folder.name not in (ASIDE, DEAD_LETTERS):
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    for unfinished in [*new.glob("*/.*")]:
        unfinished.unlink()
    new.mkdir(exist_ok=True)
    with appearing(sign) as path:
        path.write_text(asked, encoding="utf-8")


@contextmanager
def progress_shown(*stages: tuple[str, Path, str, int]) -> Iterator[None]:
    """Shows how many files are there of those to come: nothing is asked of the workers.

    Args:
      *stages: what to call them, their folder, the pattern of their names, and how many there
        will be.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    is_done = threading.Event()
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bars = [progress.add_task(name, total=total) for name, _, _, total in stages]

        def watch() -> None:
            while not is_done.wait(0.2):
                for bar, (_, folder, pattern, _) in zip(bars, stages, strict=True):
                    progress.update(bar, completed=sum(1 for _ in folder.rglob(pattern)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_done.set()
            watcher.join()
        for bar, (_, _, _, total) in zip(bars, stages, strict=True):
            progress.update(bar, completed=total)
