import numpy as np
import pytest

from beam_pipelines.characters import (
    KINDS,
    Kind,
    TextBatch,
    folded,
    folded_words,
    hash_ngrams,
)

EXAMPLES = {
    Kind.BLANK: " \t\n\u3000\u2028\xa0",
    Kind.CONTROL: "\x00\x1f\u200b\ufeff\ufe0f",
    Kind.PUNCTUATION: "、「」《》“”：:（）()·—・~～_",
    Kind.CLAUSE_MARK: "。，！？；….,!?;",
    Kind.SYMBOL: "→★€℃㎡□\ufffd😀",
    Kind.DIGIT: "09０９",
    Kind.LATIN: "azAZéßŁＡｚ",
    Kind.HAN: "中國㐀〇々𠀀𰻞",
    Kind.KANA: "あンーｶ",
    Kind.HANGUL: "한ㄱ",
    Kind.OTHER_LETTER: "жעกम",
    Kind.BRACE: "{}｛｝",
    Kind.TAG: "#＃【】",
}


@pytest.mark.parametrize("kind", list(Kind))
def test_characters_are_of_their_kind(kind):
    wrong = {one: Kind(KINDS[ord(one)]).name for one in EXAMPLES[kind] if KINDS[ord(one)] != kind}
    assert not wrong


def test_kinds_are_counted_per_text():
    batch = TextBatch.of(["中文，a1", "", "かな"])
    assert batch.lengths.tolist() == [5, 0, 2]
    counted = [
        {Kind(kind).name: int(row[kind]) for kind in np.flatnonzero(row)} for row in batch.kinds
    ]
    assert counted == [{"HAN": 2, "CLAUSE_MARK": 1, "LATIN": 1, "DIGIT": 1}, {}, {"KANA": 2}]


RANDOM = np.random.default_rng(0)


def slow_hash(run: str) -> int:
    """The definition, in Python's own integers: a polynomial modulo 2^64, then splitmix64."""
    number = 0
    for one in run:
        number = (number * 0x9E3779B97F4A7C15 + ord(one)) % 2**64
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
    return number ^ (number >> 31)


@pytest.mark.parametrize("n", [1, 2, 3, 13, 17])
@pytest.mark.parametrize(
    "lengths",
    [
        [],
        [0],
        [0, 0, 0],
        [1, 2, 1],  # all shorter than most n
        [16, 17, 18],
        [0, 20, 0, 3],  # an empty text before others takes nothing from them
        [0, 0, 40],
        [5, 0, 40, 0, 0, 1, 19],
        *(RANDOM.integers(0, 30, 12).tolist() for _ in range(5)),
    ],
)
def test_ngrams_are_those_of_each_text_alone(n, lengths):
    texts = ["".join(map(chr, RANDOM.integers(0x4E00, 0x4E06, size=one))) for one in lengths]
    batch = TextBatch.of(texts)
    hashes, counts = hash_ngrams(batch.codes, batch.lengths, n)
    runs = [text[start : start + n] for text in texts for start in range(len(text) - n + 1)]
    assert counts.tolist() == [max(len(text) - n + 1, 0) for text in texts]
    assert hashes.tolist() == list(map(slow_hash, runs))


def text_of(codes):
    return "".join(map(chr, codes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ａb１ 中！文\n", "ab1中文"),
        ("⼈⼯智能⻓⻛", "人工智能长风"),  # radicals, as PDF files have them
        ("\uf90a\ufa19\U0002f800", "金神丽"),  # compatibility ideographs
        ("話說", "話說"),  # the other script is another text
        ("一\ud83d二\ude00", "一二"),  # lone surrogates
        ("！？", ""),
    ],
)
def test_what_counts_where_texts_are_compared(text, expected):
    codes, lengths = folded(["前", text, "", "后"])
    assert text_of(codes) == f"前{expected}后" and lengths.tolist() == [1, len(expected), 0, 1]


def marked(text):
    """A text as folded_words has it: < before the first character of a word, > behind the last."""
    codes, [length] = folded_words([text])
    assert len(codes) == length
    return "".join(
        "<" * (code >> 21 & 1) + chr(code & 0x1FFFFF) + ">" * (code >> 22)
        for code in codes.tolist()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Class 1a", "<class><1a>"),
        ("ＡＶ女優a", "<av>女优<a>"),
        ("well-known,a_b", "<well><known><a><b>"),
        ("пар\u00adоход", "<пароход>"),  # a soft hyphen
        ("cafe\u0301s", "<cafe\u0301s>"),
        ("坏 蛋，한 국かな", "坏蛋한국かな"),
        ("1★2", "<1>★<2>"),
        ("……", ""),
    ],
)
def test_words_are_marked_where_they_begin_and_end(text, expected):
    assert marked(text) == expected


def test_words_end_with_their_text():
    codes, lengths = folded_words(["ab", "", "cd", "。", "e"])
    assert lengths.tolist() == [2, 0, 2, 0, 1]
    assert [code >> 21 for code in codes.tolist()] == [1, 2, 1, 2, 3]


def test_no_texts_are_compared_without_an_error():
    for fold in (folded, folded_words):
        for texts in ([], ["", ""], ["，。", "\n"]):
            codes, lengths = fold(texts)
            assert len(codes) == 0 and lengths.tolist() == [0] * len(texts)
