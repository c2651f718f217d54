import hashlib
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

from beam_pipelines import dedup
from beam_pipelines.characters import hash_ngrams, scramble
from beam_pipelines.document import document_id
from beam_pipelines.near_signatures import SIGNATURES, Signature


def passage(seed: int, characters: int) -> str:
    """Text of its own: two passages of different seeds share almost no 3-gram."""
    random = np.random.default_rng(seed)
    return "".join(map(chr, random.integers(0x4E00, 0x8000, size=characters)))


def edited(text: str, share: float, seed: int = 0) -> str:
    """The text with this share of its characters replaced."""
    random = np.random.default_rng(seed)
    changed = random.random(len(text)) < share
    return "".join(
        chr(int(random.integers(0x8000, 0x9F00))) if change else one
        for one, change in zip(text, changed, strict=True)
    )


def jaccard(one: str, other: str) -> float:
    grams = [{text[start : start + 3] for start in range(len(text) - 2)} for text in (one, other)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


MINHASH, SIMHASH = SIGNATURES["minhash"], SIGNATURES["simhash"]


def keys_of(texts: list[str], signature: Signature = MINHASH) -> np.ndarray:
    return dedup.make_keys(texts, [document_id(text) for text in texts], 0, 0, signature)


class Displaced(NamedTuple):
    row: int
    displaced_by: str


def lost(texts: list[str], parts: int = 1, signature: Signature = MINHASH) -> set[int]:
    """The rows that the near-duplicate stage drops."""
    return {one.row for one in displaced(texts, parts, signature)}


def displaced(texts: list[str], parts: int, signature: Signature) -> list[Displaced]:
    """Runs the near-duplicate stage as the recipe wires it."""
    return near_lost(keys_of(texts, signature), parts, signature)


def near_lost(keys: np.ndarray, parts: int, signature: Signature) -> list[Displaced]:
    bands = by_part(dedup.deal_bands(keys, parts))
    pairs = by_part(pair for met in bands.values() for pair in dedup.candidate_pairs(met, parts))
    sketches = by_part(dedup.deal_sketches(keys, parts, signature))
    met = ({"sketches": sketches.get(n, []), "pairs": pairs.get(n, [])} for n in range(parts))
    sent = by_part(one for joined in met for one in dedup.challenges(joined, parts))
    met = ({"sketches": sketches.get(n, []), "challenges": sent.get(n, [])} for n in range(parts))
    found = by_part(one for joined in met for one in dedup.lost_to(joined, signature))
    return told([one for arrays in found.values() for one in arrays])


def by_part(dealt: dedup.Parts) -> dict[int, list[np.ndarray]]:
    gathered: dict[int, list[np.ndarray]] = {}
    for part, records in dealt:
        gathered.setdefault(part, []).append(records)
    return gathered


def told(arrays: list[np.ndarray]) -> list[Displaced]:
    return [
        Displaced(int(one["row"]), dedup.name_of(one["displaced_by"]))
        for lost in arrays
        for one in lost
    ]


@pytest.mark.parametrize(
    "copy",
    [
        "话说 天下大势，分久必合？合久必分：Ａbc１",
        "　话说天下大势\n分久必合。\r\n合久必分——《aBC1》",
        "话说天下大势分久必合合久必分abc1\u200b",
    ],
)
def test_exact_keys_ignore_blanks_punctuation_width_and_case(copy):
    keys = keys_of(["话说天下大势，分久必合，合久必分。ABC1", copy])
    assert keys["exact"][0].tolist() == keys["exact"][1].tolist()


@pytest.mark.parametrize(
    "other", ["话说天下大事", "话说天下大势1", "話說天下大勢", "话说天下大势→"]
)
def test_one_changed_character_makes_another_key(other):
    keys = keys_of(["话说天下大势", other])
    assert keys["exact"][0].tolist() != keys["exact"][1].tolist()


def test_the_exact_key_is_md5_of_what_counts():
    [key] = keys_of(["话说　天下！ＡＢ"])
    expected = hashlib.md5("话说天下ab".encode("utf-32-le")).hexdigest()
    assert dedup.attributes(key) == {"md5": expected}


def test_of_exact_duplicates_the_longest_stays_then_the_smallest_id():
    texts = ["春眠不觉晓", "春眠，不觉晓。", "春眠不觉晓！！", "夜来风雨声", "夜来 风雨声"]
    keys = keys_of(texts)
    unique, repeats = dedup.split_exact_duplicates([keys[:2], keys[2:]])
    best = min((1, 2), key=lambda row: document_id(texts[row]))
    assert sorted(unique["row"].tolist()) == sorted([best, 4])
    names = {0: best, 1: best, 2: best, 3: 4}
    assert {one.row: one.displaced_by for one in told([repeats])} == {
        row: document_id(texts[to]) for row, to in names.items() if row != best
    }
    reversed_unique, _ = dedup.split_exact_duplicates([keys[::-1]])
    assert reversed_unique["row"].tolist() == unique["row"].tolist()


def test_texts_of_marks_alone_are_not_duplicates_of_one_another():
    keys = keys_of(["……！！", "——？？", "春眠不觉晓"])
    [(_, dealt)] = dedup.deal_keys(keys, 1)
    assert dealt["row"].tolist() == [2]


def test_keys_do_not_depend_on_the_batch():
    texts = [passage(seed, 20 + 97 * seed) for seed in range(12)]
    together = keys_of(texts)
    for row, text in enumerate(texts):
        [alone] = keys_of([text])
        for name in ("exact", "bands", "sketch", "folded"):
            assert np.array_equal(alone[name], together[row][name])


def test_no_texts_have_no_keys():
    assert len(keys_of([])) == 0


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.06, 0.12])
def test_sketches_estimate_the_jaccard_similarity(share):
    originals = [passage(seed, 500) for seed in range(40)]
    copies = [edited(text, share, seed) for seed, text in enumerate(originals)]
    true = np.array([jaccard(*pair) for pair in zip(originals, copies, strict=True)])
    sketches = keys_of(originals)["sketch"], keys_of(copies)["sketch"]
    estimated = (sketches[0] == sketches[1]).mean(axis=1)
    # 40 means of 64 coin flips: the standard error of their mean is at most 0.5 / sqrt(2560).
    assert abs((estimated - true).mean()) < 3 * 0.5 / np.sqrt(40 * 64)
    assert np.abs(estimated - true).max() < 4 * 0.5 / np.sqrt(64)


