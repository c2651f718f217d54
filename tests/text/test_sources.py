import pytest

from tests.tiny_corpus import tokens_dir
from welm_jax.text.sources import TABLE_1, MixtureConfig, datasets_in, rates_in_force


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


def test_datasets_are_the_folders_with_metadata(tmp_path):
    assert datasets_in(tokens_dir()) == ["books", "english", "news"]
    (tmp_path / "without_metadata").mkdir()
    assert datasets_in(tmp_path) == datasets_in(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("datasets", "expected"),
    [
        (["mine"], {"mine": 1.0}),
        (["news"], {"news": 0.6, "books": 0.4}),  # the other one is missing, which is an error
        (["mine", "yours"], {"news": 0.6, "books": 0.4}),
        ([], {"news": 0.6, "books": 0.4}),
    ],
)
def test_one_dataset_that_no_rate_names_is_trained_on_alone(datasets, expected):
    assert rates_in_force({"news": 0.6, "books": 0.4}, datasets) == expected
