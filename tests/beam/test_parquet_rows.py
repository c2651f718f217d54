import datetime
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import parquet_rows, raw_bytes, read_sources
from beam_pipelines.document import DeadLetterReason, DropReason
from beam_pipelines.read_sources import InputFile, RecordReader
from tests.beam.raw_files import random_text, read
from welm_jax.failures import Preempted


def test_rows_of_parquet_are_records(tmp_path):
    rows = [
        {"text": "春", "url": "http://a", "id": "7", "more": 1},
        {"text": None, "url": None, "id": "8", "more": 2},
        {"text": " \n", "url": None, "id": "9", "more": 3},
        {"text": "秋天", "url": None, "id": None, "more": 4},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    reader = RecordReader(InputFile(path=tmp_path / "a.parquet", source="news"))
    records = list(reader)
    reasons = [record.failure for record in records]
    assert reasons == [None, DeadLetterReason.NO_TEXT, DropReason.EMPTY, None]
    assert (records[0].outcome.text, records[0].outcome.url) == ("春", "http://a")
    assert [(record.offset, record.length) for record in records] == [
        (0, 3),
        (3, 0),
        (3, 2),
        (5, 6),
    ]
    assert reader.fingerprint()["decompressed_bytes"] == 11


def test_a_file_that_is_not_parquet_is_one_dead_letter(tmp_path):
    for content in (b"", b"PAR1 no", b"PAR1" + b"\0" * 100 + b"PAR1"):
        assert read(tmp_path / "a.parquet", content) == [DeadLetterReason.DAMAGED_FILE]


def test_a_file_that_ends_its_reader_is_damaged_and_no_more(tmp_path, monkeypatch):
    """Arrow may abort; the process that reads dies of it, after the rows that it has sent."""
    pq.write_table(pa.table({"text": ["春", "秋"]}), tmp_path / "a.parquet")
    script = tmp_path / "reader.py"
    script.write_text(
        f"""
import os, runpy, sys
module = runpy.run_path({parquet_rows.__file__!r})
module["main"](sys.argv[1:])
sys.stdout.flush()
os.abort()
"""
    )
    monkeypatch.setattr(parquet_rows, "__file__", str(script))
    content = (tmp_path / "a.parquet").read_bytes()
    found = read(tmp_path / "a.parquet", content)
    assert found == ["春", "秋", DeadLetterReason.DAMAGED_FILE]


def test_a_reader_that_is_killed_says_nothing_about_the_file(tmp_path, monkeypatch):
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    (tmp_path / "reader.py").write_text(script)
    monkeypatch.setattr(parquet_rows, "__file__", str(tmp_path / "reader.py"))
    with pytest.raises(Preempted, match="that reads .*a.parquet was killed, or has too little mem"):
        read(tmp_path / "a.parquet", b"")


def test_a_bug_in_the_process_that_reads_is_shown(tmp_path, monkeypatch):
    (tmp_path / "reader.py").write_text("1 / 0")
    monkeypatch.setattr(parquet_rows, "__file__", str(tmp_path / "reader.py"))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        read(tmp_path / "a.parquet", b"")


def test_an_error_of_the_disk_names_the_file(tmp_path):
    (tmp_path / "a.parquet").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=r"Input/output error: '.*/a\.parquet'"):
        list(RecordReader(InputFile(path=tmp_path / "a.parquet", source="news")))


def footer_numbers(content: bytes, rows: int) -> list[int]:
    """Where a file's footer has a number of rows below 64, as a zigzag integer of Thrift."""
    length = int.from_bytes(content[-8:-4], "little")
    footer = len(content) - 8 - length
    return [at for at in range(footer, len(content) - 8) if content[at] == 2 * rows]


