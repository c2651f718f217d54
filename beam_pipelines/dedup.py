"""Exact and near duplicates, on small keys alone: no text is needed once they are made.

Exact: md5 over the text without blanks and punctuation, as the paper. Near: texts that share a band
of their signatures are candidates, and their sketches decide. Of two duplicates the one of lower
rank stays: the longer, then the one of smaller id, so the outcome depends on no order of arrival;
the other is dropped if and only if one of its verified near duplicates has a lower rank. Knows
nothing of files beyond a place (file, row) per key, nor of how a signature is made.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from beam_pipelines.characters import folded, owners
from beam_pipelines.near_signatures import Signature

MIN_NEAR_CHARACTERS = 60  # folded; shorter texts share too many n-grams by chance
_MAX_RIVALS = 64  # of one bucket, so that a page found a million times costs no million squared

RANK = [("characters", np.int64), ("doc_id", np.uint64, 2)]
BAND = np.dtype([*RANK, ("band", np.uint64)])


def key_type(signature: Signature) -> np.dtype:
    """The record of a document's keys."""
    return np.dtype(
        [
            *RANK,
            ("file", np.int32),
            ("row", np.int32),
            ("folded", np.int64),
            ("exact", np.uint64, 2),
            ("bands", np.uint64, signature.bands),
            ("sketch", np.uint16, signature.sketch),
        ]
    )


class Lost(NamedTuple):
    """A document that a duplicate displaces.

    Attributes:
      file: the number of its file.
      row: its place there.
      displaced_by: doc_id of the one that stays in its place, or was itself displaced.
    """

    file: int
    row: int
    displaced_by: str


def make_keys(
    texts: Sequence[str], doc_ids: Sequence[str], file: int, row: int, signature: Signature
) -> np.ndarray:
    """Makes the keys of documents that lie in consecutive rows of one file.

    Args:
      texts: their texts.
      doc_ids: their ids, 32 hexadecimal digits each.
      file: the number of the file.
      row: the row of the first of them.
      signature: by which near duplicates are found.

    Returns:
      Records of `key_type`. A document with fewer than MIN_NEAR_CHARACTERS folded characters has
      zero bands and sketch.
    """
    codes, lengths = folded(texts)
    keys = np.zeros(len(texts), key_type(signature))
    keys["characters"] = np.fromiter(map(len, texts), np.int64, len(texts))
    keys["doc_id"] = np.frombuffer(bytes.fromhex("".join(doc_ids)), ">u8").reshape(-1, 2)
    keys["file"], keys["row"] = file, row + np.arange(len(texts))
    keys["folded"] = lengths
    digests = [hashlib.md5(text).digest() for text in np.split(codes, np.cumsum(lengths)[:-1])]
    keys["exact"] = np.frombuffer(b"".join(digests[: len(texts)]), np.uint64).reshape(-1, 2)
    is_long = lengths >= MIN_NEAR_CHARACTERS
    if is_long.any():
        signed = signature.sign(codes[is_long[owners(lengths)]], lengths[is_long])
        keys["bands"][is_long], keys["sketch"][is_long] = signed
    return keys


def attributes(key: np.void) -> dict[str, str]:
    """What a document's attributes say of its keys."""
    return {"md5": key["exact"].tobytes().hex()}


def deal_keys(keys: np.ndarray, parts: int) -> Iterator[tuple[int, np.ndarray]]:
    """Deals keys (of key_type) into parts so that exact duplicates meet in one.

    A text of which nothing counts (blanks and marks) has no key, or all such would be equal.
    """
    keys = keys[keys["folded"] > 0]
    return _deal(keys["exact"][:, 0], keys, parts)


def _deal(numbers: np.ndarray, records: np.ndarray, parts: int) -> Iterator[tuple[int, np.ndarray]]:
    part = numbers % np.uint64(parts)
    for index in np.unique(part):
        yield int(index), records[part == index]


