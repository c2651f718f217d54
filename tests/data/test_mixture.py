import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from tests.tiny_corpus import SEQUENCE_TOKENS, VOCAB_SIZE, tokenizer_file, tokens_dir
from welm_jax.data.mixture import BLOCK, block_pattern, compile_mixture, quotas
from welm_jax.data.token_dataset import TokenDataset
from welm_jax.failures import InputError
from welm_jax.text.sources import TABLE_1, MixtureConfig
from welm_jax.text.tokenizer import Tokenizer

RATES = {"news": 0.5, "books": 0.3, "english": 0.2}
PAPER = {name: source.proportion for name, source in TABLE_1.items()}


def config(**changes):
    return MixtureConfig(**({"tokens_dir": str(tokens_dir()), "rates": RATES} | changes))


def test_quotas_of_table_1_are_its_shares():
    expected = {"common_crawl": 506, "books": 387, "news": 67, "forums": 35, "academic": 5}
    assert quotas(PAPER) == expected


@pytest.mark.parametrize("seed", range(50))
def test_quotas_add_up_and_stay_within_one_sample_of_the_rates(seed):
    draw = np.random.default_rng(seed)
    shares = draw.uniform(0.01, 1, draw.integers(1, 12))
    samples = quotas({str(name): float(share) for name, share in enumerate(shares)})
    assert sum(samples.values()) == BLOCK
    exact = BLOCK * shares / shares.sum()
    assert np.abs(np.array(list(samples.values())) - exact).max() < 1


def test_rates_need_not_add_up_to_one_and_zero_leaves_a_source_out():
    assert quotas({"a": 3.0, "b": 1.0, "c": 0.0}) == {"a": 750, "b": 250}


@pytest.mark.parametrize(
    "rates, message",
    [
        ({"a": 1.0, "b": 0.0001}, "rate 0.0001 of b is less than one sample in 1000; .* 0.001"),
        ({"a": 1.0, "b": -0.1}, "each must be at least 0 and one above 0"),
        ({"a": 0.0}, "each must be at least 0 and one above 0"),
        ({}, "each must be at least 0 and one above 0"),
    ],
)
def test_impossible_rates_are_refused(rates, message):
    with pytest.raises(InputError, match=message):
        quotas(rates)


def test_pattern_worked_by_hand():
    # Samples of 2 lie at 1/4 and 3/4 of the block, those of 4 at 1/8, 3/8, 5/8, 7/8.
    pattern = block_pattern([2, 4])
    assert pattern == [(1, 0), (0, 0), (1, 1), (1, 2), (0, 1), (1, 3)]


@pytest.mark.parametrize("start", [0, 1, 999, 123_456, 10**12 + 7])
@pytest.mark.parametrize(
    "rates", [PAPER, RATES, {"a": 42.9, "b": 35.0, "c": 15.0, "d": 6.4, "e": 0.7}]
)
def test_shares_are_exact_in_any_thousand_samples(rates, start):
    samples = list(quotas(rates).values())
    pattern = block_pattern(samples)
    window = Counter(pattern[n % BLOCK][0] for n in range(start, start + BLOCK))
    assert [window[source] for source in range(len(samples))] == samples


def test_shares_are_even_inside_a_block_too():
    pattern = block_pattern(list(quotas(PAPER).values()))
    crawl = np.cumsum([source == 0 for source, _ in pattern])
    assert np.abs(crawl - 0.506 * np.arange(1, BLOCK + 1)).max() < 2


def test_compiled_mixture_is_the_contract():
    compiled = compile_mixture(config(seed=3))
    assert json.loads(json.dumps(compiled)) == compiled
    sources = compiled.pop("sources")
    assert compiled == {
        "format": 1,
        "mixture": "welm_pretraining",
        "rates": RATES,
        "seed": 3,
        "sequence_tokens": SEQUENCE_TOKENS,
        "vocab_size": VOCAB_SIZE,
        "tokenizer_sha256": Tokenizer(tokenizer_file()).sha256,
        "block": 1000,
    }
    assert [source["name"] for source in sources] == ["books", "english", "news"]
    assert [source["quota"] for source in sources] == [300, 200, 500]
    for source in sources:
        folder = tokens_dir() / source["name"]
        metadata = (folder / "token_metadata.json").read_bytes()
        assert source["folder"] == str(folder)
        assert source["rows"] == len(TokenDataset(folder, "train"))
        assert source["fingerprint"] == hashlib.sha256(metadata).hexdigest()


def test_order_in_which_gin_names_the_rates_does_not_matter():
    backwards = dict(reversed(RATES.items()))
    assert compile_mixture(config(rates=backwards)) == compile_mixture(config())


def test_source_of_rate_zero_is_left_out():
    compiled = compile_mixture(config(rates=RATES | {"english": 0.0, "not_even_there": 0.0}))
    assert [source["name"] for source in compiled["sources"]] == ["books", "news"]


@pytest.mark.parametrize(
    "rates, message",
    [
        ({"new": 1.0}, "source new has a rate but no token dataset .*did you mean news"),
        ({"zzz": 1.0}, "source zzz has a rate .*there are books, english, news"),
        ({"news": 0.0}, "each must be at least 0 and one above 0"),
        ({"news": 1.0, "books": 1e-5}, "rate 1e-05 of books is less than one sample in 1000"),
    ],
)
def test_rates_that_cannot_be_trained_on_are_refused(rates, message):
    with pytest.raises(InputError, match=message):
        compile_mixture(config(rates=rates))


@pytest.mark.parametrize("field, value", [("tokenizer_sha256", "ab" * 32), ("sequence_tokens", 64)])
def test_sources_that_do_not_go_together_are_refused_by_name(tmp_path, field, value):
    shutil.copytree(tokens_dir(), tmp_path / "tokens")
    path = tmp_path / "tokens" / "news" / "token_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(
        InputError, match=f"books and news do not go together: {field} is .*{value}"
    ):
        compile_mixture(config(tokens_dir=str(tmp_path / "tokens")))


def test_one_source_alone_needs_no_rate(tmp_path):
    shutil.copytree(tokens_dir() / "news", tmp_path / "mine")
    compiled = compile_mixture(config(tokens_dir=str(tmp_path)))
    assert compiled["rates"] == {"mine": 1.0}
    assert [(one["name"], one["quota"]) for one in compiled["sources"]] == [("mine", BLOCK)]
    with pytest.raises(InputError, match="source books has a rate but no token dataset"):
        compile_mixture(config(tokens_dir=str(tmp_path), mixture="of_a_user"))
