"""The bytes of a raw file, decompressed as far as they go: damage ends them, and is told.

The common readers end a half-cut file without a word, and a small file may decompress to more than
any disk holds. Knows nothing of records.
"""

import gzip
import hashlib
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

from beam_pipelines.document import DeadLetterReason

COMPRESSED = (".gz", ".xz", ".zst")
_CHUNK_BYTES = 1 << 20
_ALWAYS_READ = 256 << 20  # decompressed bytes of any file, however small
_MOST_RATIO = 200  # decompressed to compressed bytes beyond that; text does not reach 50


class RawBytes:
    """A file's decompressed bytes, to be iterated over once, in chunks.

    Attributes:
      bytes_read: how many there were so far.
      damage: why they ended before their end, once they did.
    """

    def __init__(self, path: Path):
        self._path = path
        self._sha256 = hashlib.sha256()
        self.bytes_read = 0
        self.damage: DeadLetterReason | None = None

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes so far."""
        return self._sha256.hexdigest()

    def count(self, data: bytes) -> None:
        """Takes bytes into account that were read in another way."""
        self.bytes_read += len(data)
        self._sha256.update(data)

    def __iter__(self) -> Iterator[bytes]:
        most = max(_ALWAYS_READ, _MOST_RATIO * self._path.stat().st_size)
        try:
            with _opened(self._path) as stream:
                # read() would lose what it had decompressed when it meets the damage.
                read = getattr(stream, "read1", stream.read)
                while chunk := read(_CHUNK_BYTES):
                    self.count(chunk)
                    yield chunk
                    if self.bytes_read > most:
                        self.damage = DeadLetterReason.DECOMPRESSION_BOMB
                        return
        except (EOFError, zlib.error, lzma.LZMAError):
            self.damage = DeadLetterReason.DAMAGED_FILE
        except OSError as error:
            if error.errno:  # the disk's, not the decompressor's
                raise
            self.damage = DeadLetterReason.DAMAGED_FILE


def _opened(path: Path):
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    if path.suffix == ".zst":
        import pyarrow  # its stream, unlike zstandard's, tells an end from a cut

        return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return path.open("rb")
