"""To which dataset, shard and split a document goes, and the files through which it gets there.

Released documents of a raw file are written in batches, each of one slice of one shard's order; a
shard is read slice by slice, in order. So the outcome depends on ids alone, and memory on the size
of a slice. Knows nothing of why a document was released.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.curated_files import released_file
from beam_pipelines.document import SCHEMA, draw

ROW_GROUP = 1024
SOURCE_BYTES = ("source_bytes", pa.int64())  # of the record that a document was read from
RELEASED_SCHEMA = pa.schema([*SCHEMA, SOURCE_BYTES, ("order", pa.int64())])
_RELEASED_BYTES = 32 << 20  # of texts that wait to be written together


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """To which shard and split a document goes: by its id alone.

    Attributes:
      shards: output files per source and split.
      held_out_fraction: share of a dataset's documents that is held out of training.
      parts_languages: whether a source's documents in other languages are datasets of their own.
      slices: stretches of a shard's order, of which one is in memory at a time.
    """

    shards: int
    held_out_fraction: float
    parts_languages: bool = False
    slices: int = 1

    def dataset(self, source: str, language: str) -> str:
        """The dataset that a document goes to: its source's, or its source's in a language."""
        return f"{source}_{language}" if self.parts_languages and language != "zh" else source

    def shard(self, doc_id: str) -> int:
        """The shard that a document goes to."""
        return draw(doc_id, "shard") % self.shards

    def slice(self, order: int) -> int:
        """The slice of a shard that a document of this order belongs to."""
        return order * self.slices >> 63

    def split(self, doc_id: str, extremes: tuple[int, int]) -> str:
        """The split of a document, given the lowest and the highest held-out draw of its source.

        Low draws are held out. Of two or more documents the lowest is and the highest is not,
        whatever the fraction, so that neither split is empty.
        """
        number, (lowest, highest) = draw(doc_id, "held out"), extremes
        is_low = number == lowest or number < self.held_out_fraction * 2**63
        return "heldout" if is_low and number != highest else "train"


class Stretch(NamedTuple):
    """Where released documents of one slice of a shard lie: a batch of the file of a raw file."""

    slice: int
    file: int
    batch: int


class Releasing:
    """Writes documents of one file in batches, each of one slice of one shard; says where."""

    def __init__(self, path: Path, file: int, dealing: Dealing):
        self._file, self._dealing = file, dealing
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(path, RELEASED_SCHEMA, options=options)
        self._waiting: list[pa.Table] = []
        self.stretches: list[tuple[tuple[str, int], Stretch]] = []
        self.draws: dict[str, list[int]] = {}

    def __enter__(self) -> "Releasing":
        return self

    def __exit__(self, *_) -> None:
        self._write()
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Takes rows of ASIDE_SCHEMA."""
        order = [draw(doc_id, "order") for doc_id in table["doc_id"].to_pylist()]
        table = table.append_column("order", pa.array(order, pa.int64()))
        self._waiting.append(table.select(RELEASED_SCHEMA.names))
        if sum(one.nbytes for one in self._waiting) > _RELEASED_BYTES:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables([RELEASED_SCHEMA.empty_table(), *self._waiting])
        rows: dict[tuple[str, int, int], list[int]] = {}
        columns = (table[name].to_pylist() for name in ("doc_id", "source", "language", "order"))
        for row, (doc_id, source, language, order) in enumerate(zip(*columns, strict=True)):
            dataset = self._dealing.dataset(source, language)
            place = dataset, self._dealing.shard(doc_id), self._dealing.slice(order)
            rows.setdefault(place, []).append(row)
            self.draws.setdefault(dataset, []).append(draw(doc_id, "held out"))
        for (dataset, shard, number), mine in rows.items():
            [batch] = table.take(pa.array(mine)).combine_chunks().to_batches()
            self._writer.write_batch(batch)
            stretch = Stretch(number, self._file, len(self.stretches))
            self.stretches.append(((dataset, shard), stretch))
        self._waiting = []


class ShardWriter:
    """Writes a Parquet file whose row groups do not depend on how its rows come in."""

    def __init__(self, path: Path):
        self._file = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._waiting = SCHEMA.empty_table()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        if len(self._waiting):
            self._file.write_table(self._waiting)
        self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Takes rows of SCHEMA."""
        rows = pa.concat_tables([self._waiting, rows])
        full = len(rows) - len(rows) % ROW_GROUP
        for begin in range(0, full, ROW_GROUP):
            self._file.write_table(rows.slice(begin, ROW_GROUP))
        self._waiting = rows.slice(full).combine_chunks()


def released(folder: Path, stretch: Stretch) -> pa.Table:
    """Reads one stretch of released documents, rows of RELEASED_SCHEMA."""
    with pa.memory_map(str(released_file(folder, stretch.file))) as mapped:
        return pa.Table.from_batches([pa.ipc.open_file(mapped).get_batch(stretch.batch)])
