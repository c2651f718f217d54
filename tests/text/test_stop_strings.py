import random

import numpy as np
import pytest

from tests import tiny_corpus
from welm_jax.failures import InputError
from welm_jax.text.stop_strings import stop_table
from welm_jax.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(tiny_corpus.tokenizer_file())


def ends_at(table, ids):
    """How many tokens are read until a stop was seen; None if none was."""
    state = 0
    for read, token in enumerate(ids, 1):
        state = table[state, token]
        if state == len(table) - 1:
            return read
    return None


def test_the_bytes_of_tokens_are_those_of_the_text(tokenizer):
    for text in ("老师在 The\t old\n", "\u2581\u3000 x", "\U0001f600"):
        ids = tokenizer.encode(text)
        assert b"".join(map(tokenizer.bytes_of, ids)) == text.encode()
    assert tokenizer.bytes_of(tokenizer.eod_id) == b""


@pytest.mark.parametrize(
    "stops", [["\n"], ["\n\n", "。"], ["老师", "师在", "\u2581"], ["aab", "ab"]]
)
def test_a_stop_is_seen_with_the_token_that_completes_it_wherever_tokens_begin(tokenizer, stops):
    """Against the text of the tokens, read one more at a time."""
    table, draw = stop_table(tokenizer, stops), random.Random(0)
    assert table.shape[1] == tokenizer.vocab_size
    for _ in range(200):
        words = draw.choices(["老", "师", "在", "a", "b", "\n", "。", " ", "\u2581", "the"], k=12)
        ids = [token for word in words for token in tokenizer.encode(word)]
        read = b""
        expected = None
        for count, token in enumerate(ids, 1):
            read += tokenizer.bytes_of(token)
            if any(stop.encode() in read for stop in stops):
                expected = count
                break
        assert ends_at(table, ids) == expected


def test_without_stops_nothing_stops(tokenizer):
    table = stop_table(tokenizer, [])
    assert np.all(table[0] == 0)


def test_an_empty_stop_is_refused(tokenizer):
    with pytest.raises(InputError, match="a stop string is empty"):
        stop_table(tokenizer, ["\n", ""])
