import gzip

import pytest

from beam_pipelines import raw_bytes, read_sources, warc
from beam_pipelines.document import DeadLetterReason, DropReason
from beam_pipelines.read_sources import InputFile, RecordReader
from tests.beam.raw_files import conversion, random_text, read

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


@pytest.mark.parametrize("version", [b"0.17", b"0.18", b"1.1"])
def test_records_of_any_version_are_read(tmp_path, version):
    good, bad = conversion("春"), conversion("秋", length="60")
    wet = (good + bad + good).replace(b"WARC/1.0", b"WARC/" + version)
    assert read(tmp_path / "a.wet", wet) == ["春", DeadLetterReason.NOT_RECONCILED, "春"]


@pytest.mark.parametrize(
    "bad",
    [
        conversion("春眠", 1, length="60"),  # reaches into the next record
        conversion("春眠", 1, length="600000"),  # and beyond the end of the file
        conversion("春眠", 1, length="5"),
        conversion("春眠", 1, length="-6"),
        conversion("春眠", 1, length="six"),
        conversion("春眠", 1, length=""),
        conversion("春眠", 1).replace(b"\r\n\r\n", b"\r\n\r\n\r\n", 1),  # a line too many
        conversion("春眠", 1)[:-9],  # cut short
        conversion(TRAPS, 1, length="9"),
        b"<html>",
        b"37 stray bytes, that nobody asked for\n",
    ],
)
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_what_does_not_reconcile_costs_no_sound_record(tmp_path, bad, line_end):
    """Reading goes on where the next record begins; only the bytes between are lost."""
    before, after = conversion("前"), conversion("后") + conversion("末", 2)
    wet = (before + bad + after).replace(b"\r\n", line_end)
    expected = ["前", DeadLetterReason.NOT_RECONCILED, "后", "末"]
    assert read(tmp_path / "a.wet", wet) == expected
    [_, lost, *_] = RecordReader(InputFile(path=tmp_path / "a.wet", source="news"))
    spans = len(before.replace(b"\r\n", line_end)), len(bad.replace(b"\r\n", line_end))
    assert (lost.offset, lost.length) == spans
    members = b"".join(gzip.compress(one) for one in (before, bad, after))
    members = members if line_end == b"\r\n" else gzip.compress(wet)
    assert read(tmp_path / "b.wet.gz", members) == expected


@pytest.mark.parametrize(
    "bad",
    [
        b"WARC/1.0\nWARC-Type: x\n" * 2000,  # beginnings without an end
        conversion("x" * 99, length="999999") * 200,  # lengths that reach over all that follow
    ],
)
def test_many_bad_records_are_read_once_each(tmp_path, monkeypatch, bad):
    lines, plain = [], warc._Stream.line
    monkeypatch.setattr(warc._Stream, "line", lambda self: lines.append(1) or plain(self))
    wet = conversion("前") + bad + conversion("后")
    assert read(tmp_path / "a.wet", wet) == ["前", DeadLetterReason.NOT_RECONCILED, "后"]
    assert len(lines) < 2 * wet.count(b"\n")


@pytest.mark.parametrize("damage", [b"\x55\xaa\x55", b"\xff" * 80, b""])
def test_damage_in_a_gzip_member_costs_no_other_member(tmp_path, damage):
    """Of the damaged one nobody knows how much is missing, so the file counts as damaged."""
    texts = [random_text(number) for number in range(4)]
    members = [gzip.compress(conversion(text)) for text in texts]
    at = 400  # behind the header, within the text
    members[1] = members[1][:at] + damage + members[1][at + len(damage) + 1 :]
    found = read(tmp_path / "a.warc.wet.gz", b"".join(members))
    assert found == [texts[0], *texts[2:], DeadLetterReason.DAMAGED_FILE]


