"""Curated documents in, one token dataset per source out; any registered seqio Task likewise.

    python -m beam_pipelines.write_tokens --gin_file gin_configs/corpus/quickstart.gin
        [--import my_pkg.tasks] [--gin.NAME=VALUE]... [Beam's own options]

An element is one Parquet shard of documents, or one split of a Task: read, encoded and packed where
it lies, it becomes one ArrayRecord file; only its counts are grouped. All is written beside
TOKENS_DIR and takes its place at the end. Deliberately does not know how rows are packed
(text.records) or stored (token_files), nor what a Task is (task_texts).
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from beam_pipelines.curated_files import progress_shown, replacing
from beam_pipelines.document import SPLITS, document_id
from beam_pipelines.runner import (
    on_worker,
    open_pipeline,
    read_command_line,
    require_local,
    running,
)
from beam_pipelines.task_texts import task_splits, task_texts
from beam_pipelines.token_files import (
    describe,
    file_name,
    row_features,
    write_documents,
    write_rows,
)
from welm_jax.failures import InputError, StopAndLook, require_positive, run_door
from welm_jax.text.records import (
    LEDGER_FILE,
    METADATA_FILE,
    SAMPLES_FILE,
    TOKENIZER_FILE,
    TokenMetadata,
    TokenSplit,
    pack,
)
from welm_jax.text.tokenizer import Tokenizer, document_files, document_texts

IMPORT_FLAG = {
    "dest": "modules",
    "metavar": "MODULE",
    "action": "append",
    "default": [],
    "help": "a module that registers seqio Tasks; may be given again",
}


@dataclass(frozen=True, kw_only=True)
class WriteTokensConfig:
    """Which text becomes rows of which length.

    Attributes:
      curated_dir: folder that beam_pipelines.curate wrote.
      tokenizer: SentencePiece model file of `welm train_tokenizer`.
      output_dir: gets one folder per source and Task, the tokenizer and the ledger; what an
        earlier run wrote there goes.
      sequence_tokens: T, targets in a row. The paper: 2,048.
      tasks: names of seqio Tasks to write as well, registered by the modules of `--import`.
    """

    curated_dir: str
    tokenizer: str
    output_dir: str
    sequence_tokens: int
    tasks: tuple[str, ...] = ()

    def __post_init__(self):
        require_positive(self, "sequence_tokens")
        require_local(self.curated_dir, self.tokenizer, self.output_dir)


class TextShard(NamedTuple):
    """One element of the pipeline.

    Attributes:
      source: name of the source or of the Task.
      split: "train" or "heldout".
      index: its number among the shards of the split.
      count: how many those are.
      documents: gives the id and the text of each document, in stored order.
      ledger_digest: of the curation; None for a Task.
    """

    source: str
    split: str
    index: int
    count: int
    documents: Callable[[], Iterator[tuple[str, str]]]
    ledger_digest: str | None


def write_tokens(
    config: WriteTokensConfig, modules: Sequence[str] = (), beam_flags: Sequence[str] = ()
) -> list[TokenMetadata]:
    """Runs the pipeline; the finished datasets take the place of all that earlier runs wrote.

    A source whose training documents are all gone gets no dataset: a mixture that names it is then
    refused.

    Args:
      config: what to write.
      modules: modules that register the Tasks.
      beam_flags: Beam's own, as `--NAME=VALUE`.

    Returns:
      The metadata of each dataset written, by name.

    Raises:
      InputError: no documents, an unfinished curation, no tokenizer, a Task that nobody
        registered, or nothing to write.
    """
    pipeline = open_pipeline(beam_flags)
    Tokenizer(config.tokenizer)  # a wrong one is refused before the work, not in it
    shards = curated_shards(config.curated_dir)
    if twice := {shard.source for shard in shards} & set(config.tasks):
        raise InputError(f"{min(twice)} is a source and a Task; rename one of them")
    shards += task_shards(config.tasks, modules)
    with replacing(Path(config.output_dir).absolute(), sign=f"*/{METADATA_FILE}") as folder:
        stage = ("files of tokens written", folder, "[!.]*.array_record-*", len(shards))
        with progress_shown(stage), running(pipeline):
            recipe(pipeline, shards, config, folder)
        written = finished_datasets(folder)
        shutil.copyfile(config.tokenizer, folder / TOKENIZER_FILE)
        for name in (LEDGER_FILE, SAMPLES_FILE):
            shutil.copyfile(Path(config.curated_dir) / name, folder / name)
    return written


def recipe(pipeline, shards: Sequence[TextShard], config: WriteTokensConfig, folder: Path) -> None:
    """Lays out the Beam pipeline, which leaves its files in `folder`."""
    import apache_beam as beam

    _ = (
        pipeline
        | "shards" >> beam.Create(shards)
        | "spread over the workers" >> beam.Reshuffle()
        | "encode and pack" >> beam.Map(on_worker(write_shard), config, folder)
        | "by source" >> beam.GroupByKey()
        | "describe"
        >> beam.MapTuple(on_worker(partial(describe_source, config=config, folder=folder)))
    )


def curated_shards(curated_dir: str) -> list[TextShard]:
    """Lists the document shards of every source; refuses a curation that did not end."""
    sources = {split: document_files(curated_dir, split) for split in SPLITS}
    try:
        ledger = (Path(curated_dir) / LEDGER_FILE).read_text(encoding="utf-8")
        digest = json.loads(ledger)["digest"]
        (Path(curated_dir) / SAMPLES_FILE).stat()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{curated_dir} has no whole {LEDGER_FILE} and {SAMPLES_FILE}, so its curation did not "
            "end, or was of an earlier version; run it again"
        ) from error
    return [
        TextShard(source, split, index, len(files), partial(curated_documents, file), digest)
        for split in SPLITS
        for source, files in sources[split].items()
        for index, file in enumerate(files)
    ]


def curated_documents(file: Path) -> Iterator[tuple[str, str]]:
    """Yields the id and the text of each document of a Parquet file.

    Raises:
      StopAndLook: the file is damaged.
    """
    import pyarrow.parquet  # here, as Beam above: --help need not wait for it

    try:
        names = pyarrow.parquet.ParquetFile(file).read(["doc_id"])["doc_id"].to_pylist()
    except (OSError, KeyError, ValueError) as error:  # a damaged page, no such column, not UTF-8
        if getattr(error, "errno", None):  # of the system, not of what the file holds
            raise
        what = str(error).partition("\n")[0]
        raise StopAndLook(f"{file} is damaged ({what}); curate again") from error
    yield from zip(names, document_texts(file), strict=True)


def task_shards(tasks: Sequence[str], modules: Sequence[str]) -> list[TextShard]:
    """Lists the splits of seqio Tasks, each of them one shard."""
    return [
        TextShard(task, split, 0, 1, partial(task_documents, task, own, tuple(modules)), None)
        for task in tasks
        for split, own in task_splits(task, modules).items()
    ]


def task_documents(task: str, split: str, modules: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the id and the text of a Task's examples; the same text always has the same id."""
    for text in task_texts(task, split, modules):
        yield document_id(task, text), text


