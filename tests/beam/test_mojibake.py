import pytest

from beam_pipelines.characters import TextBatch
from beam_pipelines.mojibake import _can_be_undone, are_garbled, count_signs, sign_counts

MODERN = (
    "今年的雨水比往年多，山里的茶农把收成送到集市上，路上遇见的人都停下来问好。大家都说，这样的日子虽然平常，"
    "却让人心里踏实。孩子们放学以后也来帮忙，一直到月亮升上来才回家。"
)
TRADITIONAL = (
    "今年的雨水比往年多，山裡的茶農把收成送到集市上，路上遇見的人都停下來問好。大家都說，這樣的日子雖然平常，"
    "卻讓人心裡踏實。孩子們放學以後也來幫忙，一直到月亮升上來才回家。"
)
CLASSICAL = "昔者庄周梦为胡蝶，栩栩然胡蝶也，自喻适志与，不知周也。俄然觉，则蘧蘧然周也。"
REAL = [
    MODERN,
    TRADITIONAL,
    CLASSICAL,
    "饕餮、貔貅、猰貐、梼杌、穷奇、狻猊、睚眦、蒲牢、狴犴、赑屃、螭吻、麒麟、夔牛、獬豸。",
    "欧阳璟、司徒霆、诸葛玥、慕容翀、上官婧、尉迟灏、宇文赟、澹台煜、令狐骁、轩辕翊。",
    "佢哋琴日喺嗰度食咗嘢，啲餸好好味，不過啱啱落雨，嚟唔切返屋企攞遮。",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "나라의 말이 중국과 달라 한자와는 서로 통하지 아니하므로 이런 까닭으로.",
    "Les élèves français ont été très étonnés d'apprendre où s'était passée la fête du collège.",
    "Don\u2019t read it as \u00e2\u20ac\u2122: the apostrophe was Windows\u2019 own.",
    "网页打开以后全是 浣犲ソ锛屼笘鐣岋紒 这样的字，多半是编码弄错了，换一种编码就能看到原来的字。",
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ",
    "",
]
MISREAD = [
    (MODERN, "utf-8", "gbk"),
    (MODERN, "utf-8", "big5"),
    (MODERN, "utf-8", "latin-1"),
    (MODERN, "utf-8", "cp1252"),
    (MODERN, "gbk", "big5"),
    (MODERN, "gbk", "latin-1"),
    (MODERN, "gbk", "cp1252"),
    (TRADITIONAL, "utf-8", "gbk"),
    (TRADITIONAL, "big5", "gbk"),
    (TRADITIONAL, "big5", "latin-1"),
]


def misread(text, right, wrong):
    return text.encode(right).decode(wrong, "ignore")


@pytest.mark.parametrize(("text", "right", "wrong"), MISREAD)
def test_a_text_in_the_wrong_encoding_is_garbled(text, right, wrong):
    assert are_garbled(TextBatch.of([misread(text, right, wrong)])).all()
    assert are_garbled(TextBatch.of(["A title in English\n" + misread(text, right, wrong)])).all()


@pytest.mark.parametrize("text", REAL)
def test_rare_characters_and_other_languages_are_not(text):
    assert not are_garbled(TextBatch.of([text])).any()


def test_texts_are_judged_each_alone():
    texts = REAL + [misread(*one) for one in MISREAD]
    assert are_garbled(TextBatch.of(texts)).tolist() == [False] * len(REAL) + [True] * len(MISREAD)


def test_a_long_text_is_judged_by_all_of_it():
    assert are_garbled(TextBatch.of([MODERN + misread(MODERN, "utf-8", "gbk") * 60])).all()


@pytest.mark.parametrize(("text", "right", "wrong"), MISREAD)
def test_a_paragraph_in_the_wrong_encoding_spoils_its_text(text, right, wrong):
    assert are_garbled(TextBatch.of([f"{text * 9}\n{misread(text, right, wrong)}\n{text}"])).all()


