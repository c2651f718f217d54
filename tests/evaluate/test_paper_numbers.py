import statistics

import pytest

from welm_jax.evaluate.paper_numbers import COMMON, TABLE_3, TABLE_5
from welm_jax.tasks import chinese, cross_lingual

# As the specification has them, of its own numbers. It rounds 53.735 down and 63.405 up; to two
# places either is right.
MEANS = {
    "mean of the 14 common rows": [40.22, 44.45, 52.78, 54.36, 57.07, 49.23, 59.77, 61.21],
    "CLUE average": [53.73, 55.43, 58.98, 59.99, 61.84, 58.93, 63.41, 63.93],
}


@pytest.mark.parametrize("title", MEANS)
def test_means_of_the_papers_columns(title):
    names = TABLE_3.means[title]
    found = [
        statistics.fmean(column)
        for of in (TABLE_3.zero, TABLE_3.few)
        for column in zip(*(of[name] for name in names), strict=True)
    ]
    assert found == pytest.approx(MEANS[title], abs=0.00501)


def test_common_rows_are_those_that_all_models_have():
    whole = {name for name in TABLE_3.zero if None not in TABLE_3.zero[name] + TABLE_3.few[name]}
    assert set(COMMON) == whole and len(COMMON) == len(whole) == 14


@pytest.mark.parametrize(
    ("paper", "rows"), [(TABLE_3, chinese.ROWS), (TABLE_5, cross_lingual.ROWS)]
)
def test_every_row_has_a_number_a_column(paper, rows):
    for columns, numbers in ((paper.zero_shot, paper.zero), (paper.few_shot, paper.few)):
        assert set(numbers) == {row.name for row in rows}
        assert {len(one) for one in numbers.values()} == {len(columns)}


def test_the_columns_of_wsc2020_are_not_of_one_test_set():
    """A percentage of n examples is some k of n: which n fit the figures of each model."""
    cpm, pangu, ernie, *welm = TABLE_3.zero["wsc2020"]
    pangu_few, *welm_few = TABLE_3.few["wsc2020"]

    def fit(*figures):
        return {
            n
            for n in (37, 108, 304)
            if all(any(round(100 * k / n, 2) == one for k in range(n + 1)) for one in figures)
        }

    assert fit(*welm, *welm_few) == {108}
    assert fit(cpm, pangu, pangu_few) == {304}
    assert fit(ernie) == {37}
