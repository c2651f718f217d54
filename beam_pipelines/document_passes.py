"""The three steps that touch text: a raw file in, a drop list applied, a shard of documents out.

Between them text lies in files; what travels is keys, and where text lies. Each step holds as much
of it in memory as is set here, whatever the size of the corpus. Knows nothing of Beam, nor of how a
text is judged.
"""

import contextlib
import itertools
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_pipelines import decontaminate, dedup
from beam_pipelines.curated_files import (
    appearing,
    aside_file,
    dead_letter_file,
    done_file,
    duplicates_file,
    released_file,
    shard_file,
)
from beam_pipelines.dealing import (
    ROW_GROUP,
    SOURCE_BYTES,
    Dealing,
    Releasing,
    ShardWriter,
    Stretch,
    released,
)
from beam_pipelines.document import SCHEMA, SPLITS, DeadLetterReason, DropReason
from beam_pipelines.ledger import Counts, Ledger
from beam_pipelines.near_signatures import Signature
from beam_pipelines.read_sources import InputFile, Record, RecordReader

# What is set aside: `shared` is JSON of decontaminate.Shared where it contaminates, else empty.
ASIDE_SCHEMA = pa.schema([*SCHEMA, SOURCE_BYTES, ("shared", pa.string())])
_BATCH_RECORDS = 256
_BATCH_BYTES = 4 << 20


class Cleaned(NamedTuple):
    """What the first pass says of a raw file: its number, the keys of what it set aside, counts."""

    file: int
    keys: np.ndarray
    ledger: Ledger


def clean_file(
    file: int,
    raw: InputFile,
    judge: Callable[[list[Record], str, Ledger], list[Record]],
    signature: Signature,
    evaluation_dir: str,
    folder: Path,
) -> Cleaned:
    """First pass: reads a raw file, has each text judged, sets aside those that pass.

    A file that an earlier job had done, before it was killed, is not read again.

    Args:
      file: the number of the file in the corpus.
      raw: the file.
      judge: takes a batch of records, their source and the ledger; returns those that pass.
      signature: by which near duplicates are found.
      evaluation_dir: of the texts that must not be in the corpus; empty for none.
      folder: of the job.
    """
    done = done_file(folder, file)
    if done.exists() and aside_file(folder, file).exists():
        return pickle.loads(done.read_bytes())
    index = decontaminate.read_index(evaluation_dir) if evaluation_dir else None
    ledger, keys, dead_letters, row = Ledger(), [np.empty(0, dedup.key_type(signature))], [], 0
    reader = RecordReader(raw)
    with (
        appearing(aside_file(folder, file)) as path,
        pq.ParquetWriter(path, ASIDE_SCHEMA, compression="lz4") as aside,
    ):
        for batch in batches(reader):
            dead_letters += [
                record for record in batch if isinstance(record.outcome, DeadLetterReason)
            ]
            passed = judge(batch, raw.source, ledger)
            columns = {
                name: [getattr(record.outcome, name) for record in passed] for name in SCHEMA.names
            }
            texts = columns["text"]
            leaks = _too_much_shared(texts, index) if index else [""] * len(passed)
            is_leak = [leak != "" for leak in leaks]
            keys.append(dedup.make_keys(texts, columns["doc_id"], file, row, signature, is_leak))
            columns["attributes"] = [
                json.dumps({**scores, **dedup.attributes(key)})
                for scores, key in zip(columns["attributes"], keys[-1], strict=True)
            ]
            columns["source_bytes"] = [record.length for record in passed]
            columns["shared"] = leaks
            aside.write_table(pa.table(columns, schema=ASIDE_SCHEMA))
            row += len(passed)
    if dead_letters:
        _write_dead_letters(raw, dead_letters, folder)
    ledger.inputs[raw.name] = reader.fingerprint()
    cleaned = Cleaned(file, np.concatenate(keys), ledger)
    with appearing(done) as path:
        path.write_bytes(pickle.dumps(cleaned))
    return cleaned


