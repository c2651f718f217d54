import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from beam_pipelines import token_files
from tests.tiny_corpus import (
    SEQUENCE_TOKENS,
    VOCAB_SIZE,
    documents,
    tokenizer_file,
    tokens_dir,
)
from welm_jax.data import token_dataset
from welm_jax.data.token_dataset import TokenDataset, count_rows, read_metadata
from welm_jax.failures import InputError, StopAndLook
from welm_jax.text.records import METADATA_FILE, TokenMetadata, TokenSplit, pack
from welm_jax.text.tokenizer import Tokenizer

# news, train: two Parquet shards of every other document each.
SHARDS = [documents("news", "train", 120)[index::2] for index in range(2)]


@pytest.fixture(scope="module")
def news():
    return TokenDataset(tokens_dir() / "news", "train")


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(tokens_dir() / "news", tmp_path / "news")


def change_metadata(folder, change):
    path = folder / METADATA_FILE
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def test_rows_hold_every_token_of_every_document_once(news):
    tokenizer = Tokenizer(tokenizer_file())
    expected = [
        token for shard in SHARDS for text in shard for token in [*tokenizer.encode(text), 1]
    ]
    targets = np.concatenate([news[row][1:] for row in range(len(news))])
    assert targets[targets != 0].tolist() == expected


def test_documents_come_back_whole_and_in_order(news):
    tokenizer = Tokenizer(tokenizer_file())
    texts = [tokenizer.decode(document) for document in news.documents()]
    assert texts == SHARDS[0] + SHARDS[1]


def test_row_is_int32_of_one_more_than_the_sequence(news):
    row = news[0]
    assert (row.dtype, row.shape) == (np.int32, (SEQUENCE_TOKENS + 1,))
    assert row[0] == news.metadata.eod_id


def test_several_rows_are_the_rows_one_by_one(news):
    rows = [7, 0, 7, len(news) - 1]
    together = news.__getitems__(rows)
    assert together.dtype == np.int32
    assert (together == [news[row] for row in rows]).all()


def test_no_rows_are_no_rows(news):
    assert news.__getitems__([]).shape == (0, SEQUENCE_TOKENS + 1)


@pytest.mark.parametrize("row", [-1, 10**9])
def test_row_outside_the_dataset_is_an_index_error(news, row):
    with pytest.raises(IndexError, match="of .* in .*news"):
        news[row]
    with pytest.raises(IndexError, match="of .* in .*news"):
        news.document_ids([row])


def names(texts):
    return [hashlib.md5(text.encode()).hexdigest() for text in texts]


def test_row_leads_to_the_documents_that_have_a_target_in_it(news):
    # By the tokens themselves: a document goes on until its end, which is a target of its own.
    expected = []
    for shard, texts in zip(news.metadata.splits["train"].shards, SHARDS, strict=True):
        left = names(texts)
        for _ in range(shard.rows):
            targets = news[len(expected)][1:]
            ends = int((targets == news.metadata.eod_id).sum())
            goes_on = targets[-1] not in (news.metadata.eod_id, news.metadata.pad_id)
            expected.append(left[: ends + goes_on])
            left = left[ends:]
        assert left == []
    assert news.document_ids(range(len(news))) == expected
    assert max(map(len, expected)) > 1


def test_documents_of_rows_in_any_order_are_those_of_each_row(news):
    rows = [len(news) - 1, 0, 7, 0, 150]
    assert news.document_ids(rows) == [news.document_ids([row])[0] for row in rows]
    assert news.document_ids([]) == []


@pytest.fixture(scope="module")
def short_rows(tmp_path_factory):
    """Documents of 2, 0, 9 and 3 targets more than their end, in rows of 4 targets."""
    folder = tmp_path_factory.mktemp("short") / "a"
    rows = pack([[5, 6], [], [7] * 9, [8] * 3], 4, eod_id=1, pad_id=0)
    name = token_files.file_name("a", "train", 0, 1)
    shard = token_files.write_rows(folder / name, rows, token_files.row_features(4, 10))
    # They end after 3, 4, 14 and 18 targets, so that row 1 begins with a document.
    begins = {0: "two", 3: "none", 4: "nine", 14: "three"}
    shard = token_files.write_documents(folder, shard, begins)
    split = TokenSplit(documents=4, tokens=18, characters=14, rows=5, shards=(shard,))
    token_files.describe(
        folder,
        TokenMetadata(
            source="a",
            tokenizer_sha256="",
            vocab_size=10,
            sequence_tokens=4,
            eod_id=1,
            pad_id=0,
            ledger_digest=None,
            splits={"train": split},
        ),
    )
    return TokenDataset(folder, "train")