def write_shard(
    shard: TextShard, config: WriteTokensConfig, folder: Path
) -> tuple[str, tuple[TextShard, TokenSplit]]:
    """Encodes and packs one shard's documents into one file, with their ids beside it.

    Returns:
      (source, (shard, what its file holds)).
    """
    tokenizer = Tokenizer(config.tokenizer)
    counts = Counter(documents=0, tokens=0, characters=0)
    begins: dict[int, str] = {}
    documents = _encoded(shard.documents(), tokenizer, counts, begins)
    rows = pack(documents, config.sequence_tokens, tokenizer.eod_id, tokenizer.pad_id)
    name = file_name(shard.source, shard.split, shard.index, shard.count)
    features = row_features(config.sequence_tokens, tokenizer.vocab_size)
    file = write_rows(folder / shard.source / name, rows, features)
    file = write_documents(folder / shard.source, file, begins)
    return shard.source, (shard, TokenSplit(**counts, rows=file.rows, shards=(file,)))


def _encoded(
    documents: Iterable[tuple[str, str]],
    tokenizer: Tokenizer,
    counts: Counter,
    begins: dict[int, str],
) -> Iterator[list[int]]:
    for name, text in documents:
        ids = tokenizer.encode(text)
        begins[counts["tokens"]] = name  # no two begin at one place, for each has an end
        counts.update(documents=1, tokens=len(ids) + 1, characters=len(text))
        yield ids


def describe_source(
    source: str,
    written: Iterable[tuple[TextShard, TokenSplit]],
    config: WriteTokensConfig,
    folder: Path,
) -> None:
    """Makes one source's files a dataset, unless none of them has a training document.

    A held-out split without documents is left out.
    """
    written = sorted(written, key=lambda pair: pair[0].index)
    splits = {}
    for name in SPLITS:
        parts = [part for shard, part in written if shard.split == name]
        if any(part.documents for part in parts):
            splits[name] = TokenSplit.merged(parts)
        else:
            for part in parts:
                for file in (part.shards[0].file, part.shards[0].documents_file):
                    (folder / source / file).unlink(missing_ok=True)
    if "train" not in splits:
        return
    tokenizer = Tokenizer(config.tokenizer)
    metadata = TokenMetadata(
        source=source,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        sequence_tokens=config.sequence_tokens,
        eod_id=tokenizer.eod_id,
        pad_id=tokenizer.pad_id,
        ledger_digest=written[0][0].ledger_digest,
        splits=splits,
    )
    describe(folder / source, metadata)


def finished_datasets(folder: Path) -> list[TokenMetadata]:
    """Reads what was written of each source; removes and names those without training text."""
    written = []
    for source in sorted(folder.iterdir()):
        file = source / METADATA_FILE
        if file.exists():
            text = file.read_text(encoding="utf-8")
            written.append(TokenMetadata.from_json(text, str(file)))
        else:
            shutil.rmtree(source)
            print(f"{source.name}: no training documents, so no token dataset", file=sys.stderr)
    if not written:
        raise InputError("no source has any training document left; look at the curation ledger")
    return written


def to_table(datasets: Sequence[TokenMetadata]) -> Table:
    """Draws what was written for the console, a line per source, both splits together."""
    table = Table("source", title="Token datasets")
    for column in ("documents", "tokens", "characters", "characters / token", "rows"):
        table.add_column(column, justify="right")
    for dataset in datasets:
        both = TokenSplit.merged(list(dataset.splits.values()))
        counts = [f"{n:,}" for n in (both.documents, both.tokens, both.characters)]
        ratio = f"{both.characters / both.tokens:.2f}"
        table.add_row(dataset.source, *counts, ratio, f"{both.rows:,}")
    return table


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    configs, options, beam_flags = read_command_line(
        "beam_pipelines.write_tokens",
        __doc__,
        arguments,
        ("WriteTokensConfig",),
        {"--import": IMPORT_FLAG},
    )
    config = configs["WriteTokensConfig"]
    Console().print(to_table(write_tokens(config, options.modules, beam_flags)))


if __name__ == "__main__":
    # Under its own name: what Beam sends to workers must not be called __main__.
    from beam_pipelines.write_tokens import main as named_main

    sys.exit(run_door(named_main, sys.argv[1:], "write_tokens"))
