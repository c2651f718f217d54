"""Raw files for tests of the readers, and what is read of them."""

import gzip
import json
import lzma
import random
from pathlib import Path

import zstandard

from beam_pipelines.document import Document
from beam_pipelines.read_sources import InputFile, RecordReader


def line(text: str, **fields) -> bytes:
    return json.dumps({"text": text, **fields}, ensure_ascii=False).encode() + b"\n"


def packed(end: str, content: bytes) -> bytes:
    """The content as the end of a file's name says, with a checksum."""
    zstd = zstandard.ZstdCompressor(write_checksum=True).compress
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}
    return pack.get(end, bytes)(content)


def random_text(seed: int) -> str:
    return "".join(map(chr, random.Random(seed).choices(range(0x4E00, 0x9FA5), k=200)))


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


def read(path: Path, content: bytes, encoding: str = "utf-8") -> list:
    """Texts of a file of this content, or why there is none.

    Checks the reader's law: its records are all of the file's bytes, in order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    reader = RecordReader(InputFile(path=path, source="news", encoding=encoding))
    records = list(reader)
    ends = [record.offset + record.length for record in records]
    assert [0, *ends][: len(records)] == [record.offset for record in records]
    assert sum(record.length for record in records) == reader.fingerprint()["decompressed_bytes"]
    if path.suffix not in (".gz", ".xz", ".zst", ".parquet"):
        assert reader.fingerprint()["decompressed_bytes"] == len(content)
    return [
        one.outcome.text if isinstance(one.outcome, Document) else one.outcome for one in records
    ]