@pytest.mark.parametrize(
    "row, expected",
    [
        (0, ["two", "none"]),  # 5 6 1 1: the last target is the end of the empty document
        (1, ["nine"]),  # 7 7 7 7: what ended in the row before has no target here
        (2, ["nine"]),
        (3, ["nine", "three"]),  # 7 1 8 8
        (4, ["three"]),  # 8 1 and padding
    ],
)
def test_documents_of_a_row_worked_by_hand(short_rows, row, expected):
    assert short_rows.document_ids([row]) == [expected]


def test_dataset_written_before_ids_were_kept_opens_without_them(copy, news):
    def change(fields):
        for split in fields["splits"].values():
            for shard in split["shards"]:
                (copy / shard.pop("documents_file")).unlink()
                del shard["documents_sha256"]

    change_metadata(copy, change)
    old = TokenDataset(copy, "train")
    assert old.document_ids([0, 5]) == [[], []]
    assert (old[5] == news[5]).all()


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: np.save(path, np.arange(9)),
    ],
)
def test_damaged_table_of_documents_stops_whoever_asks_for_them(copy, damage):
    damage(copy / "news-train.documents-00001-of-00002.npy")
    dataset = TokenDataset(copy, "train")
    assert dataset[len(dataset) - 1].shape == (SEQUENCE_TOKENS + 1,)
    assert dataset.document_ids([0]) != [[]]
    with pytest.raises(StopAndLook, match="news is damaged .*put a good copy there"):
        dataset.document_ids([len(dataset) - 1])


def test_metadata_counts_what_is_there(news):
    tokenizer = Tokenizer(tokenizer_file())
    train = news.metadata.splits["train"]
    assert train.documents == 120
    assert train.characters == sum(map(len, SHARDS[0] + SHARDS[1]))
    assert train.tokens == sum(len(tokenizer.encode(text)) + 1 for text in SHARDS[0] + SHARDS[1])
    assert (news.metadata.vocab_size, news.metadata.tokenizer_sha256) == (
        VOCAB_SIZE,
        tokenizer.sha256,
    )


def test_metadata_has_the_digest_of_every_file(news):
    files = {
        shard.file: shard.sha256
        for split in news.metadata.splits.values()
        for shard in split.shards
    }
    stored = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tokens_dir() / "news").glob("*.array_record-*")
    }
    assert files == stored


def test_rows_are_stored_one_by_one():
    # In larger groups every read of a row would decompress its neighbours too.
    for path in (tokens_dir() / "news").glob("*.array_record-*"):
        reader = ArrayRecordReader(str(path))
        assert "group_size:1," in reader.writer_options_string()
        reader.close()


def test_fingerprint_is_the_digest_of_the_metadata(news):
    content = (tokens_dir() / "news" / METADATA_FILE).read_bytes()
    assert news.fingerprint == hashlib.sha256(content).hexdigest()


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="none is no token dataset .*No such file.*TOKENS_DIR"):
        TokenDataset(tmp_path / "none", "train")


def test_dataset_of_somebody_else_is_refused(copy):
    (copy / METADATA_FILE).unlink()
    with pytest.raises(InputError, match="news is no token dataset"):
        TokenDataset(copy, "train")


def test_damaged_metadata_is_refused(copy):
    (copy / METADATA_FILE).write_bytes(b"\xff{")
    with pytest.raises(InputError, match="token_metadata.json is damaged or not ours"):
        read_metadata(copy)


