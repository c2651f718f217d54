"""One source's token rows by number, from the TFDS folder that write_tokens made.

Owns the opening and its checks. Deliberately does not know the order in which rows are trained on
(batches), nor how they came to be (text.records, beam_pipelines.write_tokens). No TensorFlow.
"""

import hashlib
import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath
from google.protobuf.json_format import ParseError
from jaxtyping import Int32

from welm_jax.failures import InputError, StopAndLook, may_pass
from welm_jax.run_files import literal
from welm_jax.text.records import METADATA_FILE, TokenMetadata, TokenShard, unpack

ONLY_FOOTER = "readahead_buffer_size:0"  # an ArrayRecordReader reads no rows ahead


class TokenDataset:
    """The rows of one split, [i] -> int32 [T + 1].

    Attributes:
      folder: where it lies.
      split: "train" or "heldout".
      metadata: what the folder says of itself.
      fingerprint: sha256 of its metadata file, which holds the digest of every shard; what a run
        remembers to know its data again.
    """

    def __init__(self, folder: str | os.PathLike, split: str):
        self.folder, self.split = str(folder), split
        self.metadata, self.fingerprint = read_metadata(folder)
        if split not in self.metadata.splits:
            raise InputError(
                f"token dataset {folder} has no split {split}, only "
                f"{', '.join(self.metadata.splits)}; curate more documents or hold some out"
            )
        try:
            self._rows = tfds.builder_from_directory(folder).as_data_source(split)
        except (OSError, ValueError, ParseError) as error:
            raise self._damaged(error) from error
        stored = len(self._rows)
        if stored != self.metadata.splits[split].rows:
            raise StopAndLook(
                f"token dataset {folder} holds {stored} rows of {split} where its metadata says "
                f"{self.metadata.splits[split].rows}; write it again"
            )

    def __len__(self) -> int:
        return self.metadata.splits[self.split].rows

    def __getitem__(self, row: int) -> Int32[np.ndarray, " row"]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> Int32[np.ndarray, "B row"]:
        """Reads several rows, one after the other.

        TFDS's own batched read starts threads at each call, which took 2 to 7 times as long.

        Args:
          rows: their numbers, in any order.

        Returns:
          The rows in that order, int32 [B, T + 1].

        Raises:
          IndexError: a number outside the dataset.
          StopAndLook: a file is damaged, or a stored id is not below the vocabulary's size: a
            gather on an accelerator would take another id for it without a word.
        """
        self._require_rows(rows)
        width = self.metadata.sequence_tokens + 1
        tokens = np.empty((len(rows), width), np.int32)
        try:
            for place, row in enumerate(rows):
                tokens[place] = self._rows[row]["tokens"]
        except RuntimeError as error:
            raise self._damaged(error) from error
        if tokens.max(initial=0) >= self.metadata.vocab_size:
            raise StopAndLook(
                f"token dataset {self.folder} holds id {tokens.max()} where its vocabulary ends at "
                f"{self.metadata.vocab_size - 1}; write it again"
            )
        return tokens

    def document_ids(self, rows: Sequence[int]) -> list[list[str]]:
        """Says which documents have a target in each of several rows, their ends counted.

        The tables of documents are searched where they lie on disk, so a shard may have millions.

        Args:
          rows: their numbers, in any order.

        Returns:
          For each row the ids of its documents in their order; none where the dataset was written
          before ids were kept.

        Raises:
          IndexError: a number outside the dataset.
          StopAndLook: a table is damaged or gone.
        """
        self._require_rows(rows)
        shards = self.metadata.splits[self.split].shards
        ends = list(accumulate(shard.rows for shard in shards))
        by_shard = defaultdict(list)
        for at, row in enumerate(rows):
            by_shard[bisect_right(ends, row)].append(at)
        found: list[list[str]] = [[] for _ in rows]
        for number, mine in by_shard.items():
            shard = shards[number]
            if shard.documents_file is None:
                continue
            begins, names = self._documents_of(shard)
            for at in mine:
                target = (rows[at] - ends[number] + shard.rows) * self.metadata.sequence_tokens
                first = bisect_right(begins, target) - 1
                last = bisect_left(begins, target + self.metadata.sequence_tokens)
                found[at] = [name.decode() for name in names[first:last].tolist()]
        return found

    def documents(self) -> Iterator[Int32[np.ndarray, " N"]]:
        """Yields the ids of each whole document, without its end, in stored order."""
        start = 0
        for shard in self.metadata.splits[self.split].shards:
            rows = (self[row] for row in range(start, start + shard.rows))
            yield from unpack(rows, self.metadata.eod_id, self.metadata.pad_id)
            start += shard.rows

    def _documents_of(self, shard: TokenShard) -> tuple[np.ndarray, np.ndarray]:
        try:
            table = np.load(Path(self.folder) / shard.documents_file, mmap_mode="r")
            # A plain view: to search the memmap itself takes five times as long.
            table = table.view(np.ndarray)
            return table["begins"], table["doc_id"]
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise self._damaged(error) from error

    def _require_rows(self, rows: Sequence[int]) -> None:
        if rows and not 0 <= min(rows) <= max(rows) < len(self):
            raise IndexError(f"rows {min(rows)} to {max(rows)} of {len(self)} in {self.folder}")

    def _damaged(self, error: Exception) -> StopAndLook:
        return _damaged(self.folder, error)


