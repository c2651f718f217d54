import functools

import numpy as np
import pytest

from welm_jax.tasks import scores

# Reference, prediction, f1_cmrc, em_cmrc, f1_mlqa_zh, rouge1_char. The first by hand: of 6 and 9
# characters the longest shared run has 4, 播种扦插: 2 x 4 / (6 + 9) = .5333, where a subsequence
# would have 6, .8, as the bags do.
GOLDEN = [
    ("播种、扦插、压条", "播种扦插法及压条法", 0.5333, 0, 0.8, 0.7059),
    ("北京大学", "大学北京", 0.5, 0, 1.0, 1.0),
    ("1,609人", "1609人", 0.5, 0, 1.0, 0.9091),
    ("U.S.A.", "usa", 0.0, 0, 1.0, 0.0),
    ("微信AI推出的WeLM", "WeLM", 0.25, 0, 0.25, 0.5333),
    ("……是", "是", 0.6667, 0, 1.0, 0.5),
    ("天天向上", "天向上", 0.8571, 0, 0.8571, 0.8571),
    ("（1879年）", "1879年", 1.0, 1, 1.0, 0.8333),
]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case[0])
def test_golden_scores_of_chinese_answers(case):
    reference, prediction, *expected = case
    names = ("f1_cmrc", "em_cmrc", "f1_mlqa_zh", "rouge1_char")
    found = [scores.ANSWER_SCORES[name](reference, prediction) for name in names]
    assert found == pytest.approx(expected, abs=5e-5)


def test_runs_merge_over_the_punctuation_that_cmrc_drops():
    assert scores._cmrc_tokens("A.B. Einstein，4.5%") == ["a.b.", "einstein4.5", "%"]


@pytest.mark.parametrize("name", scores.ANSWER_SCORES)
def test_nothing_scores_nothing_and_the_reference_scores_all(name):
    score = scores.ANSWER_SCORES[name]
    reference = "the blue sky" if name.endswith(("_en", "_word")) else "蓝色的天空"
    assert score(reference, "") == 0
    assert score(reference, reference) == 1


def test_chinese_is_not_scored_by_words():
    """Google's ROUGE knows no Han characters, and would find WeLM alone in both."""
    assert scores.rouge1_word("WeLM 是模型", "WeLM 不是狗") == 1
    assert scores.rouge1_char("天天向上", "天向上") == pytest.approx(6 / 7)
    assert scores.rouge1_char("WeLM 是模型", "WeLM是模型") == 1


def test_words_of_english():
    assert scores.f1_mlqa_en("the quick fox", "a quick brown fox!") == pytest.approx(0.8)
    assert scores.rouge1_word("the cat sat", "the cat") == pytest.approx(0.8)


def test_exact_answers_forgive_width_case_blanks_and_punctuation():
    assert scores.acc_exact("ＡＢ c。", "abC") == 1
    assert scores.acc_exact("花园", "花园里") == 0
    assert scores.acc_prefix("花园", "花园里") == 1
    for score in (scores.acc_exact, scores.acc_prefix, scores.em_cmrc):
        assert score("。", "，") == score("《》", "") == 0  # nothing was said


def test_traditional_and_simplified_answers_are_the_same_if_so_asked():
    assert scores.f1_cmrc("東德", "东德") == 0.5
    assert scores.f1_cmrc_simplified("東德", "东德") == 1


def test_drcd_counts_characters_one_by_one():
    """Four of five in both; as words, 1905 and 1906 share nothing: one of two."""
    assert scores.f1_drcd("1905年", "1906年") == pytest.approx(4 / 5)
    assert scores.f1_mlqa_zh("1905年", "1906年") == pytest.approx(1 / 2)
    assert scores.f1_drcd("北京大學", "「大學」，北京") == 1
    assert scores.f1_drcd("北京", "") == scores.f1_drcd("北京", "。") == 0


def test_webqa_compares_but_for_blanks_and_case():
    assert scores.is_webqa("We LM", "w elm\u3000")
    assert not scores.is_webqa("李白", "李白。") and not scores.is_webqa("１", "1")
    assert not scores.is_webqa("", "")


def test_the_best_reference_counts():
    assert scores.best_of(scores.em_cmrc, ["天", "地"], "地") == 1


