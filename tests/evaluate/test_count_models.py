import math
from collections import Counter

import numpy as np
import pytest

from tests.evaluate.small_datasets import TEXTS
from welm_jax.evaluate import count_models
from welm_jax.evaluate.count_models import CountModel, SymbolStream

A, B, END, UNSEEN = 0, 1, 2, 3
# Two documents, "ab" and "a": the targets are a b END a END.
TRAINING = SymbolStream.of([[A, B], [A]], END)


def test_stream_puts_end_marks_before_each_document_and_predicts_the_one_behind_it():
    assert TRAINING.symbols.tolist() == [END, END, A, B, END, END, END, A, END]
    assert TRAINING.is_target.tolist() == [False, False, True, True, True, False, False, True, True]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # 5 targets, 3 distinct, base 1/4: p(a) = (2 + 3/4) / 8 and so on.
        (1, [2.75 / 8, 1.75 / 8, 2.75 / 8]),
        # END is followed by a twice (1 distinct), a by b and END (2), b by END (1).
        (2, [(2 + 2.75 / 8) / 3, (1 + 2 * 1.75 / 8) / 4, (1 + 2.75 / 8) / 2]),
        # The same contexts, one symbol longer, each with the bigram below it.
        (3, [(2 + 0.78125) / 3, (1 + 2 * 0.359375) / 4, (1 + 0.671875) / 2]),
    ],
)
def test_witten_bell_worked_by_hand(order, expected):
    model = CountModel(TRAINING, order, num_symbols=4)
    asked = SymbolStream.of([[A, B]], END)
    np.testing.assert_allclose(model.probabilities(asked)[-1], expected, rtol=1e-14)
    np.testing.assert_allclose(model.bits(asked)[-1], -np.log2(expected).sum(), rtol=1e-14)


def test_context_never_seen_passes_the_question_to_the_shorter_one():
    # After an unseen symbol, b is asked for by its unigram 1.75 / 8.
    model = CountModel(TRAINING, 3, num_symbols=4)
    asked = model.probabilities(SymbolStream.of([[UNSEEN, B]], END))[-1]
    # The unseen symbol itself: unigram .75/8, then twice the share of a context seen 2 times.
    np.testing.assert_allclose(asked[0], (0.75 / 8) / 3 / 3, rtol=1e-14)
    np.testing.assert_allclose(asked[1], 1.75 / 8, rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_after_any_context_add_up_to_one(seed):
    random = np.random.default_rng(seed)
    num_symbols, end = 12, 11
    documents = [random.integers(0, 7, random.integers(1, 9)).tolist() for _ in range(20)]
    model = CountModel(SymbolStream.of(documents, end), 3, num_symbols)
    for context in ([], [3], [3, 5], [6, 6, 1], [9], [9, 2], [2, 10]):
        # The last target but one of each document is the candidate; END is the last one.
        candidates = [SymbolStream.of([[*context, symbol]], end) for symbol in range(end)]
        total = sum(model.probabilities(one)[:, -2] for one in candidates)
        total += model.probabilities(SymbolStream.of([context], end))[:, -1]
        np.testing.assert_allclose(total, [1, 1, 1], rtol=1e-12)


def test_longer_contexts_help_where_there_is_something_to_learn():
    # A random walk on a ring of 50: two symbols back tell more than one, one more than none.
    random = np.random.default_rng(0)
    steps = np.where(random.random((400, 100)) < 0.9, 1, -1).cumsum(axis=1) % 50
    training, held_out = SymbolStream.of(steps[:300], 50), SymbolStream.of(steps[300:], 50)
    unigram, bigram = CountModel(training, 2, 51).bits(held_out)
    assert bigram < 0.2 * unigram
    # On noise they must not: a trigram pays for the contexts it believed in.
    noise = random.integers(0, 50, (400, 100))
    training, held_out = SymbolStream.of(noise[:300], 50), SymbolStream.of(noise[300:], 50)
    unigram, bigram, trigram = CountModel(training, 3, 51).bits(held_out)
    assert unigram < bigram < trigram


def test_sources_are_scored_apart_and_together(folders, tokenizer):
    bits = count_models.bits_per_character(folders, tokenizer)
    assert list(bits) == [*count_models.CHARACTER_MODELS, *count_models.TOKEN_MODELS]
    characters = {source: sum(map(len, texts["heldout"])) for source, texts in TEXTS.items()}
    for name, of_model in bits.items():
        assert list(of_model) == [*TEXTS, "all"], name
        total = sum(of_model[source] * characters[source] for source in TEXTS)
        np.testing.assert_allclose(of_model["all"], total / sum(characters.values()))


def test_documents_come_back_from_rows_and_end_marks_are_charged(folders, tokenizer):
    # By counting letters in the texts themselves; 2 documents of news, 13 characters.
    training = [text for texts in TEXTS.values() for text in texts["train"]]
    held_out = TEXTS["news"]["heldout"]
    counts = Counter("".join(training)) + Counter({"end": len(training)})
    total, distinct = sum(counts.values()), len(counts)

    def bits(symbol):
        base = distinct / count_models.CHARACTER_SYMBOLS
        return -math.log2((counts[symbol] + base) / (total + distinct))

    expected = sum(map(bits, "".join(held_out))) + 2 * bits("end")
    found = count_models.bits_per_character(folders, tokenizer)["character unigram"]["news"]
    np.testing.assert_allclose(found, expected / 13, rtol=1e-12)


def test_token_models_are_over_the_tokens_of_the_dataset(folders, tokenizer):
    def stream(documents):
        return SymbolStream.of([tokenizer.encode(text) for text in documents], tokenizer.eod_id)

    training = [text for texts in TEXTS.values() for text in texts["train"]]
    model = CountModel(stream(training), 2, tokenizer.vocab_size)
    expected = model.bits(stream(TEXTS["books"]["heldout"]))[-1] / 60
    found = count_models.bits_per_character(folders, tokenizer)["token bigram"]["books"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_text_too_large_to_count_gives_no_baselines(folders, tokenizer, monkeypatch):
    characters = sum(len(text) for texts in TEXTS.values() for text in texts["train"])
    monkeypatch.setattr(count_models, "LARGEST_TRAINING_TEXT", characters - 1)
    assert count_models.bits_per_character(folders, tokenizer) == {}
    monkeypatch.setattr(count_models, "LARGEST_TRAINING_TEXT", characters)
    assert count_models.bits_per_character(folders, tokenizer)