def split_exact_duplicates(groups: Iterable[np.ndarray]) -> tuple[np.ndarray, list[Lost]]:
    """Separates the keys of lowest rank in each set of exact duplicates from all the others.

    Args:
      groups: arrays of keys that together hold every key with these values of `exact`.

    Returns:
      The keys that stay, and the duplicates.
    """
    keys = np.concatenate(list(groups))
    # Only copies equal in every field share a rank; which of those stays makes no difference.
    keys = keys[np.lexsort((keys["row"], keys["file"], *_rank(keys), *keys["exact"].T))]
    repeats = np.zeros(len(keys), bool)
    repeats[1:] = (keys["exact"][1:] == keys["exact"][:-1]).all(axis=1)
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(keys))))
    lost = [
        Lost(int(keys["file"][at]), int(keys["row"][at]), _hex(keys["doc_id"][first[at]].tobytes()))
        for at in np.flatnonzero(repeats)
    ]
    return keys[~repeats], lost


def deal_bands(keys: np.ndarray, parts: int) -> Iterator[tuple[int, np.ndarray]]:
    """Deals the bands (dtype BAND) of keys into parts so that equal bands meet in one."""
    keys = keys[keys["folded"] >= MIN_NEAR_CHARACTERS]
    bands = np.empty(keys["bands"].size, BAND)
    bands["characters"] = np.repeat(keys["characters"], keys["bands"].shape[1])
    bands["doc_id"] = np.repeat(keys["doc_id"], keys["bands"].shape[1], axis=0)
    bands["band"] = keys["bands"].reshape(-1)
    return _deal(bands["band"], bands, parts)


def candidate_pairs(groups: Iterable[np.ndarray]) -> set[tuple[bytes, bytes]]:
    """Pairs the documents that share a band.

    Args:
      groups: arrays of dtype BAND that together hold every record with these values of `band`.

    Returns:
      (doc_id of the lower rank, doc_id of the higher), 16 bytes each. In a bucket of more than
      _MAX_RIVALS documents each meets only that many of the lowest rank.
    """
    records = np.concatenate(list(groups))
    records = records[np.lexsort((*_rank(records), records["band"]))]
    is_first = np.ones(len(records), bool)
    is_first[1:] = records["band"][1:] != records["band"][:-1]
    begins = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    places = np.arange(len(records)) - begins
    ids = [doc_id.tobytes() for doc_id in records["doc_id"]]
    pairs = set()
    for rival in range(min(_MAX_RIVALS, int(places.max(initial=0)))):
        later = np.flatnonzero(places > rival)
        pairs.update((ids[begins[index] + rival], ids[index]) for index in later)
    return pairs


class Sketched(NamedTuple):
    """What decides about a document among its candidates."""

    sketch: bytes
    characters: int
    file: int
    row: int


def sketches(keys: np.ndarray) -> Iterator[tuple[bytes, Sketched]]:
    """Yields (doc_id, what decides) of every key that takes part in the near-duplicate stage."""
    for key in keys[keys["folded"] >= MIN_NEAR_CHARACTERS]:
        numbers = (int(key[name]) for name in ("characters", "file", "row"))
        yield key["doc_id"].tobytes(), Sketched(key["sketch"].tobytes(), *numbers)


def challenges(
    doc_id: bytes, joined: Mapping[str, Iterable]
) -> Iterator[tuple[bytes, tuple[int, bytes, bytes]]]:
    """Sends a document's rank and sketch to each candidate of higher rank, by its id."""
    (mine,) = joined["sketches"]
    for higher in joined["pairs"]:
        yield higher, (-mine.characters, doc_id, mine.sketch)


def lost_to(joined: Mapping[str, Iterable], signature: Signature) -> Iterator[Lost]:
    """Yields a document that one of its challengers displaces: the verified one of lowest rank."""
    (mine,) = joined["sketches"]
    rivals = sorted(joined["challenges"])
    if not rivals:
        return
    sketch = np.frombuffer(mine.sketch, np.uint16)
    others = np.frombuffer(b"".join(rival[2] for rival in rivals), np.uint16)
    near = np.flatnonzero(signature.is_near(sketch, others.reshape(len(rivals), -1)))
    if len(near):
        yield Lost(mine.file, mine.row, _hex(rivals[near[0]][1]))


def _hex(doc_id: bytes) -> str:
    """The name of a document whose two numbers these are."""
    return np.frombuffer(doc_id, np.uint64).astype(">u8").tobytes().hex()


def _rank(records: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rank as sort keys for lexsort, the weightiest last: more characters, then smaller id."""
    return records["doc_id"][:, 1], records["doc_id"][:, 0], -records["characters"]
