"""Signatures of texts, by which near duplicates are found: MinHash, and the paper's SimHash.

Either gives band keys, of which near duplicates are likely to share one, and a sketch, by which a
pair that shares one is verified. Knows nothing of what is done about duplicates.
"""

import itertools
from typing import Protocol

import numpy as np

from beam_pipelines.characters import hash_ngrams, owners, scramble

_BLOCK_RUNS = 1 << 15  # n-grams hashed at a time: they stay in the processor's cache


class Signature(Protocol):
    """How near duplicates are found.

    Attributes:
      bands: keys of a text.
      sketch: 16-bit numbers of its sketch.
    """

    bands: int
    sketch: int

    def sign(self, codes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signs texts.

        Args:
          codes: their folded code points, end to end.
          lengths: folded characters of each; none is shorter than the longest n-gram.

        Returns:
          Band keys, uint64 [texts, bands]; sketches, uint16 [texts, sketch].
        """

    def is_near(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether each of these sketches and each of others, [texts, sketch], are of near ones."""


class MinHash:
    """16 bands of 6 least hashes of character 3-grams; verified by 64 others.

    Jaccard similarity J makes a candidate with probability 1 - (1 - J^6)^16: .22 at .5, .86 at .7,
    .99 at .8. The sketch estimates J with a standard error of at most .06. A copy in which one
    character in twenty was changed has a J of about .77, from .69 to .85: bands of 8 rows and a
    least J of .7, which are usual, find 76 of 100 such copies, these 91, and no pair below .5
    (benchmarks/curation_truth.py).
    """

    ngram, rows = 3, 6
    bands, sketch = 16, 64
    min_jaccard = 0.65

    def __init__(self):
        # The sketch's permutations are others than the bands', on which candidates agree already.
        numbers = np.arange(self.bands * self.rows + self.sketch, dtype=np.uint64)
        self._multipliers, self._addends = (
            scramble(numbers + np.uint64(start)).astype(np.uint32) for start in (1, 1001)
        )
        self._multipliers |= np.uint32(1)

    def sign(self, codes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See Signature."""
        minima = self._minima(*hash_ngrams(codes, lengths, self.ngram))
        rows = minima[:, : -self.sketch].reshape(-1, self.bands, self.rows).astype(np.uint64)
        keys = np.broadcast_to(np.arange(self.bands, dtype=np.uint64), rows.shape[:2])
        for row in range(self.rows):
            keys = scramble(keys ^ rows[:, :, row])
        return keys, minima[:, -self.sketch :].astype(np.uint16)

    def is_near(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See Signature."""
        return (others == some).mean(axis=1) >= self.min_jaccard

    def _minima(self, hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The least hash of each text under each permutation: uint32 [texts, permutations]."""
        minima = np.empty((len(counts), len(self._multipliers)), np.uint32)
        narrow = (hashes >> np.uint64(32)).astype(np.uint32)
        ends = np.cumsum(counts)
        permutations = list(zip(self._multipliers, self._addends, strict=True))
        first = 0
        while first < len(counts):
            begin = ends[first] - counts[first]
            last = max(first + 1, int(np.searchsorted(ends, begin + _BLOCK_RUNS, side="right")))
            block = narrow[begin : ends[last - 1]]
            starts = ends[first:last] - counts[first:last] - begin
            permuted = np.empty_like(block)
            for index, (multiplier, addend) in enumerate(permutations):
                np.multiply(block, multiplier, out=permuted)
                np.add(permuted, addend, out=permuted)
                minima[first:last, index] = np.minimum.reduceat(permuted, starts)
            first = last
        return minima


class SimHash:
    """64 bits, each the weighted majority of that bit in the hashes of the character 2-grams.

    The weight of a 2-gram is how often it occurs, but at most 8: else a long run of one character,
    as in texts made anonymous, decides all bits and makes strangers duplicates. Two texts are near
    if at most 3 bits differ; then at least 3 of 6 blocks of bits are equal, and each band is one
    choice of 3. It means "almost identical": of copies of 200 to 1,000 characters with 1 % of them
    changed it finds two in three.

    Source: WeLM section 2.1; Manku et al. 2007. The 2-grams are our choice.
    """

    ngram, distance, blocks, most_weight = 2, 3, 6, 8
    bands, sketch = 20, 4

    def __init__(self):
        edges = np.linspace(0, 64, self.blocks + 1).astype(int)
        masks = [
            sum(1 << bit for bit in range(begin, end)) for begin, end in itertools.pairwise(edges)
        ]
        chosen = itertools.combinations(masks, self.blocks - self.distance)
        self._masks = np.array([sum(some) for some in chosen], np.uint64)
        self._bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int64)

    def sign(self, codes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See Signature."""
        hashes, counts = hash_ngrams(codes, lengths, self.ngram)
        # With its text's number in the highest bits, one sort brings equal ones of a text together.
        numbers = owners(counts).astype(np.uint64) << np.uint64(48)
        keys, occurrences = np.unique(numbers | (hashes >> np.uint64(16)), return_counts=True)
        weights = np.minimum(occurrences, self.most_weight)
        texts = (keys >> np.uint64(48)).astype(np.int64)
        bytes_of = scramble(keys << np.uint64(16)).view(np.uint8).reshape(-1, 8).T
        totals, bits = np.bincount(texts, weights, minlength=len(counts)), []
        for byte in bytes_of:
            histogram = np.bincount(texts * 256 + byte, weights, minlength=256 * len(counts))
            ones = histogram.reshape(-1, 256) @ self._bits
            bits.append(2 * ones > totals[:, None])
        hashed = np.packbits(np.concatenate(bits, axis=1), axis=1)
        simhash = hashed.view(np.uint64)
        tables = np.arange(self.bands, dtype=np.uint64)
        return scramble((simhash & self._masks) ^ scramble(tables)), hashed.view(np.uint16)

    def is_near(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See Signature."""
        return np.bitwise_count(others ^ some).sum(axis=1) <= self.distance


SIGNATURES: dict[str, Signature] = {"minhash": MinHash(), "simhash": SimHash()}