def _too_much_shared(texts: list[str], index: decontaminate.EvaluationIndex) -> list[str]:
    return [
        json.dumps(one._asdict()) if decontaminate.is_contaminated(one) else ""
        for one in decontaminate.shared(texts, index)
    ]


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in lists of a size at which the kernels are fast and memory is small."""
    batch, size = [], 0
    for record in records:
        batch.append(record)
        size += record.length
        if len(batch) == _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_dead_letters(raw: InputFile, records: Iterable[Record], folder: Path) -> None:
    with (
        appearing(dead_letter_file(folder, raw.name)) as path,
        path.open("w", encoding="utf-8") as lines,
    ):
        for record in records:
            place = {"file": raw.name, "offset": record.offset, "length": record.length}
            lines.write(json.dumps({**place, "reason": record.outcome}) + "\n")


class Released(NamedTuple):
    """Documents of one raw file that no duplicate has displaced, and that no evaluation has.

    Attributes:
      stretches: ((dataset, output shard), Stretch).
      held_out_draws: (dataset, (lowest, highest)).
      ledger: what became of all rows that were looked at.
    """

    stretches: list[tuple[tuple[str, int], Stretch]]
    held_out_draws: list[tuple[str, tuple[int, int]]]
    ledger: Ledger


class _Row(NamedTuple):
    """A row of ASIDE_SCHEMA, as the ledger asks about it."""

    index: int
    counts: Counts
    table: pa.Table
    begin: int  # number of the table's first row

    @property
    def sample(self) -> tuple[str, str]:
        at = self.index - self.begin
        return self.table["doc_id"][at].as_py(), self.table["text"][at].as_py()


def release_file(
    file: int, drops: Mapping[str, Iterable[np.ndarray]], dealing: Dealing, folder: Path
) -> Released:
    """Second pass: reads what was set aside of a raw file and releases what may be trained on.

    Args:
      file: the number of the file.
      drops: `exact` and `near`: the documents that each stage drops (dedup.LOST).
      dealing: where a document goes.
      folder: of the job.
    """
    lost = {
        kind: {int(one["row"]): dedup.name_of(one["displaced_by"]) for some in mine for one in some}
        for kind, mine in drops.items()
        if kind != "file"
    }
    displaced, begin, ledger = [], 0, Ledger()
    with (
        appearing(released_file(folder, file)) as path,
        Releasing(path, file, dealing) as releasing,
        pq.ParquetFile(aside_file(folder, file)) as aside,
    ):
        for batch in aside.iter_batches(ROW_GROUP):
            table = pa.Table.from_batches([batch])
            source = table["source"][0].as_py()
            rows = [
                _Row(begin + index, counts, table, begin)
                for index, counts in enumerate(_counts(table))
            ]
            for kind in ("exact", "near"):
                places, reason = lost.get(kind, {}), DropReason(f"{kind}_duplicate")
                displaced += [
                    {"doc_id": row.sample[0], "reason": reason, "displaced_by": places[row.index]}
                    for row in rows
                    if row.index in places
                ]
                reasons = [reason if row.index in places else None for row in rows]
                rows = ledger.sift(source, f"{kind}_duplicates", rows, reasons)
            rows = _without_contaminated(rows, source, ledger)
            releasing.add(table.take(pa.array([row.index - begin for row in rows], pa.int64())))
            begin += len(table)
    with appearing(duplicates_file(folder, file)) as path:
        path.write_text("".join(json.dumps(one) + "\n" for one in displaced), encoding="utf-8")
    extremes = [(dataset, (min(mine), max(mine))) for dataset, mine in releasing.draws.items()]
    return Released(releasing.stretches, extremes, ledger)


def _without_contaminated(rows: list[_Row], source: str, ledger: Ledger) -> list[_Row]:
    """Counts those that share too much with evaluation text, by task too; returns the others."""
    leaks = [row.table["shared"][row.index - row.begin].as_py() for row in rows]
    reasons = [DropReason.CONTAMINATED if leak else None for leak in leaks]
    clean = ledger.sift(source, "contamination", rows, reasons, are_shown=False)
    for row, leak in zip(rows, leaks, strict=True):
        if leak:
            shared = json.loads(leak)
            ledger.contaminated.update((task, source) for task in shared["tasks"])
            told = (row.sample[0], f"{', '.join(shared['tasks'])}: {shared['span']}")
            ledger.sample(source, "contamination", DropReason.CONTAMINATED, [told])
    return clean


def write_shard(
    source: str,
    dataset: str,
    shard: int,
    stretches: Iterable[Stretch | None],
    extremes: Mapping[str, tuple[int, int]],
    dealing: Dealing,
    folder: Path,
) -> Ledger:
    """Writes the documents of one output shard, shuffled, in files by split.

    Args:
      source: their source.
      dataset: theirs.
      shard: the number of the shard.
      stretches: where they lie; None says only that there is such a shard.
      extremes: dataset -> lowest and highest held-out draw of all its documents.
      dealing: where a document goes.
      folder: of the job.
    """
    ledger = Ledger()
    with contextlib.ExitStack() as stack:
        writers = {}
        for split in SPLITS:
            path = shard_file(folder, dataset, split, shard, dealing.shards)
            writers[split] = stack.enter_context(ShardWriter(stack.enter_context(appearing(path))))
        in_order = sorted(one for one in stretches if one)
        for _, mine in itertools.groupby(in_order, lambda stretch: stretch.slice):
            table = pa.concat_tables(released(folder, one) for one in mine)
            table = table.sort_by([("order", "ascending"), ("doc_id", "ascending")])
            ids = table["doc_id"].to_pylist()
            splits = [dealing.split(doc_id, extremes[dataset]) for doc_id in ids]
            for split, writer in writers.items():
                rows = table.filter(pa.array([name == split for name in splits], pa.bool_()))
                writer.add(rows.select(SCHEMA.names))
                ledger.add(source, "written", split, Counts.total(_counts(rows)))
            _describe(table, source, dataset, ledger)
    return ledger


def _describe(table: pa.Table, source: str, dataset: str, ledger: Ledger) -> None:
    """Counts the lengths and topics of documents that are kept."""
    lengths = pc.utf8_length(table["text"]).to_pylist()
    ledger.measure(source, "kept", lengths)
    for attributes, characters in zip(table["attributes"].to_pylist(), lengths, strict=True):
        if topic := json.loads(attributes).get("topic"):
            ledger.topics[dataset, topic] = ledger.topics.get((dataset, topic), 0) + characters


def _counts(table: pa.Table) -> list[Counts]:
    sizes = (table["source_bytes"].to_pylist(), pc.utf8_length(table["text"]).to_pylist())
    return [Counts(1, *both) for both in zip(*sizes, strict=True)]
