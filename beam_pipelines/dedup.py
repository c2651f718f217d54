"""Exact and near duplicates, on small keys alone: no text is needed once they are made.

Exact: md5 over the text without blanks and punctuation, as the paper. Near: MinHash (16 bands of 8
over character 3-grams) proposes pairs, a second sketch under other permutations verifies them.
Of two duplicates the one of lower rank stays: the longer, then the one of smaller id, so the
outcome depends on no order of arrival. Knows nothing of files beyond a place (file, row) per key.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from beam_pipelines.characters import KINDS, Kind, hash_ngrams, owners, scramble

BANDS = 16
_ROWS_PER_BAND = 8
_SKETCH = 64  # other permutations than the bands': a candidate already agrees on those
_NGRAM = 3
MIN_JACCARD = 0.7  # of two texts' 3-grams: from here on the lesser one goes
MIN_NEAR_CHARACTERS = 60  # folded; shorter texts share too many 3-grams by chance
_MAX_RIVALS = 64  # of one bucket, so that a page found a million times costs no million squared
_BLOCK_RUNS = 1 << 15  # n-grams hashed at a time: they stay in the processor's cache

RANK = [("characters", np.int64), ("doc_id", np.uint64, 2)]
KEY = np.dtype(
    [
        *RANK,
        ("file", np.int32),
        ("row", np.int32),
        ("folded", np.int64),
        ("exact", np.uint64, 2),
        ("bands", np.uint64, BANDS),
        ("sketch", np.uint16, _SKETCH),
    ]
)
BAND = np.dtype([*RANK, ("band", np.uint64)])


def _fold_table() -> np.ndarray:
    """Code point -> what it counts as in a duplicate key, 0 for what does not count.

    Blanks and punctuation go, full-width forms become ASCII, ASCII becomes lower case.
    """
    table = np.arange(len(KINDS), dtype=np.uint32)
    table[0xFF01:0xFF5F] = np.arange(0x21, 0x7F)
    is_upper = (table >= ord("A")) & (table <= ord("Z"))
    table[is_upper] += 32
    ignored = (Kind.BLANK, Kind.CONTROL, Kind.PUNCTUATION, Kind.CLAUSE_MARK)
    table[np.isin(KINDS, ignored)] = 0
    return table


_FOLD = _fold_table()
_MULTIPLIERS, _ADDENDS = (
    scramble(
        np.arange(BANDS * _ROWS_PER_BAND + _SKETCH, dtype=np.uint64) + np.uint64(start)
    ).astype(np.uint32)
    for start in (1, 1001)
)
_MULTIPLIERS |= np.uint32(1)


def make_keys(texts: Sequence[str], doc_ids: Sequence[str], file: int, row: int) -> np.ndarray:
    """Makes the keys of documents that lie in consecutive rows of one file.

    Args:
      texts: their texts.
      doc_ids: their ids, 32 hexadecimal digits each.
      file: the number of the file.
      row: the row of the first of them.

    Returns:
      Records of dtype KEY. A document with fewer than MIN_NEAR_CHARACTERS folded characters has
      zero bands and sketch.
    """
    codes, lengths = _fold(texts)
    keys = np.zeros(len(texts), KEY)
    keys["characters"] = np.fromiter(map(len, texts), np.int64, len(texts))
    keys["doc_id"] = np.frombuffer(bytes.fromhex("".join(doc_ids)), ">u8").reshape(-1, 2)
    keys["file"], keys["row"] = file, row + np.arange(len(texts))
    keys["folded"] = lengths
    digests = [hashlib.md5(text).digest() for text in np.split(codes, np.cumsum(lengths)[:-1])]
    keys["exact"] = np.frombuffer(b"".join(digests[: len(texts)]), np.uint64).reshape(-1, 2)
    is_long = lengths >= MIN_NEAR_CHARACTERS
    if is_long.any():
        hashes, counts = hash_ngrams(codes[is_long[owners(lengths)]], lengths[is_long], _NGRAM)
        minima = _minimum_hashes(hashes, counts)
        keys["bands"][is_long] = _band_keys(minima[:, :-_SKETCH])
        keys["sketch"][is_long] = minima[:, -_SKETCH:].astype(np.uint16)
    return keys


def attributes(key: np.void) -> str:
    """What a document's attributes say of its key (dtype KEY), as a JSON object."""
    return f'{{"md5": "{key["exact"].tobytes().hex()}"}}'


