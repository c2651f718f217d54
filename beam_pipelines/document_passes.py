"""The three steps that touch text: a raw file in, a drop list applied, a shard of documents out.

Between the first and the second lie only small keys, between the second and the third the one
shuffle of text. Knows nothing of Beam, nor of how a text is judged.
"""

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    shard_file,
)
from beam_pipelines.document import SCHEMA, SPLITS, DeadLetterReason, DropReason, draw
from beam_pipelines.ledger import Counts, Ledger
from beam_pipelines.near_signatures import Signature
from beam_pipelines.read_sources import InputFile, Record, RecordReader

_EXTRA = (
    ("source_bytes", pa.int64()),
    ("shared", pa.string()),  # JSON of decontaminate.Shared where it is too much, else empty
)
ASIDE_SCHEMA = pa.schema([*SCHEMA, *_EXTRA])
_BATCH_RECORDS = 256
_BATCH_BYTES = 4 << 20
_ROW_GROUP = 1024


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """To which shard and split a document goes: by its id alone.

    Attributes:
      shards: output files per source and split.
      held_out_fraction: share of a dataset's documents that is held out of training.
      parts_languages: whether a source's documents in other languages are datasets of their own.
    """

    shards: int
    held_out_fraction: float
    parts_languages: bool = False

    def dataset(self, source: str, language: str) -> str:
        """The dataset that a document goes to: its source's, or its source's in a language."""
        return f"{source}_{language}" if self.parts_languages and language != "zh" else source

    def shard(self, doc_id: str) -> int:
        """The shard that a document goes to."""
        return draw(doc_id, "shard") % self.shards

    def split(self, doc_id: str, extremes: tuple[int, int]) -> str:
        """The split of a document, given the lowest and the highest held-out draw of its source.

        Low draws are held out. Of two or more documents the lowest is and the highest is not,
        whatever the fraction, so that neither split is empty.
        """
        number, (lowest, highest) = draw(doc_id, "held out"), extremes
        is_low = number == lowest or number < self.held_out_fraction * 2**63
        return "heldout" if is_low and number != highest else "train"


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
    if done.exists():
        return pickle.loads(done.read_bytes())
    index = decontaminate.read_index(evaluation_dir) if evaluation_dir else None
    ledger, keys, dead_letters, row = Ledger(), [np.empty(0, dedup.key_type(signature))], [], 0
    reader = RecordReader(raw)
    with (
        appearing(aside_file(folder, file)) as path,
        pq.ParquetWriter(path, ASIDE_SCHEMA, compression="zstd") as aside,
    ):
        for batch in _batches(reader):
            dead_letters += [
                record for record in batch if isinstance(record.outcome, DeadLetterReason)
            ]
            passed = judge(batch, raw.source, ledger)
            columns = {
                name: [getattr(record.outcome, name) for record in passed] for name in SCHEMA.names
            }
            texts = columns["text"]
            keys.append(dedup.make_keys(texts, columns["doc_id"], file, row, signature))
            columns["attributes"] = [
                json.dumps({**scores, **dedup.attributes(key)})
                for scores, key in zip(columns["attributes"], keys[-1], strict=True)
            ]
            columns["source_bytes"] = [record.length for record in passed]
            columns["shared"] = _too_much_shared(texts, index) if index else [""] * len(passed)
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
        json.dumps(one._asdict()) if one.places > decontaminate.MOST_SHARED else ""
        for one in decontaminate.shared(texts, index)
    ]


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
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
    with appearing(dead_letter_file(folder, raw.name)) as path, path.open("w") as lines:
        for record in records:
            place = {"file": raw.name, "offset": record.offset, "length": record.length}
            lines.write(json.dumps({**place, "reason": record.outcome}) + "\n")


class Released(NamedTuple):
    """Documents of one raw file that no duplicate has displaced, and that no evaluation has.

    Attributes:
      shards: ((dataset, output shard), rows of ASIDE_SCHEMA).
      held_out_draws: (dataset, (lowest, highest)).
      ledger: what became of all rows that were looked at.
    """

    shards: list[tuple[tuple[str, int], pa.Table]]
    held_out_draws: list[tuple[str, tuple[int, int]]]
    ledger: Ledger


class _Row(NamedTuple):
    """A row of ASIDE_SCHEMA, as the ledger asks about it."""

    index: int
    counts: Counts
    table: pa.Table
    begin: int  # number of the table's first row

    @property
    def told(self) -> tuple[str, str]:
        at = self.index - self.begin
        return self.table["doc_id"][at].as_py(), self.table["text"][at].as_py()


