import gzip
import hashlib
import json
import zlib
from pathlib import Path

import pytest

from beam_pipelines import read_sources
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
    assert sum(record.length for record in records) == reader.bytes_read
    if path.suffix != ".gz":
        assert reader.bytes_read == len(content)
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
        (b'{"text": "\xff\xfe"}\n', DeadLetterReason.NOT_UTF8),
        ('{"text": "春"}\n'.encode("gb18030"), DeadLetterReason.NOT_UTF8),
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
    assert read(tmp_path / "a.txt", "春眠".encode("gb18030")) == [DeadLetterReason.NOT_UTF8]


def test_a_line_beyond_the_cap_is_skipped_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(read_sources, "_CHUNK_BYTES", 64)
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
    assert outcomes == [*whole, DeadLetterReason.DAMAGED_GZIP]


def test_a_damaged_plain_text_archive_gives_no_half_document(tmp_path):
    packed = gzip.compress("话说天下大势".encode() * 50000)
    assert read(tmp_path / "a.txt.gz", packed[:-20]) == [DeadLetterReason.DAMAGED_GZIP]
    assert read(tmp_path / "b.txt.gz", b"<html>not found</html>") == [DeadLetterReason.DAMAGED_GZIP]


def test_bytes_after_a_gzip_member_are_not_lost_in_silence(tmp_path):
    outcomes = read(tmp_path / "a.jsonl.gz", gzip.compress(line("春")) + b"stray")
    assert outcomes == ["春", DeadLetterReason.DAMAGED_GZIP]


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
    names = [one.name for one in list_inputs(str(tmp_path))]
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
        list_inputs(str(root))
