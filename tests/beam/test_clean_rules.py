import pytest

from beam_pipelines import clean_rules
from beam_pipelines.clean_rules import RULES, apply_rules
from beam_pipelines.document import DropReason

REVIEW = "价格好，机器做工好，能用这个价位买到小黑，太值了，其他品牌根本不考虑"
BRIEF = "新华社北京１２月３１日电（记者李明）国家统计局今天公布，全年粮食总产量比上年增长２．３％。"
NOVEL = (
    "第一回 宴桃园豪杰三结义　斩黄巾英雄首立功\n\n　　话说天下大势，分久必合，合久必分。"
    "周末七国分争，并入于秦。及秦灭之后，楚、汉分争，又并入于汉。汉朝自高祖斩白蛇而起义，"
    "一统天下，后来光武中兴，传至献帝，遂分为三国。"
)
REFERENCE = (
    'Execution of a simple statement\n*******************************\n\nA "while" loop repeats '
    'its suite as long as the expression is true:\n\n   while_stmt ::= "while" assignment\n'
    '                  ["else" ":" suite]\n\nThe "else" clause, if present, is executed.\n'
)
ARTICLE = "要看到这个页面，请在浏览器的设置里启用 JavaScript。" + "".join(
    f"第{number}步，打开第{number * 7}个菜单，找到编号为{number * number}的选项并确认。"
    for number in range(80)
)

# reason -> (a text that the rule drops, the nearest kind of text that it must keep)
EXAMPLES = {
    DropReason.TOO_SHORT: ("质量还不错，内容只适合边上厕所便消遣了。", REVIEW),
    DropReason.NO_CLAUSE: (
        "免费注册 网站导航 宾馆索引 服务说明 关于携程 诚聘英才 代理合作 广告业务 联系我们",
        "凝眸岁月，粒砂成海；那是他们如雷似火、震天动地的脚步声在山谷里回响",
    ),
    DropReason.FEW_LETTERS: (
        "上证指数１２３９．９０，１２４２·２１，１２４６·６５，１１１０·０９，上证３０４０２０·０２。",
        BRIEF,
    ),
    DropReason.REPETITIVE: (
        "外观漂亮，电池很牛！" * 6,
        "敲起鼓来，唱起歌来！我们的队伍向太阳。敲起鼓来，唱起歌来！脚踏着祖国的大地。",
    ),
    DropReason.MOJIBAKE: (
        "锟斤拷锟斤拷，今天的天气很好，我们一起去公园散步，看到了很多花。",
        NOVEL,
    ),
    DropReason.BOILERPLATE: (
        "Please Enable JavaScript in your browser to view this page, then reload it and go on.",
        ARTICLE,
    ),
}


def test_every_rule_has_an_example():
    assert [reason for reason, _ in RULES] == list(EXAMPLES)


@pytest.mark.parametrize("reason", list(EXAMPLES))
def test_a_rule_drops_its_example_and_keeps_the_nearest_good_text(reason):
    dropped, kept = EXAMPLES[reason]
    assert apply_rules([dropped, kept]) == [reason, None]


@pytest.mark.parametrize("text", [REVIEW, BRIEF, NOVEL, REFERENCE, ARTICLE])
def test_good_text_of_every_source_is_kept(text):
    assert apply_rules([text]) == [None]


@pytest.mark.parametrize(
    "text",
    [
        "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.",
        "您的浏览器不支持播放视频，请升级到最新版本，或者下载我们的客户端观看本节目，谢谢。",
        "请启用JavaScript后刷新本页面，否则无法正常显示内容，如有问题请联系网站管理员处理。",
    ],
)
def test_placeholder_pages_are_boilerplate(text):
    assert apply_rules([text]) == [DropReason.BOILERPLATE]


def test_one_bad_character_does_not_cost_a_chapter(monkeypatch):
    monkeypatch.setattr(clean_rules, "MAX_REPEATED_SHARE", 1)
    assert apply_rules([NOVEL * 10 + "\ufffd"]) == [None]
    assert apply_rules([NOVEL + "\ufffd"]) == [DropReason.MOJIBAKE]


def test_the_repeated_share_counts_runs_seen_before(monkeypatch):
    # 40 characters, their copy: 68 runs of 13; 28 of the copy stood before (those that cross the
    # seam did not). 28 / 68 = 0.41.
    text = "".join(chr(0x4E00 + 7 * number) for number in range(38)) + "。，"
    twice = text + text
    for share, reason in ((28 / 68 + 1e-6, None), (28 / 68 - 1e-6, DropReason.REPETITIVE)):
        monkeypatch.setattr(clean_rules, "MAX_REPEATED_SHARE", share)
        assert apply_rules([twice]) == [reason]


def test_texts_do_not_repeat_one_another():
    assert apply_rules([NOVEL, NOVEL, NOVEL]) == [None, None, None]


def test_no_texts_have_no_reasons():
    assert apply_rules([]) == []
