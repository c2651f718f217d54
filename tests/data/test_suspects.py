import json
import shutil

import numpy as np
import pytest

from tests.data.test_batches import mixture
from tests.tiny_corpus import tokens_dir
from welm_jax.data.batches import BatchStream
from welm_jax.data.suspects import LONGEST_PERIOD, describe, repetitions
from welm_jax.data.token_dataset import TokenDataset

CURSORS = [3, 4, 40]
PAD = 0


@pytest.fixture(scope="module")
def stream():
    return BatchStream(mixture(), batch_size=12)


@pytest.fixture(scope="module")
def rows(stream):
    return describe(stream, CURSORS)


def repetition(*row):
    [count], [period] = repetitions(np.array([row], np.int32), PAD)
    return count, period


@pytest.mark.parametrize(
    "row, expected",
    [
        ([4, 5, 6, 7], (1, 1)),  # nothing is repeated
        ([4], (1, 1)),
        ([4, 4, PAD, PAD, PAD], (2, 1)),
        ([4, 4, 4, 4], (4, 1)),
        ([9, 4, 5, 4, 5, 4, 5, 8], (3, 2)),
        ([4, 5, 4, 5, 4, 9], (2, 2)),  # the third 4 begins no whole third
        ([4, 4, 9, 9, 9, 4, 4], (3, 1)),  # the longest, not the sum
        ([4, 4, 5, 4, 4, 5], (2, 1)),  # twice 4 and twice 4 4 5: the shorter
        ([4, 5, 4, 4, 5, 4, 4, 5], (2, 1)),  # 4 5 4 is whole only twice
        ([4, 5, 6, 4, 5, 7], (1, 1)),  # 4 5 comes back, but not next to itself
        ([*range(4, 17), *range(4, 17)], (2, 13)),
        ([*range(4, 18), *range(4, 18)], (1, 1)),  # 14 tokens are more than is looked for
    ],
)
def test_repetitions_worked_by_hand(row, expected):
    assert repetition(*row) == expected


def spelt_out(row):
    """The same by the definition: the same p tokens again, as often as they follow each other."""
    best = (1, 1)
    for period in range(1, LONGEST_PERIOD + 1):
        for start in range(len(row)):
            count = 1
            one = row[start : start + period]
            at = start + period
            while PAD not in one and row[at : at + period] == one:
                count, at = count + 1, at + period
            if count > best[0]:
                best = (count, period)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_repetitions_are_those_of_the_definition(seed):
    draw = np.random.default_rng(seed)
    tokens = draw.integers(4, 6 + seed % 3, (5, 60)).astype(np.int32)
    for row in tokens[1:]:  # and a planted one
        period, start = draw.integers(1, 16), draw.integers(0, 30)
        row[start : start + 30] = np.resize(row[start : start + period], 30)
    tokens[draw.random(tokens.shape) < 0.03] = PAD
    counts, periods = repetitions(tokens, PAD)
    assert list(zip(counts, periods, strict=True)) == [spelt_out(row) for row in tokens.tolist()]
    assert max(counts) > 2


def test_rows_do_not_run_into_each_other():
    tokens = np.array([[5, 6, 7, 7], [7, 7, 6, 5]], np.int32)
    counts, periods = repetitions(tokens, PAD)
    assert (counts.tolist(), periods.tolist()) == ([2, 2], [1, 1])


def test_each_row_is_told_with_its_place_and_its_documents(stream, rows):
    assert [(row["cursor"], row["row"]) for row in rows] == [
        (cursor, at) for cursor in CURSORS for at in range(12)
    ]
    for row in rows:
        source, number = stream.place(row["cursor"] * 12 + row["row"])
        assert row["source"] == stream.mixture["sources"][source]["name"]
        assert row["dataset_row"] == number
        dataset = TokenDataset(tokens_dir() / row["source"], "train")
        assert row["documents"] == dataset.document_ids([number])[0] != []
        expected = spelt_out(dataset[number][1:].tolist())
        assert (row["repetition"], row["period"]) == expected
    assert {row["source"] for row in rows} == {"books", "english", "news"}


def test_what_is_told_goes_through_json_and_holds_no_text(rows):
    assert json.loads(json.dumps(rows)) == rows
    assert set(rows[0]) == {
        "cursor", "row", "source", "dataset_row", "documents", "repetition", "period",
    }  # fmt: skip


def test_padding_is_no_repetition(stream):
    # The last row of a shard ends in padding; somewhere in an epoch it comes by.
    dataset = TokenDataset(tokens_dir() / "books", "train")
    last = len(dataset) - 1
    padding = int((dataset[last] == PAD).sum())
    described = describe(stream, range(60))
    [row, *_] = [r for r in described if (r["source"], r["dataset_row"]) == ("books", last)]
    assert row["repetition"] < padding


def test_rows_whose_documents_were_not_kept_are_told_without(tmp_path):
    folder = shutil.copytree(tokens_dir(), tmp_path / "tokens")
    path = folder / "news" / "token_metadata.json"
    fields = json.loads(path.read_text())
    for shard in fields["splits"]["train"]["shards"]:
        del shard["documents_file"], shard["documents_sha256"]
    path.write_text(json.dumps(fields))
    rows = describe(BatchStream(mixture(folder), 12), [0])
    assert {row["source"] for row in rows if row["documents"] == []} == {"news"}


def test_no_batch_is_no_row(stream):
    assert describe(stream, []) == []
