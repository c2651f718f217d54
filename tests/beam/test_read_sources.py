import gzip
import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import raw_bytes, read_sources
from beam_pipelines.document import DeadLetterReason, DropReason
from beam_pipelines.read_sources import LAYOUT, InputFile, RecordReader, list_inputs
from tests.beam.raw_files import conversion, line, read
from welm_jax.failures import InputError


def test_text_is_kept_exactly(tmp_path):
    text = "　　第一\ufeff回\r\n\t春眠\u2028不\x85觉\x0b晓  \n"
    assert read(tmp_path / "a.jsonl", line(text) + line("二")) == [text, "二"]
    assert read(tmp_path / "a.txt", text.encode()) == [text]


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff"])
def test_a_byte_order_mark_at_the_head_of_a_text_is_not_text(tmp_path, mark):
    assert read(tmp_path / "a.jsonl", line(mark + "春") + line(mark)) == ["春", DropReason.EMPTY]
    assert read(tmp_path / "a.txt", (mark + "春").encode()) == ["春"]
    assert read(tmp_path / "a.wet", conversion(mark + "春")) == ["春"]
    pq.write_table(pa.table({"text": [mark + "春"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes()) == ["春"]


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
    for name in ("a.jsonl", "a.txt", "a.wet"):
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
        (["News-2024/a.jsonl"], "source 'News-2024': rename the folder"),
        ([f"{'n' * 101}/a.jsonl"], "source 'n+': rename the folder; .* of at most 100 characters"),
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


@pytest.mark.parametrize("name", ["text", "id", "url", "timestamp"])
def test_a_field_that_is_read_must_not_stand_twice(tmp_path, name):
    bad = line("春").rstrip(b"}\n") + f', "{name}": "x", "{name}": "y"}}\n'.encode()
    assert read(tmp_path / "a.jsonl", bad) == [DeadLetterReason.NOT_JSON]


@pytest.mark.parametrize(
    "field",
    [
        '"score": NaN',
        '"scores": [Infinity, {"low": -Infinity}]',
        '"meta": {"lang": "zh", "lang": "en"}, "meta": 1',
        '"count": ' + "9" * 5000,
        '"title": "\\ud83d"',
    ],
)
def test_a_field_that_is_not_read_does_no_harm(tmp_path, field):
    content = line("春").rstrip(b"}\n") + f", {field}}}\n".encode()
    assert read(tmp_path / "a.jsonl", content) == ["春"]


def test_a_field_that_is_not_read_may_be_nested_deeply_but_not_without_end(tmp_path):
    for depth, found in ((300, "春"), (100_000, DeadLetterReason.NOT_JSON)):
        content = line("春").rstrip(b"}\n") + b', "meta": ' + b"[" * depth + b"]" * depth + b"}\n"
        assert read(tmp_path / "a.jsonl", content + line("秋")) == [found, "秋"]


def test_a_text_that_is_not_a_number_is_no_text(tmp_path):
    assert read(tmp_path / "a.jsonl", b'{"text": NaN}\n') == [DeadLetterReason.NO_TEXT]


def test_a_field_too_deep_to_write_is_no_json(tmp_path):
    deep = b'{"text": "\xe5\xa5\xbd", "id": ' + b"[" * 985 + b"]" * 985 + b"}\n"
    found = read(tmp_path / "a.jsonl", deep)
    assert found in (["好"], [DeadLetterReason.NOT_JSON])  # as deep as this Python goes


def test_files_may_be_named_on_two_lines_and_messages_are_one(tmp_path, capsys):
    (tmp_path / "news").mkdir()
    for name in ("a\nb.jsonl", "a\nb.csv"):
        (tmp_path / "news" / name).write_bytes(b"")
    assert [one.path.name for one in list_inputs(str(tmp_path), {})] == ["a\nb.jsonl"]
    assert [*capsys.readouterr().err.splitlines()] == [
        f"{tmp_path}/news: not read: 'a\\nb.csv'; {LAYOUT}"
    ]


def test_files_that_nobody_reads_are_named(tmp_path, capsys):
    (tmp_path / "news").mkdir()
    for name in ("a.jsonl", "b.csv", "c.jsonl.bz2"):
        (tmp_path / "news" / name).write_text("{}")
    assert len(list_inputs(str(tmp_path), {})) == 1
    assert "news: not read: b.csv, c.jsonl.bz2; RAW_DIR" in capsys.readouterr().err
