import pytest

from tests.evaluate.small_summaries import mean, summaries
from welm_jax.evaluate.averages import clue_average
from welm_jax.evaluate.paper_numbers import CLUE


def test_an_average_is_the_plain_mean_of_its_rows():
    found = clue_average(summaries(CLUE))
    assert found.value == pytest.approx(mean(CLUE)) == 40.625
    assert found.missing == found.stands_in == []


def test_what_is_missing_or_stands_in_is_told():
    ours = summaries(CLUE)
    ours["chid_0shot"]["stands_in"] = "7 candidates"
    del ours["cmnli_0shot"]
    zero, few = clue_average(ours), clue_average(ours, few_shot=True)
    assert (zero.missing, zero.stands_in) == (["CMNLI"], ["CHID"])
    assert zero.value == pytest.approx((8 * 40.625 - 50) / 7)
    assert few.value == pytest.approx(40.625) and few.missing == []


def test_a_few_shot_task_that_had_nothing_to_show_is_missing():
    found = clue_average(summaries(CLUE, demonstrations=0.0), few_shot=True)
    assert found.value is None and len(found.missing) == 8
