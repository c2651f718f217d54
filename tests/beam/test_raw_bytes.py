import gzip
import json
import zlib

import pytest
import zstandard

from beam_pipelines import raw_bytes
from beam_pipelines.document import DeadLetterReason
from beam_pipelines.read_sources import InputFile, RecordReader
from tests.beam.raw_files import line, packed, random_text, read


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


def checksum_place(end: str, archive: bytes) -> int:
    """Where the checksum of a stream is, from its end."""
    index = 4 * int.from_bytes(archive[-8:-4], "little") + 4  # of xz, which 12 bytes follow
    return {".gz": -8, ".xz": -12 - index - 8, ".zst": -4}[end]


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_what_a_checksum_refutes_is_not_read(tmp_path, end):
    archive = packed(end, b"".join(line(random_text(number)) for number in range(400)))
    middle = [len(archive) * tenth // 10 for tenth in range(1, 10)]
    for at in (*middle, len(archive) + checksum_place(end, archive)):
        flipped = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
        assert read(tmp_path / f"a.jsonl{end}", flipped) == [DeadLetterReason.DAMAGED_FILE]


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_streams_before_one_that_is_refuted_are_read(tmp_path, end):
    good, bad = packed(end, line("天下")), bytearray(packed(end, line("大势")))
    bad[checksum_place(end, bad)] ^= 1
    found = read(tmp_path / f"a.jsonl{end}", good + bytes(bad) + good)
    assert found == ["天下", DeadLetterReason.DAMAGED_FILE]


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


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_what_follows_a_stream_and_is_none_is_damage_and_loses_nothing_before(tmp_path, end):
    good = line("天下大势")
    for garbage in (b"garbage", packed(end, good)[:2] + b"\xff" * 40):
        found = read(tmp_path / f"a.jsonl{end}", packed(end, good) + garbage)
        assert found == ["天下大势", DeadLetterReason.DAMAGED_FILE]


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
def test_streams_one_after_the_other_and_padding_are_one_file(tmp_path, end):
    parts = [packed(end, line(text)) for text in ("天下", "大势")]
    for padding in (8, 5000):  # more than is read at a time
        content = parts[0] + b"\0" * padding + parts[1] + b"\0" * padding
        assert read(tmp_path / f"a.jsonl{end}", content) == ["天下", "大势"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.wet", "a.warc"])
@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("content", [b"", b"\0" * 3000, b"<Error>SlowDown</Error>"])
def test_a_file_that_is_not_what_its_name_says_is_damaged(tmp_path, name, end, content):
    assert read(tmp_path / (name + end), content) == [DeadLetterReason.DAMAGED_FILE]
    cut = packed(end, line("春眠不觉晓"))[:15]
    assert read(tmp_path / (name + end), cut) == [DeadLetterReason.DAMAGED_FILE]


def test_zstd_may_look_back_two_gibibytes(tmp_path):
    settings = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    content = compressor.compress(line("春")) + compressor.flush()
    assert read(tmp_path / "a.jsonl.zst", content) == ["春"]


def test_frames_that_zstd_skips_are_not_text(tmp_path):
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    content = skipped + zstandard.compress(line("春")) + skipped + zstandard.compress(line("秋"))
    assert read(tmp_path / "a.jsonl.zst", content) == ["春", "秋"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    (tmp_path / "a.jsonl").symlink_to("/proc/self/mem")  # of which no byte can be read
    with pytest.raises(OSError, match=r"Input/output error: '.*/a\.jsonl'"):
        list(RecordReader(InputFile(path=tmp_path / "a.jsonl", source="news")))
