import json
import random

import numpy as np
import pytest

from welm_jax.failures import InputError
from welm_jax.text.records import (
    TokenMetadata,
    TokenShard,
    TokenSplit,
    pack,
    row_dtype,
    unpack,
)

PAD, EOD = 0, 1


def random_documents(seed):
    draw = random.Random(seed)
    longest = draw.choice([3, 20, 200])
    return [
        [draw.randint(4, 99) for _ in range(draw.randint(0, longest))]
        for _ in range(draw.randint(1, 40))
    ]


def packed(documents, sequence_tokens):
    return list(pack(documents, sequence_tokens, EOD, PAD))


def test_packing_worked_by_hand():
    rows = packed([[5, 6], [7, 8, 9, 10], []], 4)
    # The stream is 1 5 6 1 7 8 9 10 1 1; rows of five, each begins with the last id of the one
    # before.
    assert [row.tolist() for row in rows] == [[1, 5, 6, 1, 7], [7, 8, 9, 10, 1], [1, 1, 0, 0, 0]]


def test_stream_that_fills_its_last_row_has_no_padding():
    assert [row.tolist() for row in packed([[5, 6, 7]], 4)] == [[1, 5, 6, 7, 1]]


def test_no_document_makes_no_row():
    assert packed([], 4) == []


@pytest.mark.parametrize("sequence_tokens", [1, 2, 7, 32])
@pytest.mark.parametrize("seed", range(10))
def test_every_token_and_every_end_is_a_target_once(seed, sequence_tokens):
    documents = random_documents(seed)
    rows = packed(documents, sequence_tokens)
    targets = np.concatenate([row[1:] for row in rows])
    stream = [token for document in documents for token in [*document, EOD]]
    assert targets[: len(stream)].tolist() == stream
    assert set(targets[len(stream) :].tolist()) <= {PAD}
    assert len(targets) - len(stream) < sequence_tokens
    assert {len(row) for row in rows} == {sequence_tokens + 1}


@pytest.mark.parametrize("seed", range(10))
def test_context_of_a_row_is_the_last_target_of_the_row_before(seed):
    rows = packed(random_documents(seed), 5)
    assert [row[0] for row in rows] == [EOD, *(row[-1] for row in rows[:-1])]


@pytest.mark.parametrize("sequence_tokens", [1, 2, 7, 32])
@pytest.mark.parametrize("seed", range(10))
def test_unpacking_gives_back_the_documents(seed, sequence_tokens):
    documents = random_documents(seed)
    rows = packed(documents, sequence_tokens)
    assert [document.tolist() for document in unpack(rows, EOD, PAD)] == documents


def test_packing_reads_no_document_before_its_row():
    read = []

    def source():
        for number in range(100):
            read.append(number)
            yield [5] * 10

    rows = pack(source(), 15, EOD, PAD)
    next(rows)
    assert read == [0, 1]


@pytest.mark.parametrize(
    "vocab_size, dtype", [(6_000, np.uint16), (65_536, np.uint16), (65_537, np.int32)]
)
def test_rows_are_stored_in_the_smallest_type_that_holds_them(vocab_size, dtype):
    assert row_dtype(vocab_size) == dtype


def metadata():
    shard = TokenShard(file="news-train.array_record-00000-of-00001", sha256="ab" * 32, rows=3)
    split = TokenSplit(documents=2, tokens=11, characters=17, rows=3, shards=(shard,))
    return TokenMetadata(
        source="news",
        tokenizer_sha256="cd" * 32,
        vocab_size=480,
        sequence_tokens=4,
        eod_id=EOD,
        pad_id=PAD,
        ledger_digest=None,
        splits={"train": split},
    )


def test_metadata_survives_json():
    text = metadata().to_json()
    assert TokenMetadata.from_json(text, "here") == metadata()
    assert TokenMetadata.from_json(text, "here").to_json() == text


def test_metadata_has_the_keys_that_others_read():
    fields = json.loads(metadata().to_json())
    assert set(fields) == {
        "format", "source", "tokenizer_sha256", "vocab_size", "sequence_tokens", "eod_id",
        "pad_id", "ledger_digest", "splits",
    }  # fmt: skip
    assert set(fields["splits"]["train"]) == {"documents", "tokens", "characters", "rows", "shards"}
    assert set(fields["splits"]["train"]["shards"][0]) == {
        "file", "sha256", "rows", "documents_file", "documents_sha256",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("vocab_size"),
        lambda fields: fields.update(colour="red"),
        lambda fields: fields.update(format=2),
        lambda fields: fields.pop("format"),
        lambda fields: fields.update(splits=3),
        lambda fields: fields["splits"]["train"].update(rows=4),
        lambda fields: fields["splits"]["train"].pop("shards"),
    ],
)
def test_damaged_metadata_is_refused(change):
    fields = json.loads(metadata().to_json())
    change(fields)
    with pytest.raises(InputError, match="here is damaged or not ours .*write_tokens"):
        TokenMetadata.from_json(json.dumps(fields), "here")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_what_is_no_metadata_is_refused(text):
    with pytest.raises(InputError, match="here is damaged or not ours"):
        TokenMetadata.from_json(text, "here")


def test_merged_splits_add_up():
    split = metadata().splits["train"]
    both = TokenSplit.merged([split, split])
    assert (both.documents, both.tokens, both.characters, both.rows) == (4, 22, 34, 6)
    assert both.shards == split.shards * 2
