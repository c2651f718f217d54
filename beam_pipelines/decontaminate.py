"""Contamination: documents that share long runs of characters with evaluation text.

Compared are runs of 17 characters without blanks and punctuation, in lower case, full width as
half, Traditional as Simplified: a copy in the other script is a copy. 17 characters of a language
that is written in letters are four words, which anybody may say, so that in such a text a run
counts from 60 on, some 13 words. Knows nothing of what the evaluation files are for.

Source: WeLM section 2.1 (17-grams); the longer runs of English are our choice.
"""

import functools
import gzip
import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines.characters import folded, hash_ngrams, owners
from welm_jax.failures import InputError
from welm_jax.tasks import set_files

NGRAM = 17
MOST_SHARED = 1  # places in a document at which a 17-gram of an evaluation text begins
LEAST_LETTERS = 60  # of a run in a text of letters
_FIRST_IDEOGRAPH = 0x2E80  # code points below it are letters
_LETTERED = 0.1  # of a text that is written in letters, the rest may be so much
_TABLE_BITS = 27  # of a table of hashes that most lookups end at
TFDS_INFO = "dataset_info.json"  # in the folder of a TFDS dataset
_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


class EvaluationIndex(NamedTuple):
    """The 17-grams of evaluation texts.

    Attributes:
      hashes: sorted, each once, uint64.
      is_known: whether any hash begins with these 27 bits, bool [2^27].
      tasks: names.
      pairs: sorted hashes, and the number of a task that has the 17-gram; one for each such task.
      without_gram: texts of each task that are too short to have any.
    """

    hashes: np.ndarray
    is_known: np.ndarray
    tasks: tuple[str, ...]
    pairs: tuple[np.ndarray, np.ndarray]
    without_gram: dict[str, int]


def read_index(folder: str) -> EvaluationIndex:
    """Indexes every text in JSONL and Parquet files below a folder, but for those called train*.

    Of TFDS's datasets it takes what welm_jax asks of them. A task is a file's folder, or the file
    itself if it lies at the top.

    Raises:
      InputError: there are no such files, or one is damaged.
    """
    files = evaluation_files(folder)
    return _read_index(Path(folder), tuple((file, file.stat().st_mtime_ns) for file in files))


def evaluation_files(folder: str) -> list[Path]:
    """The files of evaluation text below a folder; refuses a folder of none."""
    files = [
        path
        for path in sorted(Path(folder).rglob("*"))
        if (".jsonl" in path.name or path.suffix == ".parquet" or path.name == TFDS_INFO)
        and not path.name.startswith("train")
    ]
    if not files:
        raise InputError(f"{folder} holds no *.jsonl, .jsonl.gz or .parquet of evaluation text")
    return files


@functools.lru_cache(maxsize=1)
def _read_index(root: Path, files: Sequence[tuple[Path, int]]) -> EvaluationIndex:
    texts: dict[str, set[str]] = {}
    for path, _ in files:
        place = path.relative_to(root)
        task = place.parts[0] if len(place.parts) > 1 else place.name.partition(".")[0]
        texts.setdefault(task, set()).update(_texts(path))
    hashes, numbers, without = [], [], {}
    for number, (task, mine) in enumerate(texts.items()):
        found, counts = _ngrams(sorted(mine))
        found = np.unique(found)
        hashes.append(found)
        numbers.append(np.full(len(found), number))
        without[task] = int((counts == 0).sum())
    pairs, numbers = np.concatenate(hashes), np.concatenate(numbers)
    order = np.argsort(pairs, kind="stable")
    unique = np.unique(pairs)
    is_known = np.zeros(1 << _TABLE_BITS, bool)
    is_known[_heads(unique)] = True
    return EvaluationIndex(unique, is_known, tuple(texts), (pairs[order], numbers[order]), without)


class Shared(NamedTuple):
    """What a text shares with evaluation texts.

    Attributes:
      places: of the text at which a 17-gram of an evaluation text begins. Two may be one run of 18
        characters; so a 34-gram, which the paper names beside two 17-grams, always has two as well.
      tasks: name -> how many of these places it has.
      span: the first run of such places, as it was compared.
    """

    places: int
    tasks: dict[str, int]
    span: str


def shared(texts: Sequence[str], index: EvaluationIndex) -> list[Shared]:
    """Looks each text up among the evaluation texts."""
    codes, lengths = folded(texts)
    codes = _simplified()[codes]
    hashes, counts = hash_ngrams(codes, lengths, NGRAM)
    likely = np.flatnonzero(index.is_known[_heads(hashes)])
    places = np.minimum(np.searchsorted(index.hashes, hashes[likely]), len(index.hashes) - 1)
    found = likely[index.hashes[places] == hashes[likely]] if len(index.hashes) else likely
    ends, begins = np.cumsum(counts), np.cumsum(lengths) - lengths
    results = []
    least = np.where(_are_lettered(codes, lengths), LEAST_LETTERS, NGRAM)
    for end, count, begin, fewest in zip(ends, counts, begins, least, strict=True):
        low, high = np.searchsorted(found, (end - count, end))
        mine = found[low:high]
        runs = np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1) if len(mine) else []
        firsts = [begin + run[0] - (end - count) for run in runs]
        spans = [
            codes[first : first + len(run) + NGRAM - 1]
            for first, run in zip(firsts, runs, strict=True)
        ]
        counting = [pair for pair in zip(runs, spans, strict=True) if len(pair[1]) >= fewest]
        if not counting:
            results.append(Shared(0, {}, ""))
            continue
        places = np.concatenate([run for run, _ in counting])
        tasks = _tasks(hashes[places], index)
        results.append(Shared(len(places), tasks, "".join(map(chr, counting[0][1]))))
    return results


def _are_lettered(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether each text is written in letters, bool [texts]."""
    others = np.bincount(owners(lengths)[codes >= _FIRST_IDEOGRAPH], minlength=len(lengths))
    return others < _LETTERED * lengths


def _tasks(hashes: np.ndarray, index: EvaluationIndex) -> dict[str, int]:
    begins, ends = (np.searchsorted(index.pairs[0], hashes, side) for side in ("left", "right"))
    numbers = [n for b, e in zip(begins, ends, strict=True) for n in index.pairs[1][b:e]]
    counts = np.bincount(np.array(numbers, np.int64), minlength=len(index.tasks))
    return {index.tasks[n]: int(counts[n]) for n in np.flatnonzero(counts)}


def _ngrams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    codes, lengths = folded(texts)
    return hash_ngrams(_simplified()[codes], lengths, NGRAM)


def _heads(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)


@functools.cache
def _simplified() -> np.ndarray:
    """Code point -> its Simplified form, one for one, uint32 [0x110000]."""
    import opencc

    table = np.arange(0x110000, dtype=np.uint32)
    han = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]
    # A line each, so that no two are taken for a word.
    lines = opencc.OpenCC("t2s").convert("\n".join(map(chr, han))).split("\n")
    for code, line in zip(han, lines, strict=True):
        if len(line) == 1:
            table[code] = ord(line)
    return table


def _texts(path: Path) -> Iterator[str]:
    if path.suffix == ".parquet":
        yield from _strings([record for _, record in set_files.records_of_parquet(path)])
        return
    if path.name == TFDS_INFO:
        yield from _strings([*set_files.records_of_tfds(path.parent)])
        return
    opened = _OPENERS.get(path.suffix, open)
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield from _strings(json.loads(line))
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is no JSONL of evaluation text ({error})") from error


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, but not the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
