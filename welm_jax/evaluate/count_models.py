"""Count language models: the baselines that a trained decoder has to beat to have learned anything.

One convention for every model of this project, the decoder too: each document's end mark is
predicted and its bits are charged, and the sum is divided by the characters (code points) of the
text alone. A model over tokens and one over characters are then held against the same text.

Counts are arrays of sorted integer keys, so that millions of characters take seconds. Knows
nothing of jax, nor of how the decoder is scored.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from welm_jax.data.token_dataset import TokenDataset
from welm_jax.text.tokenizer import Tokenizer

LARGEST_ORDER = 3
# A character model's base: every code point that UTF-8 can hold, and the end mark.
END_OF_TEXT = 0x110000
CHARACTER_SYMBOLS = 0x110000 - 0x800 + 1
CHARACTER_MODELS = ("character unigram", "character bigram", "character trigram")
TOKEN_MODELS = ("token unigram", "token bigram")
# Characters of training text that are still counted: all n-grams are held in memory, some 200
# bytes a character, and above this size the decoder needs no such baseline.
LARGEST_TRAINING_TEXT = 50_000_000


@dataclass(frozen=True, kw_only=True)
class SymbolStream:
    """Documents one after the other, each with end marks as its first context.

    Attributes:
      symbols: LARGEST_ORDER - 1 end marks, a document, its end mark, and so on, int64 [N].
      is_target: which of them are predicted: all but the leading end marks, bool [N].
    """

    symbols: np.ndarray
    is_target: np.ndarray

    @classmethod
    def of(cls, documents: Iterable[Sequence[int] | np.ndarray], end: int) -> "SymbolStream":
        """Lays out documents given as symbols; `end` is the end mark."""
        before = [end] * (LARGEST_ORDER - 1)
        pieces = [np.array([*before, *document, end], np.int64) for document in documents]
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        is_target = np.ones(lengths.sum(), bool)
        starts = np.cumsum(lengths) - lengths
        for offset in range(len(before)):
            is_target[starts + offset] = False
        return cls(symbols=np.concatenate([np.array([], np.int64), *pieces]), is_target=is_target)


class _Counts(NamedTuple):
    """How often each n-gram of one length occurred; an n-gram is one integer, as are contexts."""

    grams: np.ndarray  # sorted keys
    counts: np.ndarray  # occurrences of each gram
    contexts: np.ndarray  # sorted keys; a gram's context is gram // radix
    totals: np.ndarray  # occurrences of each context
    followers: np.ndarray  # distinct symbols after each context


class CountModel:
    """The n-gram models of orders 1 to N, with Witten-Bell interpolation down to a uniform base.

    With c the count of symbol w after context h and d the number of distinct symbols after h,

        p(w | h) = (c(h w) + d(h) p(w | shorter h)) / (c(h) + d(h)),

    and below the unigram stands 1 / num_symbols. A context never seen passes the question on.

    Args:
      training: what is counted.
      largest_order: N, at most LARGEST_ORDER.
      num_symbols: size of the base: every symbol that may ever occur, the end mark included.

    Source: Witten and Bell 1991; Chen and Goodman 1998, section 2.4.
    """

    def __init__(self, training: SymbolStream, largest_order: int, num_symbols: int):
        self._num_symbols = num_symbols
        self._known = np.unique(training.symbols)
        self._radix = len(self._known) + 1  # one more number, for all that training never showed
        self._levels = []
        for keys in self._keys(training, largest_order):
            grams, counts = np.unique(keys, return_counts=True)
            contexts, starts, followers = np.unique(
                grams // self._radix, return_index=True, return_counts=True
            )
            totals = np.add.reduceat(counts, starts)
            self._levels.append(_Counts(grams, counts, contexts, totals, followers))

    def probabilities(self, stream: SymbolStream) -> np.ndarray:
        """The probability of each target given what is before it, by each model.

        Returns:
          float64 [N, targets]; row n - 1 is the n-gram model's.
        """
        probability = np.full(np.count_nonzero(stream.is_target), 1 / self._num_symbols)
        rows = []
        for level, keys in zip(self._levels, self._keys(stream, len(self._levels)), strict=True):
            contexts = keys // self._radix
            count = _looked_up(level.grams, level.counts, keys)
            followers = _looked_up(level.contexts, level.followers, contexts)
            total = _looked_up(level.contexts, level.totals, contexts)
            mixed = (count + followers * probability) / np.maximum(total + followers, 1)
            probability = np.where(total > 0, mixed, probability)
            rows.append(probability)
        return np.stack(rows)

    def bits(self, stream: SymbolStream) -> np.ndarray:
        """The bits that all targets of the stream cost together, by each model, float64 [N]."""
        return -np.log2(self.probabilities(stream)).sum(axis=1)

    def _keys(self, stream: SymbolStream, largest_order: int) -> Iterator[np.ndarray]:
        """For n = 1 to N, the n-gram that ends at each target as one integer, int64 [targets]."""
        place = np.searchsorted(self._known, stream.symbols)
        place = np.minimum(place, len(self._known) - 1)
        numbers = np.where(self._known[place] == stream.symbols, place, len(self._known))
        keys = numbers.copy()
        yield keys[stream.is_target]
        for distance in range(1, largest_order):
            keys[distance:] += numbers[:-distance] * self._radix**distance
            yield keys[stream.is_target]


def _looked_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each key that is asked for, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0)


def bits_per_character(
    folders: Mapping[str, str], tokenizer: Tokenizer
) -> dict[str, dict[str, float]]:
    """Counts the train splits of all sources together and scores each held-out split.

    Every training document counts once, whatever the mixture repeats. The documents come back
    through the lossless tokenizer, so the text is exactly what the decoder was trained on.

    Args:
      folders: source -> its token dataset.
      tokenizer: the one that wrote them.

    Returns:
      Model name -> source, or "all" for the held-out text of all sources as one -> bits per
      character. Nothing for a training text above LARGEST_TRAINING_TEXT.
    """
    splits = [TokenDataset(folder, "train") for folder in folders.values()]
    if sum(one.metadata.splits["train"].characters for one in splits) > LARGEST_TRAINING_TEXT:
        return {}
    training = [document.tolist() for split in splits for document in split.documents()]
    held_out = {
        source: [one.tolist() for one in TokenDataset(folder, "heldout").documents()]
        for source, folder in folders.items()
    }
    characters = {
        source: sum(len(tokenizer.decode(document)) for document in documents)
        for source, documents in held_out.items()
    }

    def as_tokens(documents):
        return SymbolStream.of(documents, tokenizer.eod_id)

    def as_characters(documents):
        texts = (tokenizer.decode(document) for document in documents)
        codes = (np.frombuffer(text.encode("utf-32-le"), "<u4") for text in texts)
        return SymbolStream.of(codes, END_OF_TEXT)

    bits: dict[str, dict[str, float]] = {}
    for names, as_symbols, num_symbols in (
        (CHARACTER_MODELS, as_characters, CHARACTER_SYMBOLS),
        (TOKEN_MODELS, as_tokens, tokenizer.vocab_size),
    ):
        model = CountModel(as_symbols(training), len(names), num_symbols)
        for source, documents in held_out.items():
            for name, cost in zip(names, model.bits(as_symbols(documents)), strict=True):
                bits.setdefault(name, {})[source] = float(cost)
    return {name: _per_character(of_model, characters) for name, of_model in bits.items()}


def _per_character(bits: Mapping[str, float], characters: Mapping[str, int]) -> dict[str, float]:
    ratios = {source: bits[source] / characters[source] for source in bits}
    return {**ratios, "all": sum(bits.values()) / sum(characters.values())}