@pytest.mark.parametrize("parts", [1, 3])
def test_near_copies_are_found_and_others_are_not(parts):
    originals = [passage(seed, 300 + 10 * seed) for seed in range(60)]
    copies = [edited(text, 0.01, seed)[:-3] for seed, text in enumerate(originals[:40])]
    assert min(map(jaccard, originals, copies)) > 0.8
    found = lost(originals + copies, parts=parts)
    assert found <= set(range(60, 100))  # the copies, for they are shorter; nothing else
    assert len(found) >= 39  # P(no band agrees | J = 0.8) = (1 - 0.8^8)^16 = 0.05, here J is above


def test_candidates_below_the_threshold_stay(monkeypatch):
    original = passage(1, 600)
    related = edited(original, 0.02)
    assert 0.8 < jaccard(original, related) < 0.9  # a candidate all but surely
    assert len(lost([original, related])) == 1
    monkeypatch.setattr(MINHASH, "min_jaccard", 0.97)
    assert lost([original, related]) == set()


def test_short_texts_take_no_part_in_the_near_stage():
    short = passage(1, dedup.MIN_NEAR_CHARACTERS - 1)
    assert lost([short, short + "。"]) == set()
    long = passage(1, dedup.MIN_NEAR_CHARACTERS)
    assert lost([long, long + "。"]) == {0}


def test_a_crowded_bucket_is_compared_with_its_best_only(monkeypatch):
    monkeypatch.setattr(dedup, "_MAX_RIVALS", 2)
    texts = [passage(1, 200) + "。" * number for number in range(30)]
    [(_, bands)] = dedup.deal_bands(keys_of(texts), 1)
    # The best meets none before it, the second one, the other 28 two each.
    [(_, pairs)] = dedup.candidate_pairs([bands], 1)
    assert len(pairs) == 1 + 2 * 28
    assert lost(texts) == set(range(29))


def test_who_displaced_whom_is_the_best_of_its_verified_duplicates():
    long = passage(1, 400)
    texts = [long[:-6], long, long[:-3], passage(2, 400)]
    found = {one.row: one.displaced_by for one in displaced(texts, 1, MINHASH)}
    assert found == {0: document_id(long), 2: document_id(long)}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("signature", [MINHASH, SIMHASH])
