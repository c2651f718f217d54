import os

import numpy as np
import pytest

from beam_pipelines.offensive_text import offensive_shares, read_words
from welm_jax.failures import InputError


@pytest.fixture
def words(tmp_path):
    (tmp_path / "words.txt").write_text("# ours\n坏蛋\n\n大坏蛋\t3\nBadWord\t2\n", encoding="utf-8")
    return read_words(str(tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("今天天气很好。", 0),
        ("你这个坏蛋", 0),  # once
        ("你这个坏蛋，坏蛋", 0),
        ("你这个坏蛋，坏蛋，坏蛋", 6 / 9),
        ("坏 蛋！坏，蛋坏\n蛋", 6 / 6),
        ("大坏蛋来了", (3 * 3 + 2) / 5),  # the shorter word is in it too
        ("ＢＡＤＷＯＲＤ 一二坏蛋", (2 * 7 + 2) / 11),
        ("壞蛋，大壞蛋", (2 + 3 * 3 + 2) / 5),  # the other script is no other word
        ("坏人下蛋", 0),
        ("", 0),
    ],
)
def test_a_share_is_weight_times_length_over_what_counts(words, text, share):
    assert offensive_shares(["坏", text, "蛋"], words).tolist() == [0, pytest.approx(share), 0]


WORDS = ["ass", "my ass", "penis", "tit", "69", "AV女优", "жопа", "f.u.c.k", "café"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A class of a classic institution, massive and assembled.", ""),
        ("ASS! An ass-like thing, the ass", "ass ass ass"),
        ("Kiss my\nass, myass", "ass,my ass"),
        ("the pen is old; an al-Qaeda; t it", ""),  # a word is not in two
        ("ass他ass，他的ass", "ass ass ass"),  # Han beside letters part words
        ("ass1 1ass ass_", "ass"),
        ("in 1969 or 69, 690", "69"),
        ("看AV女优 看av女優的 看BAV女优", "AV女优 AV女优"),
        ("жопа, пережопал", "жопа"),
        ("fuck f u c k F.U.C.K", "f.u.c.k f.u.c.k"),  # only as the list has it
        ("ti\u200bt ti\u00adt", "tit tit"),  # what nobody sees parts nothing
        ("café cafés", "café"),
    ],
)
def test_words_in_letters_are_whole_words(tmp_path, text, words):
    (tmp_path / "words.txt").write_text("".join(f"{one}\t3\n" for one in WORDS), encoding="utf-8")
    found = words.split(",") if "," in words else words.split()
    letters = sum(map(str.isalnum, text))
    offending = 3 * sum(len(one.replace(" ", "").replace(".", "")) for one in found)
    [share] = offensive_shares([text], read_words(str(tmp_path / "words.txt")))
    assert share == pytest.approx(offending / letters)


def test_han_words_match_anywhere(tmp_path):
    (tmp_path / "words.txt").write_text("坏蛋\t3\nばか\t3\n바보\t3\n", encoding="utf-8")
    words = read_words(str(tmp_path / "words.txt"))
    texts = ["小坏蛋们", "坏　蛋", "おばかさん", "바보야", "abc坏蛋abc", "坏1蛋"]
    assert (offensive_shares(texts, words) > 0).tolist() == [True] * 5 + [False]


def test_words_never_reach_from_one_text_into_the_next(words):
    assert not offensive_shares(["坏", "蛋", "坏"], words).any()


def test_a_long_clean_text_with_a_few_words_has_a_small_share(words):
    random = np.random.default_rng(0)
    text = "".join(map(chr, random.integers(0x4E00, 0x8000, size=994))) + "坏蛋" * 3
    assert offensive_shares([text], words)[0] == pytest.approx(6 / 1000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no words"),
        ("坏蛋\tvery", "line 1: weight 'very' is no number"),
        ("好\n！！", "line 2: a word has 1 to 24 letters"),
        ("坏蛋\t-1", "line 1: a word has 1 to 24 letters, a weight above 0"),
        ("好\n坏蛋\t0", "words.txt, line 2: a word has 1 to 24 letters, a weight above 0"),
        ("坏蛋\tnan", "line 1: .* a weight above 0 that is not infinite"),
        ("坏蛋\t-inf", "line 1: .* a weight above 0 that is not infinite"),
        ("坏蛋\t1e999", "line 1: .* a weight above 0 that is not infinite"),
        ("好\na$$", "words.txt, line 2: one letter of 'a\\$\\$' counts, .* take it out"),
        (b"\xba\xc3", "words.txt, line 1: not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, content, message):
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "words.txt").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_words(str(tmp_path / "words.txt"))


def test_a_list_that_was_changed_is_read_again(tmp_path):
    file = tmp_path / "words.txt"
    for word in ("坏蛋", "笨蛋"):
        file.write_text(f"{word}\t3", encoding="utf-8")
        os.utime(file, ns=(0, ord(word[0])))
        assert offensive_shares([word], read_words(str(file)))[0] == 3


def test_a_mark_at_the_head_is_no_word_and_the_heavier_of_two_weights_counts(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeff坏蛋\t3\r\n壞蛋\n", encoding="utf-8")
    words = read_words(str(file))
    assert offensive_shares(["坏蛋", "壞蛋。"], words).tolist() == [3, 3]


def test_texts_without_a_letter_offend_nobody(words):
    assert offensive_shares(["", "……", "！\n"], words).tolist() == [0, 0, 0]
    assert offensive_shares([], words).tolist() == []
