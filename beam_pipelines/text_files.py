"""Text and JSON files that are given beside the corpus: word lists, labelled and evaluation text.

What cannot be read is an error that names the file and the line. Knows nothing of what they hold.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from beam_pipelines.raw_bytes import RawBytes
from welm_jax.failures import InputError

_BOM = b"\xef\xbb\xbf"
_NOT_BLANK = re.compile(r"[^ \t\r\n]")  # what JSON calls blank


def read_text(path: Path) -> str:
    """Returns the text of a UTF-8 file, plain, .gz, .xz or .zst, without its byte order mark.

    Raises:
      InputError: it is damaged, or not UTF-8.
    """
    raw = RawBytes(path)
    data = b"".join(raw)
    if raw.damage:
        raise InputError(f"{path} cannot be decompressed ({raw.damage}); fetch it again")
    try:
        return data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8; convert the file") from error


def json_values(
    path: Path, object_of: Callable[[list[tuple[str, Any]]], Any] = dict
) -> Iterator[tuple[int, Any]]:
    """Yields the JSON values of a file, however they are broken into lines, behind their lines.

    Args:
      path: the file: a value, or one after another, as in JSONL.
      object_of: makes a value of the pairs of an object.

    Raises:
      InputError: the file cannot be read, or is not JSON.
    """
    text = read_text(path)
    # A number may have more digits than Python reads, and no number is text.
    decoder = json.JSONDecoder(object_pairs_hook=object_of, parse_int=len, parse_float=len)
    line, end = 1, 0
    while value := _NOT_BLANK.search(text, end):
        line, begin = line + text.count("\n", end, value.start()), value.start()
        try:
            found, end = decoder.raw_decode(text, begin)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
        except RecursionError as error:
            raise InputError(f"{path}, line {line}: JSON too deep to read") from error
        yield line, found
        line += text.count("\n", begin, end)
