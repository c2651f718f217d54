import dataclasses
import math

import numpy as np
import pytest

from welm_jax.tasks import chinese, cross_lingual, judgement
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import Question

ROWS = {row.name: row for row in (*chinese.ROWS, *cross_lingual.ROWS)}


def question(choices=("甲", "乙乙", "丙丙丙"), gold=1, lengths=(1, 2, 4), name="q"):
    return Question(
        example=Example(id=name, group=name, inputs={}, choices=choices, gold=gold),
        prompt="",
        ids=[1],
        candidates=[[5] * length for length in lengths],
        texts=list(choices),
        shots=0,
        demos_dropped=0,
        passage_cut=0,
    )


def free(references, name="q"):
    example = Example(id=name, group=name, inputs={}, references=references)
    return dataclasses.replace(question(name=name), example=example, candidates=[], texts=[])


def test_each_norm_by_hand():
    """Sums of -3, -4 and -4.8 over 1, 2, 4 tokens, 1, 2, 3 characters and 3, 6, 9 bytes."""
    outcome = judgement.of_choice(ROWS["c3"], question(), [-3, -4, -4.8], [-1, -3.5, -2])
    assert outcome["losses"] == {
        "token_mean": pytest.approx([3, 2, 1.2]),
        "sum": pytest.approx([3, 4, 4.8]),
        "char_mean": pytest.approx([3, 2, 1.6]),
        "byte_mean": pytest.approx([1, 4 / 6, 4.8 / 9]),
        "pmi": pytest.approx([2, 0.5, 2.8]),
    }
    assert outcome["predicted"] == {
        "token_mean": 2,
        "sum": 0,
        "char_mean": 2,
        "byte_mean": 2,
        "pmi": 1,
    }
    assert outcome["right"]["pmi"] == 1 and outcome["right"]["token_mean"] == 0
    assert outcome["tokens"] == [1, 2, 4]


def test_long_labels_do_not_tie_for_their_losses_are_never_exponentiated():
    outcome = judgement.of_choice(ROWS["c3"], question(), [-900, -1700, -3601], [0, 0, 0])
    assert outcome["predicted"]["token_mean"] == 1


def test_the_order_of_options_changes_no_answer():
    """Ties are broken by what the options are, never by where they stand."""
    random = np.random.default_rng(0)
    for number in range(50):
        sums = random.choice([-1.0, -2.0], 3)
        order = random.permutation(3)
        one = question(lengths=(1, 1, 1), name=f"q{number}")
        turned = question(
            choices=[one.texts[at] for at in order],
            gold=list(order).index(1),
            lengths=(1, 1, 1),
            name=f"q{number}",
        )
        first = judgement.of_choice(ROWS["c3"], one, sums, [0] * 3)
        second = judgement.of_choice(ROWS["c3"], turned, sums[order], [0] * 3)
        said = [
            outcome["choices"][outcome["predicted"]["token_mean"]] for outcome in (first, second)
        ]
        assert said[0] == said[1]


def test_equal_scores_are_at_chance_wherever_the_gold_stands():
    """Of 3,000 ties over three options: a third each, within four standard deviations."""
    picked = [
        judgement.of_choice(
            ROWS["c3"], question(name=f"{at}", lengths=(1, 1, 1)), [-1.0, -1.00001, -1.0], [0] * 3
        )["predicted"]["token_mean"]
        for at in range(3000)
    ]
    shares = np.bincount(picked, minlength=3) / 3000
    assert np.abs(shares - 1 / 3).max() < 4 * math.sqrt(2 / 9 / 3000)


def test_wrong_labels_are_drawn_three_times():
    """With fifteen labels of which one is better than the right one: it is drawn 3 times in 14."""
    row = ROWS["tnews"]
    labels = [f"标{at}" for at in range(15)]
    right = []
    for number in range(600):
        one = question(choices=labels, gold=4, lengths=[1] * 15, name=f"{number}")
        sums = [-5.0] * 15
        sums[4], sums[9] = -1.0, -0.5
        outcome = judgement.of_choice(row, one, sums, [0] * 15)
        assert outcome["chance"] == 0.25 and outcome["predicted"]["token_mean"] == 9
        right.append(outcome["right"]["token_mean"])
    share = 1 - np.mean(right)
    assert share == pytest.approx(3 / 14, abs=4 * math.sqrt(3 / 14 * 11 / 14 / 1800))
    assert set(right) >= {2 / 3, 1.0}  # the mean of three draws


def test_the_right_label_stands_anywhere_among_those_drawn():
    """A quarter of 2,000 draws in each place, within four standard deviations."""
    labels = [f"标{at}" for at in range(15)]
    places = []
    for number in range(2000):
        one = question(choices=labels, gold=4, lengths=[1] * 15, name=f"{number}")
        options = judgement._options(ROWS["iflytek"], one, seed=0)
        assert len(set(options)) == 4
        places.append(options.index(4))
    shares = np.bincount(places, minlength=4) / 2000
    assert np.abs(shares - 1 / 4).max() < 4 * math.sqrt(3 / 16 / 2000)


def test_the_first_line_of_an_answer_counts():
    outcome = judgement.of_answer(ROWS["cmrc2018"], free(["苹果", "3箱苹果"]), " 苹果。 \n不是")
    assert outcome["answer"] == "苹果。"
    assert outcome["scores"] == {"f1_cmrc": 1, "em_cmrc": 1, "f1_mlqa_zh": 1}
    assert judgement.of_answer(ROWS["cmrc2018"], free(["苹果"]), "")["scores"]["f1_cmrc"] == 0


