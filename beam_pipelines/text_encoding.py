"""How the bytes of a raw file become text: its encoding, where its lines end, its byte order mark.

Decodes strictly, and GBK as browsers do. Knows nothing of files or records.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

from welm_jax.failures import InputError

BOM = "\ufeff"
# What a source may call the encoding that browsers read as GB18030.
_CHINESE = {"gb2312", "gbk", "gb18030"}
# Codecs that Python counts as text encodings, but of which no line can be read by itself.
_ESCAPES = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "charmap"}
_ESCAPES |= {"iso2022_kr"}  # whose head alone says how all lines are to be read
_PROBE = '{"text": "\\u4e00"}\n'

# Private-use code points that Python's gb18030 gives, and what browsers and GB 18030-2022 give.
_PRIVATE = re.compile("[\ue5e5\ue78d-\ue796\ue7c7\ue816-\ue864]")
_AS_BROWSERS = {
    **dict(zip(range(0xE78D, 0xE797), "︐︒︑︓︔︕︖︗︘︙", strict=True)),
    **dict(zip((0xE81E, 0xE826, 0xE82B, 0xE82C), "\u9fb4\u9fb5\u9fb6\u9fb7", strict=True)),
    **dict(zip((0xE832, 0xE843, 0xE854, 0xE864), "\u9fb8\u9fb9\u9fba\u9fbb", strict=True)),
    **dict(zip((0xE816, 0xE817, 0xE818), "\U00020087\U00020089\U000200cc", strict=True)),
    **dict(zip((0xE831, 0xE83B, 0xE855), "\U000215d7\U0002298f\U000241fe", strict=True)),
    0xE5E5: "\u3000",  # bytes A3 A0, by which many novels indent
    0xE7C7: "\u1e3f",
}


def require_encoding(name: str) -> None:
    """Refuses a name under which Python has no encoding of text files.

    Raises:
      InputError: names it.
    """
    try:
        known = codecs.lookup(name).name
        _PROBE.encode(known)
        is_text = known not in _ESCAPES
    except (LookupError, TypeError, ValueError):
        is_text = False
    if not is_text:
        raise InputError(
            f"encodings: {name!r} is not an encoding of text; "
            "use a name such as gb18030, big5 or utf-16"
        )


class TextEncoding:
    """Decodes one file, or one record of a WET or WARC file.

    Attributes:
      newline: the bytes at which a line ends.
    """

    def __init__(self, name: str, head: bytes):
        """Settles the encoding; a mark in `head`, the first bytes, decides its byte order."""
        codec = codecs.lookup(name).name.removesuffix("-sig")
        family = codec.removesuffix("-le").removesuffix("-be")
        if family in ("utf-16", "utf-32"):
            little, big = f"{family}-le", f"{family}-be"
            if head.startswith(BOM.encode(big)):
                codec = big
            elif codec == family or head.startswith(BOM.encode(little)):
                codec = little
        self._codec = "gb18030" if codec in _CHINESE else codec
        self.newline = "\n".encode(self._codec)

    def decode(self, data: bytes) -> str:
        """The text of these bytes, without a byte order mark at its head.

        Raises:
          UnicodeDecodeError: they are not in this encoding.
        """
        if self._codec != "gb18030":
            return data.decode(self._codec).removeprefix(BOM)
        text = data.decode("gb18030", "as_browsers").removeprefix(BOM)
        return text.translate(_AS_BROWSERS) if _PRIVATE.search(text) else text

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
        """Cuts chunks where lines end: (piece, whether its line ends with it).

        Cut are bytes, not text, so that a line which cannot be decoded costs only itself. A newline
        of two or four bytes counts only in step with the file's code units.
        """
        width, rest = len(self.newline), b""
        for chunk in chunks:
            whole = rest + chunk if rest else chunk
            size = len(whole) - len(whole) % width
            start = found = 0
            while (found := whole.find(self.newline, found, size)) >= 0:
                if found % width:
                    found += 1
                    continue
                found += width
                yield whole[start:found], True
                start = found
            if start < size:
                yield whole[start:size], False
            rest = whole[size:]
        if rest:
            yield rest, False


def _euro(error: UnicodeError) -> tuple[str, int]:
    """Reads the single byte 80, the euro sign of code page 936; all else stays an error."""
    if isinstance(error, UnicodeDecodeError) and error.object[error.start] == 0x80:
        return "\u20ac", error.start + 1
    raise error


codecs.register_error("as_browsers", _euro)