def _fold(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The code points of all texts that count in a duplicate key, and how many each text has."""
    codes = _FOLD[np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return codes[codes > 0], np.bincount(owners(lengths)[codes > 0], minlength=len(texts))


def _minimum_hashes(hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The least hash of each document under each permutation: uint32 [documents, permutations]."""
    minima = np.empty((len(counts), len(_MULTIPLIERS)), np.uint32)
    narrow = (hashes >> np.uint64(32)).astype(np.uint32)
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        begin = ends[first] - counts[first]
        last = max(first + 1, int(np.searchsorted(ends, begin + _BLOCK_RUNS, side="right")))
        block = narrow[begin : ends[last - 1]]
        starts = ends[first:last] - counts[first:last] - begin
        permuted = np.empty_like(block)
        for index, (multiplier, addend) in enumerate(zip(_MULTIPLIERS, _ADDENDS, strict=True)):
            np.multiply(block, multiplier, out=permuted)
            np.add(permuted, addend, out=permuted)
            minima[first:last, index] = np.minimum.reduceat(permuted, starts)
        first = last
    return minima


def _band_keys(minima: np.ndarray) -> np.ndarray:
    """One key a band: uint64 [documents, BANDS], equal where all rows of the band are equal."""
    rows = minima.reshape(-1, BANDS, _ROWS_PER_BAND).astype(np.uint64)
    keys = np.broadcast_to(np.arange(BANDS, dtype=np.uint64), rows.shape[:2])
    for row in range(_ROWS_PER_BAND):
        keys = scramble(keys ^ rows[:, :, row])
    return keys


def deal_keys(keys: np.ndarray, parts: int) -> Iterator[tuple[int, np.ndarray]]:
    """Deals keys (dtype KEY) into parts so that exact duplicates meet in one.

    A text of which nothing counts (blanks and marks) has no key, or all such would be equal.
    """
    keys = keys[keys["folded"] > 0]
    return _deal(keys["exact"][:, 0], keys, parts)


def _deal(numbers: np.ndarray, records: np.ndarray, parts: int) -> Iterator[tuple[int, np.ndarray]]:
    part = numbers % np.uint64(parts)
    for index in np.unique(part):
        yield int(index), records[part == index]


def split_exact_duplicates(groups: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Separates the keys of lowest rank in each set of exact duplicates from all the others.

    Args:
      groups: arrays of dtype KEY that together hold every key with these values of `exact`.

    Returns:
      The keys that stay, and the keys of the duplicates.
    """
    keys = np.concatenate(list(groups))
    # Only copies equal in every field share a rank; which of those stays makes no difference.
    keys = keys[np.lexsort((keys["row"], keys["file"], *_rank(keys), *keys["exact"].T))]
    repeats = np.zeros(len(keys), bool)
    repeats[1:] = (keys["exact"][1:] == keys["exact"][:-1]).all(axis=1)
    return keys[~repeats], keys[repeats]


def deal_bands(keys: np.ndarray, parts: int) -> Iterator[tuple[int, np.ndarray]]:
    """Deals the bands (dtype BAND) of keys into parts so that equal bands meet in one."""
    keys = keys[keys["folded"] >= MIN_NEAR_CHARACTERS]
    bands = np.empty(len(keys) * BANDS, BAND)
    bands["characters"] = np.repeat(keys["characters"], BANDS)
    bands["doc_id"] = np.repeat(keys["doc_id"], BANDS, axis=0)
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


def sketches(keys: np.ndarray) -> Iterator[tuple[bytes, tuple[bytes, tuple[int, int]]]]:
    """Yields (doc_id, (sketch, place)) of every key that takes part in the near-duplicate stage."""
    for key in keys[keys["folded"] >= MIN_NEAR_CHARACTERS]:
        place = int(key["file"]), int(key["row"])
        yield key["doc_id"].tobytes(), (key["sketch"].tobytes(), place)


def challenges(joined: Mapping[str, Iterable]) -> Iterator[tuple[bytes, bytes]]:
    """Sends a document's sketch to each candidate of higher rank: yields (its doc_id, sketch)."""
    ((sketch, _place),) = joined["sketches"]
    for higher in joined["pairs"]:
        yield higher, sketch


def lost_places(joined: Mapping[str, Iterable]) -> Iterator[tuple[int, int]]:
    """Yields the place of a document if one of its challengers is verified to be its duplicate.

    The Jaccard similarity of their 3-grams is estimated from sketches of 64 permutations, with a
    standard error of at most 0.06.
    """
    ((sketch, place),) = joined["sketches"]
    mine = np.frombuffer(sketch, np.uint16)
    shares = [np.mean(np.frombuffer(rival, np.uint16) == mine) for rival in joined["challenges"]]
    if max(shares, default=0) >= MIN_JACCARD:
        yield place


def places(keys: np.ndarray) -> list[tuple[int, int]]:
    """The (file, row) of each key."""
    return list(zip(keys["file"].tolist(), keys["row"].tolist(), strict=True))


def _rank(records: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rank as sort keys for lexsort, the weightiest last: more characters, then smaller id."""
    return records["doc_id"][:, 1], records["doc_id"][:, 0], -records["characters"]
