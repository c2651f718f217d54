"""The batch stream: batch k as a pure function of mixture.json and k.

Owns the order in which rows are trained on and the shape of a batch. A sample's number decides all:
a fixed pattern of 1,000 samples says from which source it comes, grain's seeded shuffle says which
row of that source. So seeking is free, any number of hosts sees the same stream, another batch size
keeps the order, and shares are exact within any 1,000 consecutive samples. Deliberately does not
know where rates come from (mixture), nor devices (train.mesh).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Int32

from welm_jax.data.mixture import BLOCK, block_pattern
from welm_jax.data.token_dataset import open_source

PREFETCHED_BATCHES = 4
NO_END = 2**62  # the stream has none; grain wants a number

Batch = dict[str, np.ndarray]


class BatchStream:
    """Endless batches of a compiled mixture; `batch(cursor)` has no state.

    Attributes:
      mixture: the content of mixture.json.
      batch_size: B, sequences in a whole batch, over all hosts.
      sequence_tokens: T.
      masks_documents: see `batch`.
    """

    def __init__(self, mixture: Mapping[str, Any], batch_size: int, masks_documents: bool = False):
        self.mixture, self.batch_size = mixture, batch_size
        self.sequence_tokens = mixture["sequence_tokens"]
        self.masks_documents = masks_documents
        self._quotas = [source["quota"] for source in mixture["sources"]]
        self._pattern = block_pattern(self._quotas)
        self._datasets = [open_source(source, "train") for source in mixture["sources"]]
        self._orders = [
            row_order(source["rows"], mixture["seed"], source["name"])
            for source in mixture["sources"]
        ]

    def place(self, sample: int) -> tuple[int, int]:
        """Says which row of which source is trained on as the sample of this number.

        Args:
          sample: number in the stream, from 0 without end.

        Returns:
          Index of the source in the mixture, row in that source.
        """
        block, place = divmod(sample, BLOCK)
        source, rank = self._pattern[place]
        return source, self._orders[source][block * self._quotas[source] + rank]

    def batch(self, cursor: int, rows: Sequence[int] | None = None) -> Batch:
        """Reads the batch at a place in the stream, or a host's part of it.

        A token that ends a document opens the next one: as an input it is the first of its
        segment, and what follows it is predicted from it.

        Args:
          cursor: place in the stream, in batches.
          rows: which sequences of the batch, all unless given; only these are read.

        Returns:
          `decoder_input_tokens`, `decoder_target_tokens`, `decoder_segment_ids`,
          `decoder_positions` int32 and `decoder_loss_weights` float32, each [B, T]. Weights are 0
          where a row ends in padding. Segment ids are all 1 and positions count from the row's
          start, as in the paper's trainer; with `masks_documents` segments count the row's
          documents from 1 and positions start anew in each.

        Raises:
          StopAndLook: a row holds an id outside the vocabulary.
        """
        first = cursor * self.batch_size
        chosen = range(self.batch_size) if rows is None else rows
        places = [self.place(first + row) for row in chosen]
        tokens = np.empty((len(places), self.sequence_tokens + 1), np.int32)
        for number, dataset in enumerate(self._datasets):
            mine = [at for at, (source, _) in enumerate(places) if source == number]
            tokens[mine] = dataset.__getitems__([places[at][1] for at in mine])
        metadata = self._datasets[0].metadata
        return batch_of_rows(tokens, metadata.pad_id, metadata.eod_id, self.masks_documents)

    def iterate(
        self, places: Callable[[int], int], rows: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Batch]]:
        """Yields (cursor, batch) without end, read ahead in the background.

        Args:
          places: the cursor of the first batch to yield, of the second, and so on, from 0.
          rows: which sequences of each batch, all unless given.
        """

        def at(number: int) -> tuple[int, Batch]:
            cursor = places(number)
            return cursor, self.batch(cursor, rows)

        stream = grain.MapDataset.range(NO_END).map(at)
        return iter(
            stream.to_iter_dataset(
                grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCHED_BATCHES)
            )
        )

    def epochs(self, cursor: int, skipped: Sequence[tuple[int, int]] = ()) -> dict[str, float]:
        """Returns how often each source has been gone through before a place in the stream.

        Args:
          cursor: the place, in batches.
          skipped: disjoint ranges [start, end) of batches that were not fed.
        """
        fed = self._samples(cursor)
        for place in skipped:
            start, end = (min(at, cursor) for at in place)
            fed += self._samples(start) - self._samples(end)
        names = [source["name"] for source in self.mixture["sources"]]
        rows = [source["rows"] for source in self.mixture["sources"]]
        return dict(zip(names, (fed / rows).tolist(), strict=True))

    def _samples(self, cursor: int) -> np.ndarray:
        """How many samples of each source come before a place."""
        block, place = divmod(cursor * self.batch_size, BLOCK)
        begun = np.array([source for source, _ in self._pattern[:place]], np.int64)
        quotas = np.array(self._quotas)
        return block * quotas + np.bincount(begun, minlength=len(quotas))


def row_order(rows: int, seed: int, source: str) -> grain.MapDataset:
    """The order of one source's rows: each once an epoch, every epoch in an order of its own.

    Args:
      rows: how many the source has.
      seed: the mixture's.
      source: its name; sources of the same length get orders of their own.

    Returns:
      Endless; [j] is the row of the source's j-th sample.
    """
    digest = hashlib.blake2b(f"{seed}/{source}".encode(), digest_size=8).digest()
    # Twice: after one pass of grain's shuffle, rows that follow each other correlate, by 0.43 in a
    # source of a million; after two by 0.01.
    order = grain.MapDataset.range(rows)
    for half in (digest[:4], digest[4:]):
        order = order.shuffle(seed=int.from_bytes(half, "little"))
    return order.repeat()


def batch_of_rows(
    tokens: Int32[np.ndarray, "B row"], pad_id: int, eod_id: int, masks_documents: bool = False
) -> Batch:
    """Makes a batch, as `BatchStream.batch` describes it, of rows of T + 1 ids."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    positions = np.broadcast_to(np.arange(inputs.shape[1], dtype=np.int32), inputs.shape)
    segments = np.ones_like(inputs)
    if masks_documents:
        begins = inputs == eod_id
        begins[:, 0] = True
        segments = np.cumsum(begins, axis=1, dtype=np.int32)
        positions = positions - np.maximum.accumulate(np.where(begins, positions, 0), axis=1)
    return {
        "decoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets != pad_id).astype(np.float32),
        "decoder_segment_ids": segments,
        "decoder_positions": positions,
    }