def release_file(
    file: int, drops: Mapping[str, Iterable[dedup.Lost]], dealing: Dealing, folder: Path
) -> Iterator[Released]:
    """Second pass: reads what was set aside of a raw file and releases what may be trained on.

    Args:
      file: the number of the file.
      drops: `exact` and `near`: the documents that each stage drops.
      dealing: where a document goes.
      folder: of the job.
    """
    kinds = ("exact", "near")
    lost = {kind: {one.row: one.displaced_by for one in drops.get(kind, ())} for kind in kinds}
    displaced, begin = [], 0
    with pq.ParquetFile(aside_file(folder, file)) as aside:
        for batch in aside.iter_batches(_ROW_GROUP):
            table, ledger = pa.Table.from_batches([batch]), Ledger()
            source = table["source"][0].as_py()
            rows = [
                _Row(begin + index, counts, table, begin)
                for index, counts in enumerate(_counts(table))
            ]
            for kind in kinds:
                reason = DropReason(f"{kind}_duplicate")
                reasons = [reason if row.index in lost[kind] else None for row in rows]
                displaced += [
                    {"doc_id": table["doc_id"][row.index - begin].as_py(), "reason": reason}
                    | {"displaced_by": lost[kind][row.index]}
                    for row in rows
                    if row.index in lost[kind]
                ]
                rows = ledger.sift(source, f"{kind}_duplicates", rows, reasons)
            rows = _without_contaminated(rows, source, ledger)
            kept = table.take(pa.array([row.index - begin for row in rows], pa.int64()))
            begin += len(table)
            yield Released(*_dealt(kept, source, dealing), ledger)
    with appearing(duplicates_file(folder, file)) as path:
        path.write_text("".join(json.dumps(one) + "\n" for one in displaced))


def _without_contaminated(rows: list[_Row], source: str, ledger: Ledger) -> list[_Row]:
    """Counts those that share too much with evaluation text, by task too; returns the others."""
    leaks = [row.table["shared"][row.index - row.begin].as_py() for row in rows]
    reasons = [DropReason.CONTAMINATED if leak else None for leak in leaks]
    clean = ledger.sift(source, "contamination", rows, reasons, are_shown=False)
    for row, leak in zip(rows, leaks, strict=True):
        if leak:
            shared = json.loads(leak)
            ledger.contaminated.update((task, source) for task in shared["tasks"])
            told = (row.told[0], f"{', '.join(shared['tasks'])}: {shared['span']}")
            ledger.sample(source, "contamination", DropReason.CONTAMINATED, [told])
    return clean


def _dealt(
    table: pa.Table, source: str, dealing: Dealing
) -> tuple[list[tuple[tuple[str, int], pa.Table]], list[tuple[str, tuple[int, int]]]]:
    """The first two fields of Released for documents of one source."""
    rows: dict[tuple[str, int], list[int]] = {}
    draws: dict[str, list[int]] = {}
    names = (table["doc_id"].to_pylist(), table["language"].to_pylist())
    for row, (doc_id, language) in enumerate(zip(*names, strict=True)):
        dataset = dealing.dataset(source, language)
        rows.setdefault((dataset, dealing.shard(doc_id)), []).append(row)
        draws.setdefault(dataset, []).append(draw(doc_id, "held out"))
    shards = [(place, table.take(pa.array(mine))) for place, mine in rows.items()]
    return shards, [(dataset, (min(mine), max(mine))) for dataset, mine in draws.items()]


def write_shard(
    source: str,
    dataset: str,
    shard: int,
    tables: Iterable[pa.Table],
    extremes: Mapping[str, tuple[int, int]],
    dealing: Dealing,
    folder: Path,
) -> Ledger:
    """Writes the documents that meet in one output shard, shuffled, in files by split.

    Args:
      source: their source.
      dataset: theirs.
      shard: the number of the shard.
      tables: the documents, as rows of ASIDE_SCHEMA.
      extremes: dataset -> lowest and highest held-out draw of all its documents.
      dealing: where a document goes.
      folder: of the job.
    """
    table, ledger = pa.concat_tables(tables), Ledger()
    order = [draw(doc_id, "order") for doc_id in table["doc_id"].to_pylist()]
    table = table.take(pa.array(np.argsort(order, kind="stable")))
    splits = [dealing.split(doc_id, extremes[dataset]) for doc_id in table["doc_id"].to_pylist()]
    for split in SPLITS:
        rows = table.filter(pa.array([name == split for name in splits], pa.bool_()))
        with appearing(shard_file(folder, dataset, split, shard, dealing.shards)) as path:
            texts = rows.select(SCHEMA.names)
            pq.write_table(texts, path, row_group_size=_ROW_GROUP, compression="zstd")
        ledger.add(source, "written", split, Counts.total(_counts(rows)))
    lengths = pc.utf8_length(table["text"]).to_pylist()
    ledger.measure(source, "kept", lengths)
    for attributes, characters in zip(table["attributes"].to_pylist(), lengths, strict=True):
        if topic := json.loads(attributes).get("topic"):
            ledger.topics[dataset, topic] = ledger.topics.get((dataset, topic), 0) + characters
    return ledger


def _counts(table: pa.Table) -> list[Counts]:
    sizes = (table["source_bytes"].to_pylist(), pc.utf8_length(table["text"]).to_pylist())
    return [Counts(1, *both) for both in zip(*sizes, strict=True)]