def test_a_gzip_member_that_its_checksum_refutes_costs_no_other(tmp_path):
    """Wherever it is read in pieces: its texts are sound to the eye."""
    for count in (1, 30):
        bad = bytearray(gzip.compress(b"".join(conversion(random_text(at)) for at in range(count))))
        bad[-8] ^= 1
        members = gzip.compress(conversion("春")) + bytes(bad) + gzip.compress(conversion("秋"))
        found = read(tmp_path / "a.wet.gz", members)
        assert found == ["春", "秋", DeadLetterReason.DAMAGED_FILE]


def test_bytes_after_a_sound_record_do_not_cost_it(tmp_path):
    wet = conversion("春", 1) + b"stray" + conversion("秋", 2)
    assert read(tmp_path / "a.wet", wet) == ["春", DeadLetterReason.NOT_RECONCILED, "秋"]


def test_a_bad_record_beyond_the_cap_costs_no_sound_record(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 1000)
    for chunk in (7, 64, 1 << 20):
        monkeypatch.setattr(raw_bytes, "_CHUNK_BYTES", chunk)
        bad = conversion("x" * 3000, 1, length="999999")
        wet = conversion("春") + bad + conversion("秋") + conversion("冬")
        assert read(tmp_path / "a.wet", wet) == [
            "春",
            DeadLetterReason.NOT_RECONCILED,
            "秋",
            "冬",
        ]


@pytest.mark.parametrize("between", [b"\r\n", b"\n\n\n", b"\r\n" * 5])
def test_any_number_of_blank_lines_ends_a_record(tmp_path, between):
    one, other = (conversion(text).removesuffix(b"\r\n\r\n") for text in ("春", "秋"))
    for end in (between, b""):
        assert read(tmp_path / "a.wet", one + between + other + end) == ["春", "秋"]


@pytest.mark.parametrize("head", [b"\r\n", b"\xef\xbb\xbf\n\n"])
def test_blank_lines_at_the_head_of_a_file_are_no_loss(tmp_path, head):
    assert read(tmp_path / "a.wet", head + conversion("春") + conversion("秋")) == ["春", "秋"]


def test_a_folded_header_goes_on_with_the_last_one(tmp_path):
    wet = conversion("春").replace(b"http://a/0\r\n", b"http://a/\r\n\t0\r\n  1\r\n")
    assert read(tmp_path / "a.wet", wet) == ["春"]
    [record] = RecordReader(InputFile(path=tmp_path / "a.wet", source="news"))
    assert record.outcome.url == "http://a/ 0 1"


def test_only_conversions_to_plain_text_are_text(tmp_path):
    html = conversion("<p>春</p>").replace(b"text/plain", b"text/html")
    utf8 = conversion("夏").replace(b"text/plain", b"Text/Plain; charset=utf-8")
    unsaid = conversion("秋").replace(b"Content-Type: text/plain\r\n", b"")
    found = read(tmp_path / "a.wet", html + utf8 + unsaid)
    assert found == [DropReason.NOT_TEXT, "夏", "秋"]


def test_a_wet_file_that_is_cut_ends_in_a_dead_letter(tmp_path):
    wet = INFO + conversion("春", 1) + conversion("眠", 2)
    ends = [len(INFO), len(INFO) + len(conversion("春", 1)), len(wet)]
    for end in range(1, len(wet)):
        # A record is whole without the blank lines behind it.
        whole = sum(of_record - len(b"\r\n\r\n") <= end for of_record in ends)
        at_end = any(of_record - 4 <= end <= of_record for of_record in ends)
        outcomes = read(tmp_path / "a.wet", wet[:end])
        assert len(outcomes) == whole + (not at_end)
        assert at_end or outcomes[-1] is DeadLetterReason.DAMAGED_FILE
    *_, last = read(tmp_path / "b.wet.gz", gzip.compress(wet)[:-12])
    assert last is DeadLetterReason.DAMAGED_FILE


def test_a_record_beyond_the_cap_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(raw_bytes, "_CHUNK_BYTES", 64)
    wet = conversion("春") + conversion("x" * 5000) + conversion("秋")
    assert read(tmp_path / "a.wet", wet) == ["春", DeadLetterReason.TOO_LONG, "秋"]
