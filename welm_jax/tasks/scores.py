"""Scores of answers, each under a name that says which of its namesakes it is.

Pure functions of text: no model, no seqio, no TensorFlow. Those of one answer give a number from 0
to 1, where nothing was answered 0. Four scores of Chinese answers go by the name of F1 and several
by that of ROUGE-1; none is called so here.
"""

import collections
import functools
import itertools
import re
import string
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

HAN = "\u4e00-\u9fa5"
RESAMPLES, BOUNDS = 2000, (2.5, 97.5)  # of a bootstrap; the percentiles that are 95 % apart
# What the CMRC 2018 evaluation takes away; ASCII full stops, commas and brackets are not in it.
CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

Score = Callable[[str, str], float]  # of (reference, prediction)


def best_of(score: Score, references: Sequence[str], prediction: str) -> float:
    """The largest score of a prediction over all references."""
    return max(score(reference, prediction) for reference in references)


def f1_cmrc(reference: str, prediction: str) -> float:
    """F1 of the longest run of tokens that both share, as CMRC 2018 counts it.

    Tokens are Han characters and, of all else, what NLTK takes for words; runs merge over the
    punctuation that is dropped, as they do there.

    Source: ymcui/cmrc2018, squad-style-data/cmrc2018_evaluate.py.
    """
    ours, theirs = _cmrc_tokens(prediction), _cmrc_tokens(reference)
    return _f1(_longest_common_run(theirs, ours), len(ours), len(theirs))


def em_cmrc(reference: str, prediction: str) -> float:
    """Whether both are the same but for case and the punctuation of CMRC 2018."""
    said = _without_cmrc_punctuation(prediction)
    return float(bool(said) and _without_cmrc_punctuation(reference) == said)


def f1_drcd(reference: str, prediction: str) -> float:
    """F1 of the bags of characters, as DRCD's authors count it: blanks and punctuation left out.

    Latin letters and figures count one by one, as Han characters do.
    """
    bags = ("".join(_mlqa(text).split()) for text in (reference, prediction))
    return _bag_f1(*bags)


def f1_cmrc_simplified(reference: str, prediction: str) -> float:
    """F1 of CMRC 2018 after both were turned into Simplified Chinese: DRCD is Traditional."""
    return f1_cmrc(to_simplified(reference), to_simplified(prediction))


def f1_mlqa_zh(reference: str, prediction: str) -> float:
    """F1 of the bags of tokens, as MLQA counts it for Chinese: Han characters and words.

    Source: facebookresearch/MLQA, mlqa_evaluation_v1.py.
    """
    return _bag_f1(_mixed_tokens(_mlqa(reference)), _mixed_tokens(_mlqa(prediction)))


def f1_mlqa_en(reference: str, prediction: str) -> float:
    """The same for English: words, without articles."""
    reference, prediction = (
        re.sub(r"\b(a|an|the)\b", " ", _mlqa(text)).split() for text in (reference, prediction)
    )
    return _bag_f1(reference, prediction)


def rouge1_char(reference: str, prediction: str) -> float:
    """F of the characters that both share, counted as often as they occur, blanks left out.

    The paper says ROUGE-1 and no unit. Google's rouge_score knows no Chinese: it gives 0 to equal
    texts; others count each kind of character once.
    """
    return _bag_f1("".join(reference.split()), "".join(prediction.split()))


def rouge1_word(reference: str, prediction: str) -> float:
    """ROUGE-1 of English words by Google's rouge_score, without stemming."""
    return _google_rouge().score(reference, prediction)["rouge1"].fmeasure


def acc_exact(reference: str, prediction: str) -> float:
    """Whether both are the same but for width, case, blanks and punctuation."""
    return float(bool(_plain(prediction)) and _plain(reference) == _plain(prediction))


def acc_prefix(reference: str, prediction: str) -> float:
    """Whether the prediction begins with the reference, compared as acc_exact does: a diagnosis."""
    wanted = _plain(reference)
    return float(bool(wanted) and _plain(prediction).startswith(wanted))


ANSWER_SCORES: Mapping[str, Score] = {
    score.__name__: score
    for score in (
        f1_cmrc,
        f1_drcd,
        f1_cmrc_simplified,
        em_cmrc,
        f1_mlqa_zh,
        f1_mlqa_en,
        rouge1_char,
        rouge1_word,
        acc_exact,
        acc_prefix,
    )
}


def bleu(
    references: Sequence[Sequence[str]], predictions: Sequence[str], tokenizer: str
) -> tuple[float, str]:
    """Corpus BLEU by sacrebleu, 0 to 100, and the signature that says which.

    Args:
      references: of each prediction; some may have more than others.
      predictions: in the same order.
      tokenizer: sacrebleu's name: `zh`, `13a` or `ja-mecab`.
    """
    metric = _sacrebleu(tokenizer)
    by_place = [list(one) for one in itertools.zip_longest(*references)]
    found = metric.corpus_score(list(predictions), by_place)
    return found.score, str(metric.get_signature())


def bleu_counts(references: Sequence[str], prediction: str, tokenizer: str) -> list[int]:
    """What BLEU knows of one prediction: summed over a corpus, these give the corpus its BLEU.

    Returns:
      Ten numbers: tokens of the prediction and of the closest reference, then n-grams of length
      1 to 4 that are right, and that there are.
    """
    found = _sacrebleu(tokenizer).corpus_score([prediction], [[one] for one in references])
    return [found.sys_len, found.ref_len, *found.counts, *found.totals]


