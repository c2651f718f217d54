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
        ("ＢＡＤ word 一二坏蛋", (2 * 7 + 2) / 11),
        ("坏人下蛋", 0),
        ("", 0),
    ],
)
def test_a_share_is_weight_times_length_over_what_counts(words, text, share):
    assert offensive_shares(["坏", text, "蛋"], words).tolist() == [0, pytest.approx(share), 0]


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
        (None, "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "words.txt").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_words(str(tmp_path / "words.txt"))


def test_a_list_that_was_changed_is_read_again(tmp_path):
    file = tmp_path / "words.txt"
    for word in ("坏蛋", "笨蛋"):
        file.write_text(f"{word}\t3", encoding="utf-8")
        os.utime(file, ns=(0, ord(word[0])))
        assert offensive_shares([word], read_words(str(file)))[0] == 3
