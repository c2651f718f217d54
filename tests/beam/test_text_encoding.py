import pytest

from beam_pipelines import raw_bytes
from beam_pipelines.document import DeadLetterReason, Document
from beam_pipelines.read_sources import InputFile, RecordReader
from beam_pipelines.text_encoding import require_encoding
from tests.beam.raw_files import conversion, line, read
from welm_jax.failures import InputError


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


NAMES = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "gbk", "big5", "cp037")
# 上 is 4E 0A in UTF-16: a newline's byte within a character.
TEXTS = ["上一回", "海上生明月" * 9, "上"]


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_any_encoding_are_records(tmp_path, name, monkeypatch):
    texts = ["abc", "x"] if name == "cp037" else TEXTS
    codec = f"{name}-le" if name in ("utf-16", "utf-32") else name  # a mark of its own has only one
    first, *others = (line(text).decode().encode(codec) for text in texts)
    content = first + "{\n".encode(codec) + b"".join(others)
    for chunk in (1, 7, 1 << 20):
        monkeypatch.setattr(raw_bytes, "_CHUNK_BYTES", chunk)
        found = read(tmp_path / "a.jsonl", content, name)
        assert found == [texts[0], DeadLetterReason.NOT_JSON, *texts[1:]]


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "gb18030"])
def test_a_byte_order_mark_at_the_head_is_not_text(tmp_path, name, mark):
    codec = name.removesuffix("-sig")
    assert read(tmp_path / "a.txt", (mark + "春").encode(codec), name) == ["春"]
    lines = (mark + line("春").decode() + line("秋").decode()).encode(codec)
    assert read(tmp_path / "a.jsonl", lines, name) == ["春", "秋"]
    assert read(tmp_path / "a.wet", mark.encode() + conversion("春")) == ["春"]


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_byte_order_mark_decides_the_byte_order(tmp_path, name, order):
    content = ("\ufeff" + line("上").decode()).encode(f"{name[:6]}-{order}")
    assert read(tmp_path / "a.jsonl", content, name) == ["上"]


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-32"])
def test_a_byte_order_mark_decides_it_for_each_record(tmp_path, name):
    """Of a WET file in UTF-16 that was put together from several."""
    contents = [("\ufeff" + "上").encode(f"{name[:6]}-{order}") for order in ("be", "le", "be")]
    contents.append("上".encode(f"{name[:6]}-le"))
    empty = conversion("", length="LENGTH").removesuffix(b"\r\n\r\n")
    wet = [empty.replace(b"LENGTH", b"%d" % len(one)) + one + b"\r\n\r\n" for one in contents]
    assert read(tmp_path / "a.wet", b"".join(wet), name) == ["上"] * 4


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xa3\xa0\xa3\xa0\xb4\xba", "\u3000\u3000春"),  # how many novels indent
        (b"\x80\xb4\xba", "€春"),  # code page 936
        (b"\xa6\xd9\xa8\xbc", "︐ḿ"),
        (b"\xfe\x59\xfe\xa0\xfe\x51", "\u9fb4\u9fbb\U00020087"),
        (b"\xaa\xa1", "\ue000"),  # a user's own character stays one
    ],
)
@pytest.mark.parametrize("name", ["gb2312", "gbk", "GB18030", "cp936"])
def test_gbk_is_read_as_browsers_do(tmp_path, name, data, text):
    assert read(tmp_path / "a.txt", data, name) == [text]


def test_gbk_with_other_stray_bytes_is_refused(tmp_path):
    for data in (b"\xb4\xba\xff", b"\xb4\xba\x80\xff", b"\xb4"):
        assert read(tmp_path / "a.txt", data, "gbk") == [DeadLetterReason.UNDECODABLE]


@pytest.mark.parametrize("name", NAMES)
def test_encodings_of_text_are_accepted(name):
    assert require_encoding(name) is None


@pytest.mark.parametrize(
    "name",
    ["gbk2", "rot13", "hex", "base64", "undefined", "unicode_escape", "idna", "punycode", ""],
)
def test_an_encoding_that_text_is_not_in_is_refused(name):
    with pytest.raises(InputError, match=f"encodings: '{name}' is not an encoding of text; use a"):
        require_encoding(name)
