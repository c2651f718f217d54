import pytest

from welm_jax.tasks import same_text

# By hand: each line is one text in several shapes.
SAME = [
    ("谁是诗仙？", "谁是诗仙", "誰 是 詩 仙?", "  谁是\u3000诗仙！！"),
    ("两队打平", "两队 打平", "「两队」，打平……", "兩隊打平。"),
    ("WeLM 10B", "ｗｅｌｍ　１０ｂ", "welm-10_b"),
    ("乾燥的後院", "干燥的后院"),
    ("看着卫星背你", "看著衛星揹妳", "看着衞星背妳"),
]


@pytest.mark.parametrize("shapes", SAME)
def test_texts_in_several_shapes_are_one_and_no_other(shapes):
    [digest] = {same_text.digest_of_same([one]) for one in shapes}
    others = [one for line in SAME if line is not shapes for one in line]
    assert digest not in {same_text.digest_of_same([one]) for one in others}


def test_texts_are_compared_each_in_its_place():
    """Else a pair would be that of other texts, cut elsewhere."""
    digests = [same_text.digest_of_same(one) for one in (["甲", "乙"], ["乙", "甲"], ["甲乙", ""])]
    assert len(set(digests)) == 3


def test_texts_of_marks_alone_are_not_all_the_same():
    assert same_text.digest_of_same(["？"]) != same_text.digest_of_same(["“”"])


def test_runs_are_of_one_line_and_of_the_text_as_it_is_compared():
    """34 characters make one run, in either script; a line's end is in none."""
    text = "天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往秋收冬藏閏餘成歲律呂調陽雲騰致雨"[:34]
    assert len(same_text.runs(text)) == 1
    assert same_text.runs("，".join(text)) == same_text.runs(text)
    assert same_text.runs(same_text.scores.to_simplified(text)) == same_text.runs(text)
    assert not same_text.runs(text[:20] + "\n" + text[20:])