def _damaged(folder: str, error: Exception | str) -> StopAndLook:
    what = str(error).partition("\n")[0]
    return StopAndLook(
        f"token dataset {folder} is damaged ({what}); put a good copy there, or write it "
        "again with python -m beam_pipelines.write_tokens"
    )


def open_source(source: Mapping[str, Any], split: str) -> TokenDataset:
    """Opens a split of a source of mixture.json, if it still is what the mixture was made with.

    Raises:
      InputError: it was written again since.
    """
    dataset = TokenDataset(source["folder"], split)
    if dataset.fingerprint != source["fingerprint"]:
        raise InputError(
            f"token dataset {source['folder']} is not the one this run was made with: it was "
            "written again; put the old files back or start a new run folder"
        )
    return dataset


def count_rows(sources: Iterable[Mapping[str, Any]]) -> None:
    """Opens every file of rows of both splits and counts its rows by its footer.

    A run does so before its first step: later, the first evaluation would find a held-out file
    missing, and an epoch's end the last file of the text.

    Args:
      sources: of mixture.json.

    Raises:
      StopAndLook: a file is missing or damaged, or holds another number of rows.
    """
    for source in sources:
        metadata, _ = read_metadata(source["folder"])
        shards = [shard for split in metadata.splits.values() for shard in split.shards]
        for shard in shards:
            file = literal(source["folder"]) / shard.file
            if not file.exists():
                raise _damaged(source["folder"], f"{shard.file} is missing")
            # Of a file that it cannot make out it says 0.
            rows = ArrayRecordReader(os.fspath(file), options=ONLY_FOOTER).num_records()
            if rows != shard.rows:
                words = f"{shard.file} holds {rows} rows, not {shard.rows}"
                raise _damaged(source["folder"], words)


def read_metadata(folder: str | os.PathLike) -> tuple[TokenMetadata, str]:
    """Reads what a token dataset says of itself.

    Returns:
      The metadata and its fingerprint, the sha256 of the file.

    Raises:
      InputError: no such folder, no token dataset in it, or damaged metadata.
    """
    path = epath.Path(folder) / METADATA_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        if may_pass(error):
            raise
        raise InputError(
            f"{folder} is no token dataset ({METADATA_FILE}: {error.strerror}); write it with "
            "python -m beam_pipelines.write_tokens, or set TOKENS_DIR to where it is"
        ) from error
    metadata = TokenMetadata.from_json(content.decode(errors="replace"), str(path))
    return metadata, hashlib.sha256(content).hexdigest()