def bleu_of_counts(counts: Sequence[float]) -> float:
    """Corpus BLEU, 0 to 100, of summed `bleu_counts`; the tokenizer no longer matters."""
    metric, (predicted, wanted, *grams) = _sacrebleu("none"), map(int, counts)
    return metric.compute_bleu(
        correct=grams[:4],
        total=grams[4:],
        sys_len=predicted,
        ref_len=wanted,
        smooth_method=metric.smooth_method,
    ).score


def is_webqa(reference: str, prediction: str) -> bool:
    """Whether both are the same but for blanks and case, as WebQA compares answers.

    Source: F1Stats of WebQA's evaluation scripts, not fuzzy.
    """
    one, other = ("".join(text.split()).lower() for text in (reference, prediction))
    return bool(other) and one == other


def chunk_f1(right: int, answered: int, total: int) -> float:
    """WebQA's strict score: F1 of right answers among those given and those asked for."""
    return _f1(right, answered, total)


def to_simplified(text: str) -> str:
    """A text with Simplified Chinese in place of Traditional."""
    return _opencc().convert(text)


def language_of(text: str) -> str:
    """The language whose script a text is mostly in: zh, ja, ko, en, or none of them ('')."""
    kana, hangul, han, latin = (
        len(re.findall(f"[{script}]", text))
        # Without the dot and the long stroke of kana, which Chinese uses too.
        for script in (
            "\u3041-\u30fa",
            "\uac00-\ud7a3",
            "\u4e00-\u9fff\u3400-\u4dbf",
            "A-Za-z",
        )
    )
    if kana + hangul + han + latin == 0:
        return ""
    # A Han character says about as much as three letters.
    if 3 * (han + kana + hangul) < latin:
        return "en"
    if hangul > max(han, kana):
        return "ko"
    return "ja" if kana > 0.1 * (han + kana) else "zh"


def interval(
    values: Shaped[np.ndarray, "N ..."], groups: Sequence[Hashable], seed: int = 0
) -> Float[np.ndarray, "2 ..."]:
    """A 95 % interval of the mean by bootstrap, drawing whole groups.

    Questions about one passage stand and fall together: drawn one by one, they would seem to be
    more evidence than they are.

    Args:
      values: one an example, or a row of K, whose means then get an interval each, [N] or [N, K].
      groups: of the examples; equal ones are drawn together.
      seed: of the draws.

    Returns:
      The 2.5th and 97.5th percentile over 2,000 resamples, [2] or [2, K].
    """
    sums = _resampled(np.column_stack([values, np.ones(len(values))]), groups, seed)
    means = (sums[:, :-1] / sums[:, -1:]).reshape(RESAMPLES, *values.shape[1:])
    return np.percentile(means, BOUNDS, axis=0)


def bleu_interval(
    counts: Shaped[np.ndarray, "N 10"], groups: Sequence[Hashable], seed: int = 0
) -> Float[np.ndarray, "2"]:
    """The same of corpus BLEU, which is no mean: it is computed anew for each resample.

    Args:
      counts: of each prediction, as `bleu_counts` gives them.
      groups: of the examples.
      seed: of the draws.
    """
    drawn = _resampled(counts, groups, seed)
    return np.percentile([bleu_of_counts(one) for one in drawn.tolist()], BOUNDS)


def _resampled(
    columns: Shaped[np.ndarray, "N K"], groups: Sequence[Hashable], seed: int
) -> Float[np.ndarray, "R K"]:
    """The sums of columns over resamples, each of as many whole groups as there are."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(places), columns.shape[1]))
    np.add.at(sums, [places[group] for group in groups], columns)
    random, equal = np.random.default_rng(seed), np.full(len(sums), 1 / len(sums))
    blocks = (random.multinomial(len(sums), equal, RESAMPLES // 20) for _ in range(20))
    return np.concatenate([drawn @ sums for drawn in blocks])


@functools.cache
def _sacrebleu(tokenizer: str):
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenizer)


def _f1(shared: int, of_prediction: int, of_reference: int) -> float:
    if not shared:
        return 0.0
    precision, recall = shared / of_prediction, shared / of_reference
    return 2 * precision * recall / (precision + recall)


def _bag_f1(reference: Sequence[str], prediction: Sequence[str]) -> float:
    shared = collections.Counter(reference) & collections.Counter(prediction)
    return _f1(shared.total(), len(prediction), len(reference))


def _longest_common_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest contiguous run that both hold."""
    longest, ending_here = 0, [0] * (len(other) + 1)
    for token in one:
        before = 0  # of the run that ended one token earlier in both
        for place, theirs in enumerate(other, 1):
            length = before + 1 if token == theirs else 0
            before, ending_here[place] = ending_here[place], length
            longest = max(longest, length)
    return longest


def _without_cmrc_punctuation(text: str) -> str:
    return "".join(one for one in text.lower().strip() if one not in CMRC_PUNCTUATION)


def _cmrc_tokens(text: str) -> list[str]:
    return [
        token
        for part in re.findall(f"[{HAN}]|[^{HAN}]+", _without_cmrc_punctuation(text))
        for token in ([part] if re.match(f"[{HAN}]", part) else _nltk().tokenize(part))
    ]


@functools.cache
def _nltk():
    # Not nltk.word_tokenize: that first parts sentences, with a model that has to be downloaded.
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@functools.cache
def _opencc():
    from opencc import OpenCC

    return OpenCC("t2s")


@functools.cache
def _google_rouge():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1"])


def _mlqa(text: str) -> str:
    return "".join(one for one in text.lower() if not _is_punctuation(one))


def _mixed_tokens(text: str) -> list[str]:
    return re.findall(rf"[{HAN}]|[^{HAN}\s]+", text)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).lower()
    return "".join(
        one for one in folded if not (one.isspace() or unicodedata.category(one)[0] == "P")
    )


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] == "P"