def test_an_answer_in_another_language_is_seen():
    assert not judgement.of_answer(ROWS["zh2en"], free(["a book"]), "一本书")["language_is_right"]
    assert judgement.of_answer(ROWS["zh2en"], free(["a book"]), "a pen")["language_is_right"]
    assert not judgement.of_answer(ROWS["zh2en"], free(["a book"]), "")["language_is_right"]
    assert judgement.of_answer(ROWS["zh2ja"], free(["美少年"]), "美少年")["language_is_right"]


def test_right_answers_among_those_given_and_asked_for():
    outcomes = [judgement.of_answer(ROWS["webqa"], free(["天"]), said) for said in ("天", "地", "")]
    also = judgement.summary(ROWS["webqa"], outcomes, {})["also"]
    assert also["webqa_strict"] == pytest.approx(100 * 2 / (2 + 3))


def test_webqa_strict_takes_blanks_and_case_for_nothing_and_no_more():
    """One of three right: a full stop makes a wrong answer, though acc_exact does not see it."""
    said = ("w e LM", "welm。", "地")
    outcomes = [judgement.of_answer(ROWS["webqa"], free(["天", "WeLM"]), one) for one in said]
    assert [one["scores"]["acc_exact"] for one in outcomes] == [1, 1, 0]
    assert judgement.summary(ROWS["webqa"], outcomes, {})["also"]["webqa_strict"] == pytest.approx(
        100 / 3
    )


@pytest.mark.parametrize(
    ("row", "references", "kept"),
    [
        ("cmrc2018", ["？"], []),
        ("cmrc2018", ["？", "苹果"], ["苹果"]),
        ("webqa", ["“”"], []),
        ("cft", ["——"], []),
        ("mlqa_zh_q", ["the", "a bridge"], ["a bridge"]),
        ("ncls_zh2en", ["小镇"], []),
        ("cmrc2018", ["苹果？", "(1)"], ["苹果？", "(1)"]),
        ("zh2en", ["?"], ["?"]),
    ],
)
def test_a_reference_that_a_metric_takes_away_is_left_out(row, references, kept):
    """By each row's own headline, which gives 1 to what is the reference itself."""
    usual = free(["one 1 苹果"]).example
    found, other = judgement.answerable(ROWS[row], [free(references).example, usual])
    assert other is usual
    reason = "a reference that the metric gives nothing"
    if not kept:
        assert (found.skipped, found.lacks) == (reason, "")
    else:
        assert (found.references, found.skipped) == (kept, "")
        assert found.lacks == ("" if kept == references else reason)


def test_a_metric_that_gives_nothing_to_most_is_not_taken_for_odd_data():
    """Two of three: they stay, so that the oracle fails."""
    asked = [free([one]).example for one in ("？", "。", "苹果")]
    assert judgement.answerable(ROWS["cmrc2018"], asked) == asked
    assert [one.skipped for one in judgement.answerable(ROWS["cmrc2018"], asked[1:])] == [
        "a reference that the metric gives nothing",
        "",
    ]


def test_a_summary_counts_all():
    row = ROWS["c3"]
    outcomes = [
        judgement.of_choice(row, question(name=f"{at}"), [-9, -1 if at < 3 else -99, -50], [0] * 3)
        for at in range(4)
    ]
    found = judgement.summary(row, outcomes, {"a single option": 2})
    assert (found["value"], found["scored"], found["n"]) == (75, 4, 6)
    assert found["chance"] == pytest.approx(100 / 3) and found["norm"] == "token_mean"
    cut = [{**outcomes[0], "passage_cut": 9, "demos_dropped": 2}, *outcomes[1:]]
    told = judgement.summary(row, cut, {})
    assert (told["passages_cut"], told["demos_dropped"]) == (1, 2)
    low, high = found["interval"]
    assert low < 75 <= high and found["intervals"]["token_mean"] == [low, high]
    assert found["intervals"].keys() == found["by_norm"].keys() == set(judgement.NORMS)
    assert found["region"] == "label" and found["demonstrations"] == 0


def test_a_choice_that_is_scored_with_the_text_after_it_says_so():
    outcome = judgement.of_choice(ROWS["chid"], question(), [-1, -2, -3], [0] * 3)
    assert judgement.summary(ROWS["chid"], [outcome], {})["region"] == "label_suffix"


def test_bleu_is_of_the_corpus_and_named():
    row = ROWS["zh2en"]
    answers = ["I have three books .", "You have a pen ."]
    outcomes = [judgement.of_answer(row, free([one]), one) for one in answers]
    found = judgement.summary(row, outcomes, {})
    assert found["value"] == pytest.approx(100) and "tok:13a" in found["signature"]
    assert found["interval"] == pytest.approx([100, 100])
    assert outcomes[0]["bleu_counts"] == [5, 5, 5, 4, 3, 2, 5, 4, 3, 2]  # n-grams of five words


def test_bleu_has_an_interval_by_group():
    row, references = ROWS["zh2en"], [f"we saw {at} old ships near the harbour" for at in range(6)]
    answers = [*references[:3], *["they came home without a word"] * 3]
    widths = []
    for groups in ("abcdef", "aabbcc", "aaaaaa"):
        outcomes = [
            judgement.of_answer(row, free([reference], name=group), answer)
            for reference, answer, group in zip(references, answers, groups, strict=True)
        ]
        found = judgement.summary(row, outcomes, {})
        low, high = found["interval"]
        assert low <= found["value"] <= high
        widths.append(high - low)
    assert widths[1] > widths[0] > widths[2] == 0
