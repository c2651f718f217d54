import pytest

from beam_pipelines import language
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


def test_blanks_and_symbols_are_not_held_against_chinese():
    table = "这是一张表格，里面的空格比字还多。\n" + "| --- |" * 40 + " " * 400
    assert identify_languages([table], "script") == ["zh"]
    # 10 Han are a tenth of 100 letters; of 410 they are not, and the model sees English.
    for latin, name in ((ENGLISH[:113], "zh"), (ENGLISH * 3, "en")):
        assert identify_languages([latin + "这一句话有十个汉字呀"], "script") == [name]


def test_a_long_text_is_judged_by_all_of_it():
    table = (
        "Oslo 1.2 Bergen 3.4 Trondheim 5.6 Stavanger 7.8 Kristiansand 9.1 Fredrikstad 2.3\n" * 60
    )
    assert identify_languages([ENGLISH * 20 + table + ENGLISH * 20], "script") == ["en"]
    german = "Die Männer aus dem Norden kamen mit allem, was sie tragen konnten, zum Fluss. "
    assert identify_languages([german * 60 + ENGLISH + german * 60], "script") == ["other"]


def test_english_without_its_commonest_words_is_for_the_model_to_tell():
    recipe = (
        "Combine oats, raisins and chopped nuts in large bowl. Heat honey in small pan until it "
        "boils; stir in butter until melted. Pour over oats; mix well. Press into greased square "
        "baking dish. When cool cut into small bars, wrap each bar tightly, store in cool place."
    )
    assert identify_languages([recipe], "script") == ["en"]


def test_no_texts_have_no_languages():
    assert identify_languages([], "script") == []


def test_the_papers_detector_is_seeded_and_loses_code_switched_text():
    switched = "用 jax.jit 编译这个函数，它会在第一次调用时 trace 一遍计算图，之后直接执行。"
    texts = ["话说天下大势，分久必合，合久必分。", switched * 3 + ENGLISH, "１２３９．９０"]
    for _ in range(3):
        assert identify_languages(texts, "langdetect") == ["zh", "en", "other"]
    assert identify_languages(texts[:2], "script") == ["zh", "zh"]


@pytest.mark.parametrize(("latin", "expected"), [(90, "zh"), (91, "en")])
def test_a_tenth_of_the_letters_makes_a_text_chinese(monkeypatch, latin, expected):
    monkeypatch.setattr(language, "_model", lambda: lambda text: "en")  # asked in doubt only
    text = "河水流过田野风吹麦浪" + " " + "x" * latin
    assert identify_languages([text], "script") == [expected]
