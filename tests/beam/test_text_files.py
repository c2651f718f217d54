import gzip
import json
import lzma

import pytest
import zstandard

from beam_pipelines.text_files import json_values, read_text
from welm_jax.failures import InputError

TEXT = "\ufeff一行\r\n二行"


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_a_text_is_decompressed_and_loses_only_its_mark(tmp_path, ending, compress):
    file = tmp_path / f"a.txt{ending}"
    file.write_bytes(compress(TEXT.encode()))
    assert read_text(file) == TEXT[1:]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "一\n二\n".encode() + b"\xff\n", "a.txt, line 3: not UTF-8; convert the file"),
        ("a.txt", "好".encode("utf-16"), "a.txt, line 1: not UTF-8"),
        (
            "a.txt.gz",
            gzip.compress(b"x" * 99, mtime=0)[:-9],
            "cannot be decompressed .damaged_file",
        ),
        ("a.txt.gz", b"plain", "cannot be decompressed .damaged_file"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_text(tmp_path / name)


VALUES = [{"a": "一\u2028二"}, [1, {"b": None}], "三", {}]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\n".join(map(json.dumps, VALUES)), [1, 2, 3, 4]),
        ("\ufeff\n" + "\r\n\r\n".join(map(json.dumps, VALUES)) + "\n", [2, 4, 6, 8]),
        ("\n".join(json.dumps(one, indent=1) for one in VALUES), [1, 4, 10, 11]),
        ("\n".join(json.dumps(one, ensure_ascii=False) for one in VALUES), [1, 2, 3, 4]),
    ],
)
def test_values_are_read_however_they_are_broken_into_lines(tmp_path, text, lines):
    (tmp_path / "a.json").write_text(text, encoding="utf-8", newline="")
    assert [*json_values(tmp_path / "a.json")] == [*zip(lines, VALUES, strict=True)]


def test_numbers_of_any_length_constants_and_surrogates_do_no_harm(tmp_path):
    text = f'{{"n": {"9" * 5000}, "x": NaN, "y": -1e999, "t": "\\ud83d"}}'
    (tmp_path / "a.jsonl").write_text(text)
    [(line, value)] = json_values(tmp_path / "a.jsonl")
    assert (line, value["t"]) == (1, "\ud83d") and not isinstance(value["n"], str)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{no}\n', "a.jsonl, line 3: not JSON .Expecting property name"),
        ('{"a": 1}\n{"b": "cut', "a.jsonl, line 2: not JSON .Unterminated string"),
        ('{"a": 1},\n{"b": 2}', "a.jsonl, line 1: not JSON"),
        ("1\n" + "[" * 100_000, "a.jsonl, line 2: JSON too deep to read"),
    ],
)
def test_what_is_not_json_is_refused_by_its_line(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        list(json_values(tmp_path / "a.jsonl"))


def test_a_file_of_blanks_has_no_values(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n \t\r\n")
    assert [*json_values(tmp_path / "a.jsonl")] == []
