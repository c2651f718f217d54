"""What suspect batches were made of: the source, the documents and the repetitiveness of each row.

For the record of a loss spike. Shows ids and figures, never text. Deliberately does not know what
made a batch suspect (train.spikes), nor how its rows are shown (report).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64

from welm_jax.data.batches import BatchStream
from welm_jax.data.token_dataset import TokenDataset, open_source

LONGEST_PERIOD = 13


def describe(stream: BatchStream, cursors: Sequence[int]) -> list[dict[str, Any]]:
    """Lists the rows of suspect batches, so that a person sees what the model was given.

    Args:
      stream: the run's own.
      cursors: the batches' places in it.

    Returns:
      One JSON-able dict per row, in the order of the cursors:
        cursor, row: its batch, and its place in that batch.
        source, dataset_row: its source's name, and its number in that source's training split.
        documents: ids of the documents with a target in it; none where they were not kept.
        repetition, period: see `repetitions`.

    Raises:
      InputError: a dataset was written again since the run began.
      StopAndLook: a dataset is damaged.
    """
    datasets = [open_source(source, "train") for source in stream.mixture["sources"]]
    return [row for cursor in cursors for row in _rows_of(stream, datasets, cursor)]


def _rows_of(
    stream: BatchStream, datasets: Sequence[TokenDataset], cursor: int
) -> list[dict[str, Any]]:
    first = cursor * stream.batch_size
    places = [stream.place(first + at) for at in range(stream.batch_size)]
    rows = []
    for number, dataset in enumerate(datasets):
        mine = [(at, row) for at, (source, row) in enumerate(places) if source == number]
        numbers = [row for _, row in mine]
        targets = dataset.__getitems__(numbers)[:, 1:]
        counts, periods = repetitions(targets, dataset.metadata.pad_id)
        rows += [
            {
                "cursor": cursor,
                "row": at,
                "source": stream.mixture["sources"][number]["name"],
                "dataset_row": int(row),
                "documents": documents,
                "repetition": int(count),
                "period": int(period),
            }
            for (at, row), documents, count, period in zip(
                mine, dataset.document_ids(numbers), counts, periods, strict=True
            )
        ]
    return sorted(rows, key=lambda row: row["row"])


def repetitions(
    tokens: Int32[np.ndarray, "B T"], pad_id: int
) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
    """Counts how often, at most, each row says the same few tokens over and over.

    A run of n tokens that each equal the one p places before them is n // p + 1 repetitions, one
    after the other, of p tokens.

    Args:
      tokens: ids, at least 0.
      pad_id: padding, which is no repetition.

    Returns:
      The largest count over all periods of 1 to 13 tokens, 1 if nothing is repeated, and its
      period, the shortest if several have that count.

    Source: OLMo-core's filter has these periods; it drops a sequence with a count of 32 or more.
    """
    # In place of padding, numbers that no other token of the row has.
    own = -1 - np.arange(tokens.shape[1], dtype=np.int32)
    tokens = np.where(tokens == pad_id, own, tokens)
    counts = np.ones(len(tokens), np.int64)
    periods = np.ones(len(tokens), np.int64)
    same = np.zeros(tokens.shape, bool)
    for period in range(1, min(LONGEST_PERIOD, tokens.shape[1] - 1) + 1):
        same[:, :period] = False
        np.equal(tokens[:, period:], tokens[:, :-period], out=same[:, period:])
        count = _longest_runs(same) // period + 1
        periods[count > counts] = period
        counts = np.maximum(count, counts)
    return counts, periods


def _longest_runs(same: Bool[np.ndarray, "B T"]) -> Int64[np.ndarray, " B"]:
    """The length of each row's longest run of True; the first column is False."""
    # By place, not by row: what repeats is rare, so there are few places to look at, and the False
    # that begins a row parts the last run of the row before from its first.
    places = np.flatnonzero(same)
    heads = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    lengths = np.diff(heads, append=places.size)
    longest = np.zeros(len(same), np.int64)
    np.maximum.at(longest, places[heads] // same.shape[1], lengths)
    return longest
