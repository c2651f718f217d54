import datetime
import gzip
import hashlib
import json
import lzma
import random
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from beam_pipelines import raw_bytes, read_sources
from beam_pipelines.document import DeadLetterReason, Document, DropReason
from beam_pipelines.read_sources import InputFile, RecordReader, list_inputs
from welm_jax.failures import InputError


def line(text: str, **fields) -> bytes:
    return json.dumps({"text": text, **fields}, ensure_ascii=False).encode() + b"\n"


def read(path: Path, content: bytes) -> list:
    """Reads a file of this content; checks that its records are all of its bytes, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    reader = RecordReader(InputFile(path=path, source="news"))
    records = list(reader)
    ends = [record.offset + record.length for record in records]
    assert [0, *ends][: len(records)] == [record.offset for record in records]
    assert sum(record.length for record in records) == reader.fingerprint()["decompressed_bytes"]
    if path.suffix not in (".gz", ".xz", ".zst"):
        assert reader.fingerprint()["decompressed_bytes"] == len(content)
    return [
        one.outcome.text if isinstance(one.outcome, Document) else one.outcome for one in records
    ]


def test_text_is_kept_exactly(tmp_path):
    text = "\ufeff　　第一回\r\n\t春眠\u2028不\x85觉\x0b晓  \n"
    assert read(tmp_path / "a.jsonl", line(text) + line("二")) == [text, "二"]
    assert read(tmp_path / "a.txt", text.encode()) == [text.removeprefix("\ufeff")]


def test_fields_of_a_record_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(line("春", url="http://a", timestamp=1998, id=7, other=[1]))
    [record] = RecordReader(InputFile(path=tmp_path / "a.jsonl", source="news"))
    document = record.outcome
    assert (document.source, document.url, document.timestamp) == ("news", "http://a", "1998")


def test_last_line_needs_no_newline_and_blank_lines_are_empty(tmp_path):
    content = b"\n" + line("春") + b"  \r\n" + line(" \n\t") + line("秋").rstrip()
    empty = DropReason.EMPTY
    assert read(tmp_path / "a.jsonl", content) == [empty, "春", empty, empty, "秋"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"text": "\xff\xfe"}\n', DeadLetterReason.UNDECODABLE),
        ('{"text": "春"}\n'.encode("gb18030"), DeadLetterReason.UNDECODABLE),
        (b'{"text": "half\n', DeadLetterReason.NOT_JSON),
        (b"<html>\n", DeadLetterReason.NOT_JSON),
        (b"[" * 100_000 + b"\n", DeadLetterReason.NOT_JSON),
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}\n", DeadLetterReason.NOT_JSON),
        (b'["text"]\n', DeadLetterReason.NO_TEXT),
        (b'{"content": "x"}\n', DeadLetterReason.NO_TEXT),
        (b'{"text": null}\n', DeadLetterReason.NO_TEXT),
        (b'{"text": "\\ud83d"}\n', DeadLetterReason.LONE_SURROGATE),
        (b'{"text": "x", "url": "\\udc00"}\n', DeadLetterReason.LONE_SURROGATE),
    ],
)
def test_a_bad_line_is_a_dead_letter_and_its_neighbours_live(tmp_path, bad, reason):
    content = line("春") + bad + line("秋")
    assert read(tmp_path / "a.jsonl", content) == ["春", reason, "秋"]
    assert read(tmp_path / "a.jsonl.gz", gzip.compress(content)) == ["春", reason, "秋"]


def test_a_plain_file_that_cannot_be_decoded_is_one_dead_letter(tmp_path):
    assert read(tmp_path / "a.txt", "春眠".encode("gb18030")) == [DeadLetterReason.UNDECODABLE]


def test_a_line_beyond_the_cap_is_skipped_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(raw_bytes, "_CHUNK_BYTES", 64)
    content = line("春") + line("x" * 5000) + line("秋")
    assert read(tmp_path / "a.jsonl", content) == ["春", DeadLetterReason.TOO_LONG, "秋"]
    assert read(tmp_path / "a.txt", b"x" * 5000) == [DeadLetterReason.TOO_LONG]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_cut_gzip_file_gives_its_whole_lines_and_one_dead_letter(tmp_path, share):
    lines = [
        line(f"第{number}回 " + "话说天下大势分久必合" * (number % 7)) for number in range(20000)
    ]
    packed = gzip.compress(b"".join(lines), compresslevel=1)
    cut = packed[: int(len(packed) * share)]
    readable = zlib.decompressobj(wbits=31).decompress(cut)
    outcomes = read(tmp_path / "a.jsonl.gz", cut)
    whole = [json.loads(one)["text"] for one in readable.split(b"\n")[:-1]]
    assert 1000 < len(whole) < 20000
    assert outcomes == [*whole, DeadLetterReason.DAMAGED_FILE]


def test_a_damaged_plain_text_archive_gives_no_half_document(tmp_path):
    packed = gzip.compress("话说天下大势".encode() * 50000)
    assert read(tmp_path / "a.txt.gz", packed[:-20]) == [DeadLetterReason.DAMAGED_FILE]
    assert read(tmp_path / "b.txt.gz", b"<html>not found</html>") == [DeadLetterReason.DAMAGED_FILE]


def test_bytes_after_a_gzip_member_are_not_lost_in_silence(tmp_path):
    outcomes = read(tmp_path / "a.jsonl.gz", gzip.compress(line("春")) + b"stray")
    assert outcomes == ["春", DeadLetterReason.DAMAGED_FILE]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_that_was_read_has_the_fingerprint_of_its_bytes(tmp_path, name):
    content = line("春") + line("秋")
    packed = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(packed)
    reader = RecordReader(InputFile(path=tmp_path / name, source="news"))
    assert len(list(reader)) == 2
    assert reader.fingerprint() == {
        "source": "news",
        "bytes": len(packed),
        "decompressed_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_an_empty_file_holds_nothing(tmp_path):
    for name in ("a.jsonl", "a.txt", "a.jsonl.gz"):
        assert read(tmp_path / name, b"") == []


def test_inputs_are_listed_by_source_and_name(tmp_path):
    for name in (
        "news/b.jsonl",
        "news/a.jsonl.gz",
        "books/c.txt",
        "books/SOURCE.json",
        ".git/x.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [one.name for one in list_inputs(str(tmp_path), {})]
    assert names == ["books/c.txt", "news/a.jsonl.gz", "news/b.jsonl"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no corpus at .*/raw: give a folder laid out as RAW_DIR/<source>/"),
        ([], "holds no source folders"),
        (["loose.jsonl"], "holds no source folders"),
        (["News-2024/a.jsonl"], "source 'News-2024': rename it"),
        (["news/a.csv"], "news holds no file that can be read"),
    ],
)
def test_a_corpus_without_the_layout_is_refused(tmp_path, files, message):
    root = tmp_path / "raw"
    for name in files or []:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    if files == []:
        root.mkdir()
    with pytest.raises(InputError, match=message):
        list_inputs(str(root), {})


# Other containers.


def packed(end: str, content: bytes) -> bytes:
    """The content as the end of a file's name says."""
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
    return pack.get(end, bytes)(content)