def test_bleu_names_its_tokens():
    """Of equal texts 100 whatever the tokens; 13a takes Chinese without blanks for one word."""
    references, other = [["今天天气很好我们去公园"]], ["今天天气很好我们去学校"]
    for tokenizer in ("zh", "13a"):
        value, signature = scores.bleu(references, references[0], tokenizer)
        assert f"tok:{tokenizer}" in signature
        assert value == pytest.approx(100) or tokenizer == "13a"
    assert scores.bleu(references, other, "zh")[0] > 50
    assert scores.bleu(references, other, "13a")[0] < 1
    assert "tok:ja-mecab" in scores.bleu([["猫が好きです。"]], ["犬が好きです。"], "ja-mecab")[1]


TRANSLATED = [  # references, prediction
    (["我有三本书，都很旧。", "我有三本旧书。"], "我有三本旧的书。"),
    (["今天天气很好，我们去公园。"], "今天天气不好，我们不去公园。"),
    (["他说的话没有人相信。"], ""),
    (["他们坐船过河，走了三天。", "他们乘船渡河，走了三天。"], "他们坐船过河，走三天。"),
]


@pytest.mark.parametrize("tokenizer", ["zh", "13a", "ja-mecab"])
def test_summed_counts_give_the_bleu_of_the_corpus(tokenizer):
    references, predictions = zip(*TRANSLATED, strict=True)
    value, signature = scores.bleu(references, predictions, tokenizer)
    counts = [scores.bleu_counts(*one, tokenizer) for one in TRANSLATED]
    assert scores.bleu_of_counts(np.sum(counts, axis=0)) == value
    assert "nrefs:var" in signature


def test_an_interval_of_bleu_is_of_the_bleu_of_each_resample():
    """Against sacrebleu, which reads each resample as a corpus of its own."""

    @functools.cache
    def plain(times):
        drawn = [one for one, count in zip(TRANSLATED, times, strict=True) for _ in range(count)]
        return scores.bleu(*zip(*drawn, strict=True), "zh")[0]

    groups = ["a", "b", "a", "c"]
    times = scores._resampled(np.eye(4), groups, seed=0).astype(int)
    assert (times[:, 0] == times[:, 2]).all() and (times[:, [0, 1, 3]].sum(1) == 3).all()
    expected = np.percentile([plain(tuple(one)) for one in times.tolist()], (2.5, 97.5))
    counts = np.array([scores.bleu_counts(*one, "zh") for one in TRANSLATED])
    found = scores.bleu_interval(counts, groups)
    assert found == pytest.approx(expected)
    assert found[0] < plain((1, 1, 1, 1)) < found[1]
    alone = scores.bleu_interval(counts[:1], ["a"])
    assert alone == pytest.approx([plain((1, 0, 0, 0))] * 2)


def test_strict_score_of_chunks():
    assert scores.chunk_f1(right=3, answered=4, total=6) == pytest.approx(0.6)
    assert scores.chunk_f1(right=0, answered=0, total=6) == 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("今天天气很好", "zh"),
        ("猫が好きです", "ja"),
        ("좋아하는 가수", "ko"),
        ("a fine day", "en"),
        ("使用 Python 语言", "zh"),
        ("约翰・史密斯", "zh"),
        ("1879", ""),
        ("", ""),
    ],
)
def test_the_language_by_its_script(text, language):
    assert scores.language_of(text) == language


def test_an_interval_draws_whole_groups():
    """Ten groups of fifty equal values are ten observations: the interval is that of ten."""
    values = np.array([float(group % 2) for group in range(10) for _ in range(50)])
    grouped = scores.interval(values, [at // 50 for at in range(500)])
    single = scores.interval(values, range(500))
    assert grouped[1] - grouped[0] > 5 * (single[1] - single[0]) > 0
    # Of ten fair coins the mean's 95 % is .5 +- 2 x .158.
    assert grouped == pytest.approx((0.2, 0.8), abs=0.05)
    assert (scores.interval(values, range(500)) == single).all()
    both = scores.interval(np.stack([values, 2 * values], axis=1), range(500))
    assert both == pytest.approx(np.stack([single, 2 * single], axis=1))
