import unicodedata

import numpy as np
import pytest

from beam_pipelines.ideographs import PLAIN_FORMS, simplified


@pytest.mark.parametrize(
    ("first", "last"), [(0x2F00, 0x2FD5), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]
)
def test_the_frozen_forms_are_unicodes_decompositions(first, last):
    wanted = {
        code: ord(unicodedata.normalize("NFKC", chr(code))) for code in range(first, last + 1)
    }
    assert {code: PLAIN_FORMS.get(code, code) for code in wanted} == wanted


def test_a_radical_of_the_supplement_is_the_ideograph_that_it_looks_like():
    pairs = "⺟母 ⺠民 ⻄西 ⻅见 ⻆角 ⻋车 ⻓长 ⻔门 ⻘青 ⻚页 ⻛风 ⻜飞 ⻝食 ⻢马 ⻰龙"
    for radical, plain in pairs.split():
        assert chr(PLAIN_FORMS[ord(radical)]) == plain
    # Of these each is a part of ideographs that differ.
    assert not {ord(one) for one in "⺌⺗⺼⻏"} & PLAIN_FORMS.keys()


def test_a_plain_form_has_no_other():
    assert not PLAIN_FORMS.keys() & set(PLAIN_FORMS.values())
    assert all(0x3400 <= code <= 0x9FFF or code >= 0x20000 for code in PLAIN_FORMS.values())


def test_traditional_ideographs_become_simplified_ones_one_for_one():
    codes = np.array(list(map(ord, "漢語ab語汉")), np.uint32)
    assert "".join(map(chr, simplified(codes))) == "汉语ab语汉"
    assert simplified(codes[:0]).tolist() == []
