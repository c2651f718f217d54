import pytest

from beam_pipelines.language import identify_languages

ENGLISH = "The graph is traced once and then it runs as it is, with all that it has seen. " * 2
EXAMPLES = [
    ("zh", "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。"),
    ("zh", "話說天下大勢，分久必合，合久必分。周末七國分爭，並入於秦。"),
    ("zh", "用 jax.jit 编译这个函数，它会在第一次调用时 trace 一遍计算图，之后直接执行。"),
    ("zh", "这家店的招牌是「の」字，老板是日本人，我们都很喜欢他做的拉面。"),
    ("en", "The men of the north came down to the river with all that they could carry."),
    (
        "en",
        "Using this statement is the same as in Python 2: it evaluates the expressions and which",
    ),
    ("ja", "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"),
    ("ja", "プログラミング言語の選択はとても重要な問題だと考えられている。"),
    ("ko", "나라의 말이 중국과 달라 한자와는 서로 통하지 아니하므로 이런 까닭으로."),
    ("other", "Les hommes du nord descendirent vers la rivière avec tout ce qu'ils avaient."),
    ("other", "Die Männer aus dem Norden kamen mit allem, was sie tragen konnten, zum Fluss."),
    ("other", "Los hombres del norte bajaron al río con todo lo que podían llevar a casa."),
    ("other", "Mændene for nordfra kom ned til floden med alt, hvad de have, to og to by for by."),
    ("other", "De mannen van het noorden kwamen met alles of wat ze konden dragen naar de rivier."),
    ("other", "Люди с севера спустились к реке со всем, что могли унести с собой."),
    ("other", "Wert von %(from)s bis %(to)s eingeben, oder %(from)s ohne Ende lassen. " * 4),
    ("zh", "很好。"),  # too short for the rule: the model says so
    ("zh", "iPhone 15 Pro Max 发布"),
    ("en", "Free shipping on all orders over $50. Shop now!"),
    ("other", "Kostenloser Versand ab 50 Euro. Jetzt kaufen!"),
    ("other", "１２３９．９０　１２４２·２１　１２４６·６５"),
]


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
def test_a_text_is_in_its_language(language, text):
    assert identify_languages([text], "script") == [language]


def test_texts_are_judged_each_alone():
    languages, texts = zip(*EXAMPLES, strict=True)
    assert identify_languages(texts, "script") == list(languages)


def test_no_texts_have_no_languages():
    assert identify_languages([], "script") == []


def test_the_papers_detector_is_seeded_and_loses_code_switched_text():
    switched = "用 jax.jit 编译这个函数，它会在第一次调用时 trace 一遍计算图，之后直接执行。"
    texts = ["话说天下大势，分久必合，合久必分。", switched * 3 + ENGLISH, "１２３９．９０"]
    for _ in range(3):
        assert identify_languages(texts, "langdetect") == ["zh", "en", "other"]
    assert identify_languages(texts[:2], "script") == ["zh", "zh"]
