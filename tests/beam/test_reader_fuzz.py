"""Files damaged at random: a reader never raises on its content, and accounts for every byte."""

import functools
import gzip
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.document import WHOLE_FILE, DeadLetterReason, Document, DropReason
from tests.beam.raw_files import conversion, line, packed, random_text, read

TEXTS = [f"第{number}回 {random_text(number)}" for number in range(40)]
WARC_TYPES = (b"conversion", b"warcinfo", b"response", b"metadata")


def jsonl() -> bytes:
    return b"".join(line(text, url=f"http://a/{at}", id=at) for at, text in enumerate(TEXTS))


def wet() -> bytes:
    return b"".join(conversion(text, at) for at, text in enumerate(TEXTS))


def warc() -> bytes:
    """Records of several types."""
    records = [conversion(text, at) for at, text in enumerate(TEXTS)]
    return b"".join(
        one.replace(b"conversion", WARC_TYPES[at % 4]) for at, one in enumerate(records)
    )


def wet_members() -> bytes:
    return b"".join(gzip.compress(conversion(text, at)) for at, text in enumerate(TEXTS))


def parquet(**settings) -> bytes:
    file = io.BytesIO()
    times = pa.array(range(len(TEXTS)), pa.timestamp("us"))
    table = pa.table({"text": TEXTS, "id": range(len(TEXTS)), "timestamp": times})
    pq.write_table(table, file, row_group_size=16, **settings)
    return file.getvalue()


MEMBERS = "members.wet.gz"
CHECKSUMMED = (".gz", ".xz", ".zst", "b.parquet")
PLAIN = {"a.jsonl": jsonl, "a.txt": lambda: "\n".join(TEXTS).encode(), "a.wet": wet, "a.warc": warc}
FILES = {
    **{
        name + end: (make, end)
        for name, make in PLAIN.items()
        for end in ("", ".gz", ".xz", ".zst")
    },
    MEMBERS: (wet_members, ""),
    "a.parquet": (parquet, ""),
    "b.parquet": (lambda: parquet(compression="zstd", write_page_checksum=True), ""),
}


def cut(data: bytes, drawn: random.Random) -> bytes:
    return data[: drawn.randrange(len(data))]


def flip(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << drawn.randrange(8)]) + data[at + 1 :]


def overwrite(data: bytes, drawn: random.Random) -> bytes:
    at, count = drawn.randrange(len(data)), drawn.randrange(1, 200)
    return data[:at] + drawn.choice((b"\0" * count, drawn.randbytes(count))) + data[at + count :]


def insert(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data))
    junk = (b"\r\n", b"\n", b"WARC/1.0\r\n", b"\xef\xbb\xbf", b'{"text": ', drawn.randbytes(50))
    return data[:at] + drawn.choice(junk) + data[at:]


def remove(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data))
    return data[:at] + data[at + drawn.randrange(1, 200) :]


def repeat(data: bytes, drawn: random.Random) -> bytes:
    at, end = sorted(drawn.randrange(len(data)) for _ in range(2))
    return data[:end] + data[at:]


DAMAGES = (cut, flip, overwrite, insert, remove, repeat)


@functools.cache
def content_of(name: str) -> bytes:
    make, end = FILES[name]
    return packed(end, make())


def check(tmp_path, name: str, damage, seeds: range) -> None:
    content = content_of(name)
    whole = read(tmp_path / name, content)
    for seed in seeds:
        found = read(tmp_path / name, damage(content, random.Random(seed)))  # none of it is lost
        kinds = (Document, str, DropReason, DeadLetterReason)
        assert all(isinstance(one, kinds) for one in found), seed
        # 1. What ends a file ends it once, behind all that could be read.
        assert not set(found[:-1]) & {*WHOLE_FILE}, seed
        is_ended = bool(found) and found[-1] in WHOLE_FILE
        # 2. Of a file that is cut all that was there is read, and that it is cut is noticed.
        if damage is cut and name not in PLAIN:
            sound = found[:-1] if is_ended else found
            assert sound == whole[: len(sound)], seed
            assert is_ended or name == MEMBERS, seed  # which may be cut between two members
        # 3. Nothing vanishes in silence.
        elif name not in PLAIN:
            assert is_ended or len(found) >= len(whole), seed
        # 4. No text passes that a checksum refutes.
        if name.endswith(CHECKSUMMED):
            assert {one for one in found if type(one) is str} <= {*whole}, seed


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [name for name in FILES if name != "b.parquet"])
def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path, name, damage):
    check(tmp_path, name, damage, range(1))


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_300_damaged_files_are_read_as_far_as_they_go(tmp_path, name, damage):
    check(tmp_path, name, damage, range(300))