def test_rows_are_held_against_what_the_file_says(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["春"] * 63}), path)
    content = path.read_bytes()
    noticed = 0
    for at in footer_numbers(content, 63):
        wrong = content[:at] + b"\0" + content[at + 1 :]
        found = read(path, wrong)
        is_noticed = found[-1:] == [DeadLetterReason.DAMAGED_FILE]
        assert is_noticed or found == ["春"] * 63
        noticed += is_noticed
    assert noticed >= 3  # the file's number of rows, the row group's, the column's


def test_rows_before_the_damage_are_read(tmp_path):
    path = tmp_path / "a.parquet"
    count = 2 * parquet_rows.BATCH_ROWS
    texts = [random_text(number) for number in range(2 * count)]
    settings = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"text": texts}), path, row_group_size=count, **settings)
    content = path.read_bytes()
    found = read(path, content.replace(texts[-9].encode(), b"x" * 600))
    assert found == [*texts[:count], DeadLetterReason.DAMAGED_FILE]


def test_pages_are_held_against_their_checksums(tmp_path):
    path = tmp_path / "a.parquet"
    settings = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"text": [random_text(at) for at in range(40)]}), path, **settings)
    content = path.read_bytes()
    assert len(read(path, content)) == 40
    damaged = content.replace(random_text(7).encode(), "春".encode() * 200)
    assert damaged != content
    assert read(path, damaged)[-1] is DeadLetterReason.DAMAGED_FILE


def test_a_bomb_is_left_where_it_gets_out_of_hand(tmp_path, monkeypatch):
    """One value that each row has, in a text or elsewhere; and one that is too large at once."""
    monkeypatch.setattr(raw_bytes, "_ALWAYS_READ", 1 << 20)
    path, long = tmp_path / "a.parquet", "x" * 20_000
    texts = [f"第{number}回" for number in range(256)]
    for columns in ({"text": [long] * 256}, {"text": texts, "url": [long] * 256}):
        pq.write_table(pa.table(columns), path, compression="zstd")
        *found, last = read(path, path.read_bytes())
        assert last is DeadLetterReason.DECOMPRESSION_BOMB
        assert found == columns["text"][:48]  # of 20,000 bytes each; eight more are too many
    pq.write_table(pa.table({"text": ["x" * (2 << 20)]}), path, compression="zstd")
    assert read(path, path.read_bytes()) == [DeadLetterReason.DECOMPRESSION_BOMB]


def test_rows_before_a_bomb_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_bytes, "_ALWAYS_READ", 1 << 20)
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["短"] * 100 + ["x" * 100_000] * 40})
    settings = {"row_group_size": 100, "use_dictionary": False, "compression": "zstd"}
    pq.write_table(table, path, **settings)
    assert read(path, path.read_bytes()) == ["短"] * 100 + [DeadLetterReason.DECOMPRESSION_BOMB]


def test_a_book_or_the_same_one_again_takes_little_memory(tmp_path):
    """A value that is stored once is decoded a few times at a time, and sent by itself."""
    book = "x" * (5 << 20)
    path = tmp_path / "a.parquet"
    for texts, is_once, decoded in (([book] * 24, True, 8), ([book] * 24, False, 1)):
        settings = {"use_dictionary": is_once, "dictionary_pagesize_limit": 1 << 30}
        settings["write_batch_size"] = 1  # a value a page
        pq.write_table(pa.table({"text": texts}), path, compression="zstd", **settings)
        sink = Sink()
        with path.open("rb") as file:
            parquet_rows._send(file, ["text"], 1 << 30, sink)
        batches = [*pa.ipc.open_stream(sink.getvalue())]
        assert [len(batch) for batch in batches] == [1] * 24
        # Beside what is decoded: a page, and what Arrow rounds up.
        assert sink.most_allocated < (2 * decoded + 2) * len(book)


