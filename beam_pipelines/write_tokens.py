"""Curated documents in, one token dataset per source out; any registered seqio Task likewise.

    python -m beam_pipelines.write_tokens --gin_file gin_configs/corpus/quickstart.gin
        [--import my_pkg.tasks] [--gin.NAME=VALUE]... [Beam's own options]

An element is one Parquet shard of documents, or one split of a Task: read, encoded and packed where
it lies, it becomes one ArrayRecord file; only its counts are grouped. All is written beside the
datasets and moved into their place at the end. Deliberately does not know how rows are packed
(text.records) or stored (token_files), nor what a Task is (task_texts).
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from beam_pipelines.runner import open_pipeline
from beam_pipelines.task_texts import task_splits, task_texts
from beam_pipelines.token_files import describe, file_name, row_features, write_rows
from welm_jax import gin_files
from welm_jax.configurables import CORPUS
from welm_jax.failures import InputError, StopAndLook, run_door
from welm_jax.text.records import (
    LEDGER_FILE,
    METADATA_FILE,
    TOKENIZER_FILE,
    TokenMetadata,
    TokenSplit,
    pack,
)
from welm_jax.text.tokenizer import Tokenizer

PARTIAL = ".partial"  # beside the datasets; what a dead run left is removed by the next
SPLITS = ("train", "heldout")


@dataclass(frozen=True, kw_only=True)
class WriteTokensConfig:
    """Which text becomes rows of which length.

    Attributes:
      curated_dir: folder that beam_pipelines.curate wrote.
      tokenizer: SentencePiece model file of `welm train_tokenizer`.
      output_dir: gets one folder per source and a copy of the tokenizer; other folders stay.
      sequence_tokens: T, targets in a row. The paper: 2,048.
      tasks: names of seqio Tasks to write as well, registered by the modules of `--import`.
    """

    curated_dir: str
    tokenizer: str
    output_dir: str
    sequence_tokens: int
    tasks: tuple[str, ...] = ()

    def __post_init__(self):
        if self.sequence_tokens <= 0:
            raise InputError(
                f"sequence_tokens {self.sequence_tokens} is not above 0; "
                "set WriteTokensConfig.sequence_tokens to the model's context, such as 2048"
            )


class TextShard(NamedTuple):
    """One element of the pipeline.

    Attributes:
      source: name of the source or of the Task.
      split: "train" or "heldout".
      index: its number among the shards of the split.
      count: how many those are.
      origin: a Parquet file, or the Task's own name for the split.
      modules: what to import so that the Task is registered; none for a Parquet file.
    """

    source: str
    split: str
    index: int
    count: int
    origin: str
    modules: tuple[str, ...] = ()

    def texts(self) -> Iterator[str]:
        """Yields the text of each document, in stored order."""
        if self.modules:
            yield from task_texts(self.source, self.origin, self.modules)
            return
        try:
            with pyarrow.parquet.ParquetFile(self.origin) as file:
                for batch in file.iter_batches(batch_size=256, columns=["text"]):
                    yield from batch.column("text").to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            what = str(error).partition("\n")[0]
            raise StopAndLook(f"{self.origin} is damaged ({what}); curate again") from error


def write_tokens(
    config: WriteTokensConfig, modules: Sequence[str] = (), beam_flags: Sequence[str] = ()
) -> list[TokenMetadata]:
    """Runs the pipeline and moves the finished datasets into the output folder.

    A source whose training documents are all gone gets no dataset, and loses the one of an earlier
    run: a mixture that names it is then refused, where old text would be trained on unnoticed.

    Args:
      config: what to write.
      modules: modules that register the Tasks.
      beam_flags: Beam's own, such as `--direct_num_workers=8`.

    Returns:
      The metadata of each dataset written, by name.

    Raises:
      InputError: no documents, an unfinished curation, no tokenizer, a Task that nobody
        registered, or nothing to write.
    """
    pipeline = open_pipeline(beam_flags)
    Tokenizer(config.tokenizer)  # a wrong one is refused before the work, not in it
    shards = curated_shards(config.curated_dir)
    digest = ledger_digest(config.curated_dir)
    sources = {shard.source for shard in shards}
    if twice := sources & set(config.tasks):
        raise InputError(f"{min(twice)} is a source and a Task; rename one of them")
    shards += task_shards(config.tasks, modules)
    partial = Path(config.output_dir) / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for source in sources | set(config.tasks):
            (partial / source).mkdir(parents=True)
        _transform(pipeline, shards, digest, {"config": config, "folder": partial})
        shutil.copyfile(config.tokenizer, partial / TOKENIZER_FILE)
        shutil.copyfile(Path(config.curated_dir) / LEDGER_FILE, partial / LEDGER_FILE)
        return _swap(partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def curated_shards(curated_dir: str) -> list[TextShard]:
    """Lists the document shards of every source; refuses a folder without any."""
    shards = []
    for folder in sorted(Path(curated_dir).glob("documents/*/")):
        for split in SPLITS:
            files = sorted(folder.glob(f"{split}-*.parquet"))
            shards += [
                TextShard(folder.name, split, index, len(files), str(file))
                for index, file in enumerate(files)
            ]
    if not shards:
        raise InputError(
            f"no documents/<source>/train-*.parquet in {curated_dir}; "
            "run python -m beam_pipelines.curate first, or set CURATED_DIR to its output"
        )
    return shards


def ledger_digest(curated_dir: str) -> str:
    """What the curation calls its ledger; refuses a folder without, whose curation did not end."""
    try:
        return json.loads((Path(curated_dir) / LEDGER_FILE).read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{curated_dir} has no whole ledger.json, so its curation did not end; run it again"
        ) from error


def task_shards(tasks: Sequence[str], modules: Sequence[str]) -> list[TextShard]:
    """Lists the splits of seqio Tasks, each of them one shard."""
    return [
        TextShard(task, split, 0, 1, own, tuple(modules))
        for task in tasks
        for split, own in task_splits(task, modules).items()
    ]


def write_shard(
    shard: TextShard, config: WriteTokensConfig, folder: Path
) -> tuple[str, tuple[TextShard, TokenSplit]]:
    """Encodes and packs one shard's documents into one file.

    Returns:
      (source, (shard, what its file holds)).
    """
    tokenizer = Tokenizer(config.tokenizer)
    documents = tokens = characters = 0

    def encoded() -> Iterator[list[int]]:
        nonlocal documents, tokens, characters
        for text in shard.texts():
            ids = tokenizer.encode(text)
            documents, tokens = documents + 1, tokens + len(ids) + 1
            characters += len(text)
            yield ids

    rows = pack(encoded(), config.sequence_tokens, tokenizer.eod_id, tokenizer.pad_id)
    name = file_name(shard.source, shard.split, shard.index, shard.count)
    features = row_features(config.sequence_tokens, tokenizer.vocab_size)
    file = write_rows(folder / shard.source / name, rows, features)
    written = TokenSplit(
        documents=documents, tokens=tokens, characters=characters, rows=file.rows, shards=(file,)
    )
    return shard.source, (shard, written)


def describe_source(
    grouped: tuple[str, Iterable[tuple[TextShard, TokenSplit]]],
    ledger: str,
    config: WriteTokensConfig,
    folder: Path,
) -> None:
    """Makes one source's files a dataset, unless none of them has a training document.

    A held-out split without documents is left out.
    """
    source, written = grouped
    written = sorted(written, key=lambda pair: pair[0])
    splits = {}
    for name in SPLITS:
        parts = [part for shard, part in written if shard.split == name]
        if any(part.documents for part in parts):
            splits[name] = TokenSplit.merged(parts)
        else:
            for part in parts:
                (folder / source / part.shards[0].file).unlink()
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
        ledger_digest=None if written[0][0].modules else ledger,
        splits=splits,
    )
    describe(folder / source, metadata)


def main(argv: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    gin_arguments = gin_files.split_arguments(argv)
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.write_tokens",
        description=__doc__,
        usage="%(prog)s --gin_file FILE [--import MODULE] [--gin.NAME=VALUE]... [Beam's options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--import", dest="modules", metavar="MODULE", action="append", default=[],
        help="a module that registers seqio Tasks; may be given again",
    )  # fmt: skip
    flags, beam_flags = parser.parse_known_args(gin_arguments[2])
    config = gin_files.load(
        *gin_arguments[:2],
        wanted={"WriteTokensConfig": CORPUS["WriteTokensConfig"]},
        siblings=CORPUS,
    )["WriteTokensConfig"]
    print(_table(write_tokens(config, flags.modules, beam_flags)))


def _transform(
    pipeline: Any, shards: Sequence[TextShard], digest: str, here: Mapping[str, Any]
) -> None:
    import apache_beam as beam  # loaded by now; not above, so that --help need not wait for it

    with pipeline:
        _ = (
            pipeline
            | "shards" >> beam.Create(shards)
            | "spread over the workers" >> beam.Reshuffle()
            | "encode and pack" >> beam.Map(write_shard, **here)
            | "by source" >> beam.GroupByKey()
            | "describe" >> beam.Map(describe_source, ledger=digest, **here)
        )


def _swap(partial: Path) -> list[TokenMetadata]:
    """Moves finished datasets into their place and drops what they replace."""
    folders = sorted(folder for folder in partial.iterdir() if folder.is_dir())
    if not any((folder / METADATA_FILE).exists() for folder in folders):
        raise InputError("no source has any training document left; look at the curation ledger")
    written = []
    for folder in folders:
        final = partial.parent / folder.name
        if final.exists():
            final.rename(partial / f"old-{folder.name}")
        if (folder / METADATA_FILE).exists():
            folder.rename(final)
            text = (final / METADATA_FILE).read_text(encoding="utf-8")
            written.append(TokenMetadata.from_json(text, str(final)))
        else:
            print(f"{folder.name}: no training documents, so no token dataset", file=sys.stderr)
    for file in (TOKENIZER_FILE, LEDGER_FILE):
        (partial / file).replace(partial.parent / file)
    return written


def _table(datasets: Sequence[TokenMetadata]) -> str:
    """What was written, a line per source, both splits together."""
    lines = [
        f"{'source':20}{'documents':>12}{'tokens':>16}{'characters':>16}"
        f"{'characters/token':>18}{'rows':>12}"
    ]
    for metadata in datasets:
        both = TokenSplit.merged(list(metadata.splits.values()))
        lines.append(
            f"{metadata.source:20}{both.documents:>12,}{both.tokens:>16,}{both.characters:>16,}"
            f"{both.characters / both.tokens:>18.2f}{both.rows:>12,}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    # The module under its own name: what Beam sends to workers must not be called __main__.
    from beam_pipelines.write_tokens import main as named_main

    sys.exit(run_door(named_main, sys.argv[1:], "write_tokens"))
