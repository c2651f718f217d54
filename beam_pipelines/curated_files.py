"""The folder of a curation job: where each file lies, and that none is ever seen half written.

Work goes on in a hidden folder beside the output and takes its place when all is done; within it
each file appears by a rename, for Beam may run a step twice. Knows nothing of how text is judged.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from welm_jax.failures import InputError

LEDGER = "ledger.json"
ASIDE = "aside"  # what the first pass leaves for the second; gone from the output
DOCUMENTS = "documents"


def aside_file(folder: Path, file: int) -> Path:
    """Where the documents of one raw file lie between the two passes."""
    return folder / ASIDE / f"{file:06d}.parquet"


def shard_file(folder: Path, source: str, split: str, shard: int, shards: int) -> Path:
    """Where one shard of a source's documents lies."""
    return folder / DOCUMENTS / source / f"{split}-{shard:05d}-of-{shards:05d}.parquet"


def dead_letter_file(folder: Path, raw: str) -> Path:
    """Where the unreadable places of a raw file, by its name in the corpus, are listed."""
    return folder / "dead_letters" / f"{raw.replace('/', '-')}.jsonl"


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to; on success the file appears whole under its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    yield temporary
    temporary.replace(path)


@contextmanager
def replacing(output_dir: Path) -> Iterator[Path]:
    """Gives a folder to work in; on success it becomes output_dir, else no trace of it is left.

    Raises:
      InputError: output_dir holds something that is not an earlier output of this job.
    """
    is_empty = output_dir.is_dir() and not any(output_dir.iterdir())
    if output_dir.exists() and not is_empty and not (output_dir / LEDGER).is_file():
        raise InputError(
            f"{output_dir} holds something else, which would be replaced; "
            "give CURATED_DIR a folder of its own"
        )
    folder = output_dir.with_name(f".{output_dir.name}.{uuid4().hex}")
    folder.mkdir(parents=True)
    try:
        yield folder
        shutil.rmtree(folder / ASIDE)
        if output_dir.exists():
            old = folder.with_name(f"{folder.name}.old")
            output_dir.rename(old)
            folder.rename(output_dir)
            shutil.rmtree(old)
        else:
            folder.rename(output_dir)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def progress_shown(folder: Path, raw_files: int, outputs: int) -> Iterator[None]:
    """Shows how many files are done by counting them on disk: nothing is asked of the workers."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    is_done = threading.Event()
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bars = {
            folder / ASIDE: progress.add_task("raw files read and cleaned", total=raw_files),
            folder / DOCUMENTS: progress.add_task("files of documents written", total=outputs),
        }

        def watch() -> None:
            has_ended = False
            while not has_ended:
                has_ended = is_done.wait(0.2)  # and count once more
                for place, bar in bars.items():
                    progress.update(bar, completed=len(list(place.rglob("[!.]*.parquet"))))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_done.set()
            watcher.join()
