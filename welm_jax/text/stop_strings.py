"""Texts at which generation ends, as an automaton over token ids that a device can follow.

A stop string may begin in the middle of a token and end in the middle of another, so comparing ids
would miss it. The automaton reads the bytes of each token.
"""

from collections.abc import Sequence

import numpy as np

from welm_jax.failures import InputError
from welm_jax.text.fast_tokenizer import AnyTokenizer


def stop_table(tokenizer: AnyTokenizer, stops: Sequence[str]) -> np.ndarray:
    """The automaton of Aho and Corasick that finds any of the stops.

    Args:
      tokenizer: whose tokens are read.
      stops: texts, none of them empty; without any, generation never stops by itself.

    Returns:
      int32 [states, vocab_size]: the state after a token, from a state. The first is where it
      begins, the last that in which a stop was seen, which it never leaves.

    Raises:
      InputError: a stop is empty.
    """
    if not all(stops):
        raise InputError("a stop string is empty; leave it out, or nothing would be generated")
    by_byte = _by_byte([stop.encode() for stop in stops])
    pieces = [tokenizer.bytes_of(token) for token in range(tokenizer.vocab_size)]
    longest = max(map(len, pieces))
    read = np.full((longest, len(pieces)), -1)
    for token, piece in enumerate(pieces):
        read[: len(piece), token] = list(piece)
    states = np.repeat(np.arange(len(by_byte))[:, None], len(pieces), axis=1)
    for byte in read:  # of all tokens at once, the first bytes, then the second ones, ...
        states = np.where(byte >= 0, by_byte[states, byte], states)
    return states.astype(np.int32)


def _by_byte(stops: Sequence[bytes]) -> np.ndarray:
    """The automaton over bytes, [states, 256]."""
    prefixes = sorted({stop[:end] for stop in stops for end in range(len(stop))} | {b""}, key=len)
    number = {prefix: at for at, prefix in enumerate(prefixes)}
    seen = len(prefixes)
    table = np.full((seen + 1, 256), seen)
    for prefix, at in number.items():
        for byte in range(256):
            text = prefix + bytes([byte])
            if not text.endswith(tuple(stops)):
                table[at, byte] = next(
                    number[text[begin:]] for begin in range(len(text) + 1) if text[begin:] in number
                )
    return table
