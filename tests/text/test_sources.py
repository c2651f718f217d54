import pytest

from welm_jax.text.sources import TABLE_1, MixtureConfig


def test_shares_of_table_1_add_up_to_one():
    assert sum(source.proportion for source in TABLE_1.values()) == pytest.approx(1, abs=1e-12)


def test_table_1_repeats_news_and_forums_ten_times_over_300_billion_tokens():
    # 300e9 * share / remaining tokens; the paper trains on "over 300B tokens".
    epochs = {
        name: 300e9 * source.proportion / source.remaining_tokens
        for name, source in TABLE_1.items()
    }
    expected = {"common_crawl": 0.76, "books": 1.88, "news": 10.5, "forums": 10.5, "academic": 3.85}
    assert epochs == pytest.approx(expected, abs=0.03)


def test_remaining_tokens_add_up_to_the_papers_262_billion():
    # 263.7 from the rounded rows; the text says 262B.
    assert sum(source.remaining_tokens for source in TABLE_1.values()) == pytest.approx(
        262e9, rel=0.01
    )


def test_rates_are_table_1_unless_told_otherwise():
    rates = MixtureConfig(tokens_dir="unused").rates
    assert rates == {name: source.proportion for name, source in TABLE_1.items()}