class Sink(io.BytesIO):
    """Notes the memory that Arrow has while it is written to."""

    most_allocated = 0

    def write(self, data) -> int:
        self.most_allocated = max(self.most_allocated, pa.total_allocated_bytes())
        return super().write(data)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1], pa.timestamp("ns"), "1970-01-01 00:00:00.000000001"),  # finer than Python's
        ([2**62], pa.timestamp("us"), None),  # a year that even Arrow does not write
        ([7], pa.timestamp("us", "Mars/Olympus"), None),
        (["春"], pa.string(), "春"),
        ([{"a": [1]}], pa.struct({"a": pa.list_(pa.int64())}), '{"a": [1]}'),
    ],
)
def test_a_text_is_read_beside_a_time_that_python_cannot_express(tmp_path, values, kind, expected):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["春"], "timestamp": pa.array(values, kind)}), path)
    [record] = RecordReader(InputFile(path=path, source="news"))
    assert (record.outcome.text, record.outcome.timestamp) == ("春", expected)


def test_other_columns_may_be_named_in_other_bytes(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"标题": [1], "text": ["春"], "text.en": ["秋"]}), path)
    content = path.read_bytes().replace("标题".encode(), "标题".encode("gbk") + b"\xff\xff")
    content = content.replace("秋".encode(), b"\xff" * 3)  # in a column that nobody reads
    assert read(path, content) == ["春"] and "标题".encode("gbk") in content


@pytest.mark.parametrize("name", ["text", "url"])
def test_two_columns_of_one_name_are_not_read(tmp_path, name):
    path = tmp_path / "a.parquet"
    columns = [pa.array(["春眠"]), pa.array(["不觉"]), pa.array(["晓"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", name, "url"]), path)
    [record] = RecordReader(InputFile(path=path, source="news"))
    assert record.outcome is DeadLetterReason.NO_TEXT
    assert record.length == (12 if name == "text" else 6)


@pytest.mark.parametrize(
    ("column", "length"),
    [(pa.array([b"spring"]), 6), (pa.array([7]), 0), (pa.array([{"zh": "春"}]), 0)],
)
def test_a_column_of_another_type_is_no_text_and_weighs_what_it_holds(tmp_path, column, length):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": column}), path)
    [record] = RecordReader(InputFile(path=path, source="news"))
    assert (record.outcome, record.length) == (DeadLetterReason.NO_TEXT, length)


def test_rows_without_any_column_that_is_read_are_counted(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["春", "秋"]}), path)
    records = list(RecordReader(InputFile(path=path, source="news")))
    assert [one.outcome for one in records] == [DeadLetterReason.NO_TEXT] * 2


def test_a_file_may_be_named_in_any_bytes(tmp_path):
    path = tmp_path / "书.parquet".encode("gbk").decode("utf-8", "surrogateescape")
    pq.write_table(pa.table({"text": ["春"]}), tmp_path / "a.parquet")
    assert read(path, (tmp_path / "a.parquet").read_bytes()) == ["春"]


def test_parquet_columns_of_other_types_and_rows_that_are_no_text(tmp_path):
    when = datetime.datetime(2021, 10, 1, tzinfo=datetime.UTC)
    text = pa.array(["天下", "大势", "长" * 50], pa.large_string())
    bad = pa.Array.from_buffers(
        pa.large_string(),
        3,
        [None, text.buffers()[1], pa.py_buffer(b"\xff" * 6 + text.buffers()[2].to_pybytes()[6:])],
    )
    columns = {"text": bad, "id": [b"1", b"2", b"3"], "timestamp": [when] * 3}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    outcomes = [
        one.outcome for one in RecordReader(InputFile(path=tmp_path / "a.parquet", source="s"))
    ]
    assert outcomes[0] == DeadLetterReason.UNDECODABLE
    assert [one.text for one in outcomes[1:]] == ["大势", "长" * 50]
    assert outcomes[1].timestamp == "2021-10-01 00:00:00+00:00"


def test_a_parquet_row_beyond_the_cap_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 20)
    pq.write_table(pa.table({"text": ["天下", "长" * 50]}), tmp_path / "a.parquet")
    reader = RecordReader(InputFile(path=tmp_path / "a.parquet", source="s"))
    assert [one.failure for one in reader] == [None, DeadLetterReason.TOO_LONG]
