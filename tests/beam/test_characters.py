import numpy as np
import pytest

from beam_pipelines.characters import KINDS, Kind, TextBatch, hash_ngrams

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


@pytest.mark.parametrize("n", [1, 3, 13])
@pytest.mark.parametrize("seed", range(5))
def test_ngrams_are_those_of_each_text_alone(n, seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 30, size=12)
    texts = ["".join(map(chr, random.integers(0x4E00, 0x4E06, size=one))) for one in lengths]
    batch = TextBatch.of(texts)
    hashes, counts = hash_ngrams(batch.codes, batch.lengths, n)
    runs = [text[start : start + n] for text in texts for start in range(len(text) - n + 1)]
    assert counts.tolist() == [max(len(text) - n + 1, 0) for text in texts]
    assert len(hashes) == len(runs)
    # Equal runs have equal hashes, different runs different ones.
    assert len(set(zip(runs, hashes.tolist(), strict=True))) == len(set(runs)) == len(set(hashes))
