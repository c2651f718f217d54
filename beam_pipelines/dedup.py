"""Exact and near duplicates, on small keys alone: no text is needed once they are made.

Exact: md5 over the text without blanks and punctuation, as the paper. Near: texts that share a band
of their signatures are candidates, and their sketches decide. Of two duplicates the one of lower
rank stays: the longer, then the one of smaller id, so the outcome depends on no order of arrival;
the other is dropped if and only if one of its verified near duplicates has a lower rank (where a
band has more than _MAX_RIVALS documents, one of so many). A contaminated document, which a later
stage drops, ranks after all clean ones, so that none of them is lost to it. Records travel as
arrays, dealt into parts in which those that concern one another meet. Knows nothing of files beyond
a place (file, row) per key, nor of how a signature is made.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from beam_pipelines.characters import folded, owners
from beam_pipelines.near_signatures import Signature

MIN_NEAR_CHARACTERS = 60  # folded; shorter texts share too many n-grams by chance
_CONTAMINATED = 1 << 40  # taken from the worth of a contaminated text: more than any has characters
_MAX_RIVALS = 64  # of one bucket, so that a page found a million times costs no million squared

ID = (np.uint64, 2)  # of a document: its 128 bits
RANK = [("worth", np.int64), ("doc_id", *ID)]
PLACE = [("file", np.int32), ("row", np.int32)]
BAND = np.dtype([*RANK, ("band", np.uint64)])
PAIR = np.dtype([("better", *ID), ("doc_id", *ID)])  # candidates, the one of lower rank first
LOST = np.dtype([*PLACE, ("displaced_by", *ID)])  # by one that stays, or was itself displaced
Parts = Iterator[tuple[int, np.ndarray]]  # the number of a part, and records that belong there


def key_type(signature: Signature) -> np.dtype:
    """The record of a document's keys."""
    exact = [("folded", np.int64), ("exact", np.uint64, 2)]
    return np.dtype([*sketch_type(signature).descr, *exact, ("bands", np.uint64, signature.bands)])


def sketch_type(signature: Signature) -> np.dtype:
    """The record of what decides about a document among its candidates."""
    return np.dtype([*RANK, *PLACE, ("sketch", np.uint16, signature.sketch)])


def challenge_type(sketch: np.dtype) -> np.dtype:
    """The record by which a document meets a candidate of lower rank: that one's, and whom."""
    return np.dtype([("challenged", *ID), *RANK, ("sketch", sketch["sketch"])])


def make_keys(
    texts: Sequence[str],
    doc_ids: Sequence[str],
    file: int,
    row: int,
    signature: Signature,
    are_contaminated: Sequence[bool] | bool = False,
) -> np.ndarray:
    """Makes the keys of documents that lie in consecutive rows of one file.

    Args:
      texts: their texts.
      doc_ids: their ids, 32 hexadecimal digits each.
      file: the number of the file.
      row: the row of the first of them.
      signature: by which near duplicates are found.
      are_contaminated: whether each of them, or all, will be dropped for evaluation text.

    Returns:
      Records of `key_type`. A document with fewer than MIN_NEAR_CHARACTERS folded characters has
      zero bands and sketch.
    """
    codes, lengths = folded(texts)
    keys = np.zeros(len(texts), key_type(signature))
    keys["worth"] = np.fromiter(map(len, texts), np.int64, len(texts))
    keys["worth"] -= np.where(are_contaminated, _CONTAMINATED, 0)
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


def deal_keys(keys: np.ndarray, parts: int) -> Parts:
    """Deals keys (of key_type) into parts so that exact duplicates meet in one.

    A text of which nothing counts (blanks and marks) has no key, or all such would be equal.
    """
    keys = keys[keys["folded"] > 0]
    return _deal(keys["exact"][:, 0] % np.uint64(parts), keys)