def test_a_contaminated_text_displaces_no_clean_one(signature, parts):
    """What is lost of the clean ones is what would be if the others were not there."""
    texts, leaks = [], []
    for seed in range(12):
        long = passage(seed, 400)
        texts += [long, long[:-2], long[:-4], long[:-6]]
        leaks += np.random.default_rng(seed).permutation([True, True, False, False]).tolist()
    ids = [document_id(text) for text in texts]
    clean = np.flatnonzero(~np.array(leaks))
    keys = dedup.make_keys(texts, ids, 0, 0, signature, leaks)
    alone = near_lost(keys_of([texts[row] for row in clean], signature), parts, signature)
    together = near_lost(keys[::-1], parts, signature)
    of_clean = {one for one in together if not leaks[one.row]}
    assert of_clean == {one._replace(row=clean[one.row]) for one in alone} and len(alone) >= 9
    # The others are displaced by the best of the clean ones, however short it is.
    best = {row // 4: ids[row] for row in clean[::-1]}
    assert {one for one in together if leaks[one.row]} <= {
        (row, best[row // 4]) for row in np.flatnonzero(leaks)
    }


def test_in_a_crowded_bucket_the_clean_ones_meet_first(monkeypatch):
    monkeypatch.setattr(dedup, "_MAX_RIVALS", 2)
    texts = [passage(1, 200) + "。" * number for number in range(30)]
    ids = [document_id(text) for text in texts]
    keys = dedup.make_keys(texts, ids, 0, 0, MINHASH, [number > 4 for number in range(30)])
    lost = {one.row: one.displaced_by for one in near_lost(keys, 1, MINHASH)}
    assert lost == {row: ids[4] for row in range(30) if row != 4}


def test_of_contaminated_texts_the_longest_stays_as_of_clean_ones():
    texts = [passage(1, 200) + "。" * number for number in range(4)]
    keys = dedup.make_keys(texts, list(map(document_id, texts)), 0, 0, MINHASH, True)
    assert {one.row for one in near_lost(keys, 1, MINHASH)} == {0, 1, 2}


# SimHash.


def simhash_by_hand(text: str) -> int:
    """The definition, bit by bit, over the 2-grams that the pipeline hashes."""
    codes = np.array(list(map(ord, text)), np.uint32)
    hashes, _ = hash_ngrams(codes, np.array([len(codes)]), 2)
    weights = Counter((int(one) >> 16) << 16 for one in hashes)
    hashes = scramble(np.array(list(weights), np.uint64))
    votes = [min(weight, 8) for weight in weights.values()]
    ones = [
        sum(vote for one, vote in zip(hashes, votes, strict=True) if int(one) >> bit & 1)
        for bit in range(64)
    ]
    return sum((2 * count > sum(votes)) << bit for bit, count in enumerate(ones))


def hamming(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def test_a_simhash_is_the_majority_of_each_bit():
    texts = [passage(seed, 70 + 13 * seed) + passage(seed, 30) + "好" * 20 for seed in range(8)]
    sketches = keys_of(texts, SIMHASH)["sketch"]
    by_hand = [simhash_by_hand(text) for text in texts]
    for one, mine in zip(sketches, by_hand, strict=True):
        for other, theirs in zip(sketches, by_hand, strict=True):
            assert hamming(one, other) == (mine ^ theirs).bit_count()


@pytest.mark.parametrize("distance", range(6))
def test_any_three_bits_apart_share_a_band_and_are_near_and_more_are_not(distance):
    draw = np.random.default_rng(distance)
    one = draw.integers(0, 1 << 16, 4, dtype=np.uint16)
    for _ in range(200):
        bits = draw.choice(64, distance, replace=False)
        other = one.copy()
        for bit in bits:
            other[bit // 16] ^= np.uint16(1 << (bit % 16))
        assert SIMHASH.is_near(one, other[None])[0] == (distance <= 3)
        words = [sketch.view(np.uint64)[0] for sketch in (one, other)]
        shared = [(words[0] & mask) == (words[1] & mask) for mask in SIMHASH._masks]
        assert len(shared) == 20 and (any(shared) or distance > 3)


def test_a_run_of_one_character_makes_no_strangers_alike():
    texts = [passage(seed, 300) + "x" * 100 for seed in range(40)]
    assert lost(texts, 1, SIMHASH) == set()


def test_simhash_finds_almost_identical_texts_and_no_others():
    originals = [passage(seed, 600) for seed in range(30)]
    copies = [text[:300] + "改" + text[301:-1] for text in originals[:20]]
    sketches = keys_of(originals + copies, SIMHASH)["sketch"]
    near = {row for row in range(20) if hamming(sketches[row], sketches[30 + row]) <= 3}
    assert len(near) >= 15
    assert lost(originals + copies, 3, SIMHASH) == {30 + row for row in near}