@pytest.mark.parametrize(("text", "right", "wrong"), MISREAD)
def test_half_of_a_line_in_the_wrong_encoding_spoils_its_text(text, right, wrong):
    garbled = misread(text, right, wrong).replace("\n", "")
    lines = [text + garbled, f"{garbled}。{text}", f"{text * 9}{garbled}。{text * 9}"]
    for line in lines + [garbled + text] * (right == "utf-8"):
        assert are_garbled(TextBatch.of(["", line, text, ""])).tolist() == [
            False,
            True,
            False,
            False,
        ]


@pytest.mark.parametrize("edge", ["\n", "。", "，", "：“"])
def test_a_stretch_is_judged_by_itself_from_60_characters_on(edge):
    garbled = misread(MODERN, "utf-8", "gbk")
    for length, is_garbled in ((60, True), (59, False)):
        batch = TextBatch.of([f"{MODERN * 9}{edge[0]}{garbled[:length]}\n"])
        assert are_garbled(batch).tolist() == [is_garbled]


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("\ufffd今天\ufffd", 2),
        ("锟斤拷锟斤拷，今天锟斤拷锟叫碉拷锟斤拷，", 3),
        ("有人问“锟斤拷”是什么。其实锟斤拷是替换字符，读作锟斤拷。", 0),
        ("变量是烫烫烫烫烫烫烫烫，数组是屯屯屯屯屯屯屯屯。", 2),
        ("“烫烫烫烫烫烫”是没有初始化的内存，屯屯屯也是。", 0),
        ("汤还烫烫烫呢，他姓李，名锟，字斤山。", 0),
        ("Itâ€™s a â€œgoodâ€ day, donâ€™t you think? The cafÃ© costs Â£2.", 4),
        ("Donâ€™t write â€™ for an apostrophe.", 0),
        ("It\xe2\x80\x99s a day, don\xe2\x80\x99t you think? \xe2\x80\x9cYes\xe2\x80\x9d.", 2),
        ("It\x92s a day, don\x92t you think? \x93Yes\x94, I said.", 2),
        ("It鈥檚 a good day, don鈥檛 you think? 鈥淵es鈥?", 2),
        ("他说锛屼粖澶╁ぉ姘斿緢濂姐€銆", 0),
        ("锛、銆与鈥都是生僻字。木匠用锛，一锛一锛地锛木头，锛子要快，锛完了再刨。", 0),
        ("“，”会变成“锛屻”，“。”会变成“銆備”，“？”会变成“锛熶”。", 1),
        ("A line\x85and the next line\x85and a third\x85end", 0),
        ("São Paulo, NÃO, âne, Âme, Ãs seis, Årsta, 20 °C", 0),
    ],
)
def test_signs_are_counted_but_not_mentions(text, signs):
    assert count_signs(text) == signs
    assert sign_counts(TextBatch.of([MODERN, text, ""])).tolist() == [0, signs, 0]


RARE = "饕餮貔貅猰貐梼杌狻猊睚眦狴犴赑屃螭吻"  # none of these is common


@pytest.mark.parametrize(
    ("common", "rare", "can_be_undone"),
    [(4, 6, True), (3, 7, False), (6, 34, True), (5, 35, False)],
)
def test_four_common_characters_and_15_in_100_are_chinese(common, rare, can_be_undone):
    text = "的一是不了人"[:common] + (RARE * 2)[:rare]
    assert _can_be_undone(misread(text, "utf-8", "latin-1")) == can_be_undone


@pytest.mark.parametrize(("others", "can_be_undone"), [(60, True), (61, False)])
def test_what_is_undone_covers_a_third(others, can_be_undone):
    # Ten characters are 30 bytes; 90 characters of Latin-1 could have been 30 of Chinese.
    text = misread("的一是不了人在有我他", "utf-8", "latin-1") + " é" * others
    assert _can_be_undone(text) == can_be_undone


@pytest.mark.parametrize(("common", "can_be_undone"), [(30, True), (31, False)])
def test_what_is_undone_is_twice_as_usual_as_what_was_read(common, can_be_undone):
    # All 20 that are undone are common; of the 30 that were read, and as many more, half are.
    text = misread("的" * 20, "utf-8", "gbk")
    assert text == "鐨勭殑" * 10
    assert _can_be_undone(text + "的" * common) == can_be_undone