def test_split_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="books has no split heldout, only train; curate more"):
        TokenDataset(tokens_dir() / "books", "heldout")


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_damaged_tfds_metadata_stops(copy, file, damage):
    damage(copy / file)
    with pytest.raises(StopAndLook, match="news is damaged .*write it again"):
        TokenDataset(copy, "train")


def test_other_number_of_rows_stops(copy):
    def change(fields):
        fields["splits"]["train"]["rows"] += 1
        fields["splits"]["train"]["shards"][0]["rows"] += 1

    change_metadata(copy, change)
    with pytest.raises(StopAndLook, match="holds 241 rows of train where its metadata says 242"):
        TokenDataset(copy, "train")


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:300], lambda content: flipped(content)]
)
def test_damaged_file_stops(copy, damage):
    path = next(copy.glob("news-train.array_record*"))
    path.write_bytes(damage(path.read_bytes()))
    dataset = TokenDataset(copy, "train")
    with pytest.raises(StopAndLook, match="news is damaged .*put a good copy there"):
        dataset.__getitems__(range(len(dataset)))


def flipped(content):
    return content[:1_000] + bytes([content[1_000] ^ 1]) + content[1_001:]


SHARD = "news-{}.array_record-00001-of-00002"


def other_shard(path):
    return str(path).replace("00001-of", "00000-of")


def test_every_listed_file_of_both_splits_is_opened(monkeypatch):
    opened, reader = [], token_dataset.ArrayRecordReader

    def opening(file, **options):
        opened.append(Path(file))
        return reader(file, **options)

    monkeypatch.setattr(token_dataset, "ArrayRecordReader", opening)
    folders = [tokens_dir() / name for name in ("news", "books", "english")]
    count_rows([{"folder": str(folder)} for folder in folders])
    listed = [file for folder in folders for file in folder.glob("*.array_record*")]
    assert sorted(opened) == sorted(file for file in listed if file.suffix != ".npy")


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(b""), r"holds 0 rows, not \d+"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"holds 0 rows, not \d+"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), r"holds 0 rows, not \d+"),
        (lambda path: shutil.copy(other_shard(path), path), r"holds \d+ rows, not \d+"),
    ],
)
def test_a_listed_file_that_is_missing_cut_or_another_stops(copy, split, damage, words):
    damage(copy / SHARD.format(split))
    words = rf"{copy} is damaged \({SHARD.format(split)} {words}\); put a good copy there, or"
    with pytest.raises(StopAndLook, match=words):
        count_rows([{"folder": str(tokens_dir() / "books")}, {"folder": str(copy)}])


def test_a_dataset_below_a_folder_whose_name_looks_like_a_pattern_is_read(copy, news):
    (copy.parent / "[1]*?").mkdir()
    folder = copy.rename(copy.parent / "[1]*?/news")
    count_rows([{"folder": str(folder)}])
    np.testing.assert_array_equal(TokenDataset(folder, "train")[3], news[3])


def test_id_outside_the_vocabulary_stops(copy):
    change_metadata(copy, lambda fields: fields.update(vocab_size=100))
    dataset = TokenDataset(copy, "train")
    with pytest.raises(StopAndLook, match=r"holds id \d+ where its vocabulary ends at 99"):
        dataset.__getitems__(range(len(dataset)))


def test_reading_tokens_loads_neither_tensorflow_nor_seqio():
    program = (
        "import sys\n"
        "import welm_jax.data.batches, welm_jax.data.suspects\n"
        "from welm_jax.data.token_dataset import TokenDataset\n"
        f"TokenDataset({str(tokens_dir() / 'news')!r}, 'train')[3]\n"
        "print(sorted({'tensorflow', 'seqio', 'flax', 'apache_beam'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_text_floor_loads_no_jax_and_no_pyarrow():
    program = (
        "import sys\n"
        "import welm_jax.text.records, welm_jax.text.sources\n"
        "from welm_jax.text.tokenizer import Tokenizer\n"
        f"Tokenizer({str(tokenizer_file())!r}).encode('a')\n"
        "heavy = {'jax', 'jaxtyping', 'tensorflow', 'seqio', 'pyarrow', 'apache_beam', 'grain'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