def split_exact_duplicates(groups: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Separates the keys of lowest rank in each set of exact duplicates from all the others.

    Args:
      groups: arrays of keys that together hold every key with these values of `exact`.

    Returns:
      The keys that stay, and the duplicates (LOST).
    """
    keys = np.concatenate(list(groups))
    # Only copies equal in every field share a rank; which of those stays makes no difference to
    # the corpus, though its bytes as they were found may differ.
    keys = keys[np.lexsort((keys["row"], keys["file"], *_rank(keys), *keys["exact"].T))]
    repeats = np.zeros(len(keys), bool)
    repeats[1:] = (keys["exact"][1:] == keys["exact"][:-1]).all(axis=1)
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(keys))))
    return keys[~repeats], _lost(keys[repeats], keys["doc_id"][first[repeats]])


def deal_bands(keys: np.ndarray, parts: int) -> Parts:
    """Deals the bands (BAND) of keys into parts so that equal bands meet in one."""
    keys = keys[keys["folded"] >= MIN_NEAR_CHARACTERS]
    bands = np.empty(keys["bands"].size, BAND)
    bands["worth"] = np.repeat(keys["worth"], keys["bands"].shape[1])
    bands["doc_id"] = np.repeat(keys["doc_id"], keys["bands"].shape[1], axis=0)
    bands["band"] = keys["bands"].reshape(-1)
    return _deal(bands["band"] % np.uint64(parts), bands)


def deal_sketches(keys: np.ndarray, parts: int, signature: Signature) -> Parts:
    """Deals the sketches (of sketch_type) of keys into parts by their documents."""
    keys = keys[keys["folded"] >= MIN_NEAR_CHARACTERS]
    sketches = np.empty(len(keys), sketch_type(signature))
    for name in sketches.dtype.names:
        sketches[name] = keys[name]
    return _deal(sketches["doc_id"][:, 0] % np.uint64(parts), sketches)


def candidate_pairs(groups: Iterable[np.ndarray], parts: int) -> Parts:
    """Pairs the documents that share a band, and deals the pairs (PAIR) by the better one.

    In a bucket of more than _MAX_RIVALS documents each meets only that many of the lowest rank.

    Args:
      groups: arrays of dtype BAND that together hold every record with these values of `band`.
      parts: of documents.
    """
    records = np.concatenate(list(groups))
    records = records[np.lexsort((*_rank(records), records["band"]))]
    is_first = np.ones(len(records), bool)
    is_first[1:] = records["band"][1:] != records["band"][:-1]
    begins = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    places, ids, found = np.arange(len(records)) - begins, records["doc_id"], []
    for rival in range(min(_MAX_RIVALS, int(places.max(initial=0)))):
        later = np.flatnonzero(places > rival)
        pairs = np.empty(len(later), PAIR)
        pairs["better"], pairs["doc_id"] = ids[begins[later] + rival], ids[later]
        found.append(pairs)
    pairs = _distinct(found, PAIR)
    return _deal(pairs["better"][:, 0] % np.uint64(parts), pairs)


def challenges(met: Mapping[str, Iterable[np.ndarray]], parts: int) -> Parts:
    """Looks up the better one of each pair, and deals its challenge by the other document.

    Args:
      met: `sketches` and `pairs`, all of one part of documents.
      parts: of documents.
    """
    pairs = _distinct(met["pairs"], PAIR)
    if not len(pairs):
        return
    sketches = np.concatenate(list(met["sketches"]))
    better = sketches[_places(sketches["doc_id"], pairs["better"])]
    found = np.empty(len(pairs), challenge_type(sketches.dtype))
    found["challenged"] = pairs["doc_id"]
    for name in ("worth", "doc_id", "sketch"):
        found[name] = better[name]
    yield from _deal(found["challenged"][:, 0] % np.uint64(parts), found)


def lost_to(met: Mapping[str, Iterable[np.ndarray]], signature: Signature) -> Parts:
    """Yields the documents that a challenger displaces (LOST): by the verified one of lowest rank.

    Args:
      met: `sketches` and `challenges`, all of one part of documents.
      signature: decides.

    Yields:
      The number of a file, and its documents.
    """
    challengers = list(met["challenges"])
    if not challengers:
        return
    sketches, found = np.concatenate(list(met["sketches"])), np.concatenate(challengers)
    found = found[np.lexsort((*_rank(found), *found["challenged"].T))]
    mine = sketches[_places(sketches["doc_id"], found["challenged"])]
    is_near = signature.is_near(mine["sketch"], found["sketch"])
    mine, found = mine[is_near], found[is_near]
    is_first = np.ones(len(found), bool)
    is_first[1:] = (found["challenged"][1:] != found["challenged"][:-1]).any(axis=1)
    yield from by_file(_lost(mine[is_first], found["doc_id"][is_first]))


def by_file(lost: np.ndarray) -> Parts:
    """Deals lost documents by the files they are of."""
    return _deal(lost["file"], lost)


def name_of(doc_id: np.ndarray) -> str:
    """The name of a document whose two numbers these are."""
    return doc_id.astype(">u8").tobytes().hex()


def _deal(part: np.ndarray, records: np.ndarray) -> Parts:
    for index in np.unique(part):
        yield int(index), records[part == index]


def _lost(records: np.ndarray, displaced_by: np.ndarray) -> np.ndarray:
    lost = np.empty(len(records), LOST)
    lost["file"], lost["row"] = records["file"], records["row"]
    lost["displaced_by"] = displaced_by
    return lost


def _distinct(groups: Iterable[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """All records of these arrays, each once."""
    records = np.concatenate([np.empty(0, dtype), *groups])
    words = records.view(np.uint64).reshape(len(records), dtype.itemsize // 8)
    order = np.lexsort(words.T)
    is_new = np.ones(len(records), bool)
    is_new[1:] = (words[order][1:] != words[order][:-1]).any(axis=1)
    return records[order][is_new]


def _places(ids: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Where each of the wanted ids stands among ids, which has them all."""
    place = {one.tobytes(): at for at, one in enumerate(ids)}
    return [place[one.tobytes()] for one in wanted]


def _rank(records: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rank as sort keys for lexsort, the weightiest last: more worth, then smaller id."""
    return records["doc_id"][:, 1], records["doc_id"][:, 0], -records["worth"]