@pytest.mark.parametrize("end", ["", ".gz", ".xz", ".zst"])
def test_what_is_packed_in_any_way_is_read_the_same(tmp_path, end):
    content = b"".join(line(f"第{number}回") for number in range(3000))
    outcomes = read(tmp_path / f"a.jsonl{end}", packed(end, content))
    assert outcomes == [f"第{number}回" for number in range(3000)]


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_a_cut_archive_ends_in_one_dead_letter(tmp_path, end):
    content = b"".join(line(f"{number} " + random_text(number)) for number in range(3000))
    archive = packed(end, content)
    *whole, last = read(tmp_path / f"a.jsonl{end}", archive[: len(archive) // 2])
    assert last is DeadLetterReason.DAMAGED_FILE
    assert whole == [json.loads(one)["text"] for one in content.splitlines()[: len(whole)]]


def random_text(seed: int) -> str:
    return "".join(map(chr, random.Random(seed).choices(range(0x4E00, 0x9FA5), k=200)))


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_a_bomb_is_left_where_it_gets_out_of_hand(tmp_path, end, monkeypatch):
    monkeypatch.setattr(raw_bytes, "_ALWAYS_READ", 4 << 20)
    content = line("春") + b"x" * (64 << 20)
    path = tmp_path / f"a.jsonl{end}"
    path.write_bytes(packed(end, content))
    reader = RecordReader(InputFile(path=path, source="news"))
    first, bomb = list(reader)
    assert first.outcome.text == "春" and bomb.outcome is DeadLetterReason.DECOMPRESSION_BOMB
    most = max(4 << 20, 200 * path.stat().st_size)
    beyond = 32_768 * raw_bytes._COMPRESSED_BYTES  # what no format exceeds
    assert reader.fingerprint()["decompressed_bytes"] <= most + min(beyond, 64 << 20)


def test_the_encoding_of_a_source_is_strict(tmp_path):
    path = tmp_path / "a.txt"
    for content, outcome in (
        ("春眠不觉晓".encode("gb18030"), "春眠不觉晓"),
        ("春".encode("gb18030") + b"\xff", DeadLetterReason.UNDECODABLE),
    ):
        path.write_bytes(content)
        [record] = RecordReader(InputFile(path=path, source="books", encoding="gb18030"))
        found = record.outcome
        assert (found.text if isinstance(found, Document) else found) == outcome


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


def test_a_parquet_file_that_is_none_is_one_dead_letter(tmp_path):
    assert read_outcomes(tmp_path / "a.parquet", b"PAR1 no") == [DeadLetterReason.DAMAGED_FILE]


def read_outcomes(path: Path, content: bytes) -> list:
    path.write_bytes(content)
    records = list(RecordReader(InputFile(path=path, source="news")))
    return [
        one.outcome.text if isinstance(one.outcome, Document) else one.outcome for one in records
    ]


# WARC.


def conversion(text: str, number: int = 0, length: str | None = None) -> bytes:
    """A record of a WET file."""
    content = text.encode()
    header = (
        "WARC/1.0\r\nWARC-Type: conversion\r\n"
        f"WARC-Target-URI: http://a/{number}\r\nWARC-Date: 2021-10-15T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{number}>\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\n\r\n"
    )
    return header.encode() + content + b"\r\n\r\n"


INFO = conversion("Software-Info: x\r\n").replace(b"conversion", b"warcinfo")
# What a reader that splits by lines would cut or lose.
TRAPS = "WARC/1.0\nContent-Length: 3\n\n　　缩进\r\n\r\n\r\nWARC-Type: x\n末行"


def test_records_of_a_wet_file_are_documents(tmp_path):
    wet = INFO + conversion("春眠不觉晓", 1) + conversion(TRAPS, 2) + conversion("", 3)
    expected = [DropReason.NOT_TEXT, "春眠不觉晓", TRAPS, DropReason.EMPTY]
    assert read(tmp_path / "a.wet", wet) == expected
    members = b"".join(map(gzip.compress, (INFO, wet[len(INFO) :])))
    assert read(tmp_path / "a.warc.wet.gz", members) == expected
    [_, record, *_] = RecordReader(InputFile(path=tmp_path / "a.wet", source="news"))
    assert (record.outcome.url, record.outcome.timestamp) == ("http://a/1", "2021-10-15T00:00:00Z")


@pytest.mark.parametrize(
    "bad",
    [
        conversion("春眠", 1, length="60"),  # one digit too many: reaches into the next record
        conversion("春眠", 1, length="5"),
        conversion("春眠", 1, length="-6"),
        conversion("春眠", 1, length="six"),
        conversion("春眠", 1, length=""),
        conversion("春眠", 1) + b"37 stray bytes, that nobody asked for",
        b"<html>",
    ],
)
def test_where_bytes_do_not_reconcile_the_rest_is_a_dead_letter(tmp_path, bad):
    outcomes = read(tmp_path / "a.wet", conversion("前") + bad + conversion("后"))
    assert outcomes[0] == "前" and outcomes[-1] is DeadLetterReason.NOT_RECONCILED
    assert "后" not in outcomes and len(outcomes) <= 3


def test_a_wet_file_that_is_cut_ends_in_a_dead_letter(tmp_path):
    wet = INFO + conversion("春", 1) + conversion("眠", 2)
    begins = [0, len(INFO), len(INFO) + len(conversion("春", 1)), len(wet)]
    for end in range(1, len(wet)):
        whole = sum(begin <= end for begin in begins[1:])
        outcomes = read(tmp_path / "a.wet", wet[:end])
        assert len(outcomes) == whole + (end not in begins)
        if end not in begins:
            assert outcomes[-1] is DeadLetterReason.NOT_RECONCILED
    *_, last = read(tmp_path / "b.wet.gz", gzip.compress(wet)[:-12])
    assert last is DeadLetterReason.DAMAGED_FILE


def test_a_record_beyond_the_cap_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(raw_bytes, "_CHUNK_BYTES", 64)
    wet = conversion("春") + conversion("x" * 5000) + conversion("秋")
    assert read(tmp_path / "a.wet", wet) == ["春", DeadLetterReason.TOO_LONG, "秋"]


def test_json_that_contradicts_itself_or_counts_beyond_numbers_is_refused(tmp_path):
    for bad in (b'{"text": "x", "text": "y"}\n', b'{"text": "x", "n": NaN}\n'):
        assert read(tmp_path / "a.jsonl", bad) == [DeadLetterReason.NOT_JSON]


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_what_follows_a_stream_and_is_none_is_damage_and_loses_nothing_before(tmp_path, end):
    good = line("天下大势")
    for garbage in (b"garbage", packed(end, good)[:2] + b"\xff" * 40):
        found = read(tmp_path / f"a.jsonl{end}", packed(end, good) + garbage)
        assert found == ["天下大势", DeadLetterReason.DAMAGED_FILE]


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_streams_one_after_the_other_and_padding_are_one_file(tmp_path, end):
    parts = [packed(end, line(text)) for text in ("天下", "大势")]
    found = read(tmp_path / f"a.jsonl{end}", parts[0] + parts[1] + b"\0" * 8)
    assert found == ["天下", "大势"]


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
    assert "2021-10-01" in outcomes[1].timestamp


def test_a_parquet_row_beyond_the_cap_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 20)
    pq.write_table(pa.table({"text": ["天下", "长" * 50]}), tmp_path / "a.parquet")
    reader = RecordReader(InputFile(path=tmp_path / "a.parquet", source="s"))
    assert [one.failure for one in reader] == [None, DeadLetterReason.TOO_LONG]


def test_a_field_too_deep_to_write_is_no_json(tmp_path):
    deep = b'{"text": "\xe5\xa5\xbd", "id": ' + b"[" * 985 + b"]" * 985 + b"}\n"
    found = read(tmp_path / "a.jsonl", deep)
    assert found in (["好"], [DeadLetterReason.NOT_JSON])  # as deep as this Python goes


def test_files_that_nobody_reads_are_told(tmp_path, capsys):
    (tmp_path / "news").mkdir()
    for name in ("a.jsonl", "b.csv", "c.jsonl.bz2"):
        (tmp_path / "news" / name).write_text("{}")
    assert len(list_inputs(str(tmp_path), {})) == 1
    assert "news: not read: b.csv, c.jsonl.bz2; RAW_DIR" in capsys.readouterr().err
