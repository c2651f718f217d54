from dataclasses import fields

import pytest

from beam_pipelines.clean_rules import RULES, Thresholds, apply_rules, without_boilerplate_lines
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

DEFAULTS = Thresholds()
MENU = "首页， 新闻 体育 财经！ 娱乐 科技 汽车 房产 教育 健康。 旅游 军事 文化 时尚 视频".split()
POEMS = "床前明月光， 疑是地上霜。 举头望明月， 低头思故乡。 白日依山尽， 黄河入海流。".split()
ITEMS = ["苹果两斤，要红的", "酱油一瓶，不要太咸", "鸡蛋十个，看好日期", "米五公斤，东北产的"]

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
    DropReason.SHORT_LINES: ("\n".join(MENU), "\n".join(POEMS)),
    DropReason.BULLETS: (
        "\n".join(f"· {item}" for item in ITEMS),
        "今天去买东西，单子如下：\n" + "\n".join(f"· {item}" for item in ITEMS[:3]) + "\n就这些。",
    ),
    DropReason.CUT_SHORT: (
        "记者昨日从市政府获悉，今年将新建三座…\n\n专家认为，这项技术仍需要进一步的…\n本网讯，天气转冷。",
        "他想了想，说……\n“算了，我们还是明天再去吧。”\n她点点头，没有再说一句话。\n天色已经晚了。",
    ),
    DropReason.CODE: (
        "函数如下：function add(a, b) { return a + b; } function sub(a, b) { return a - b; } 完。",
        "用花括号 { 和 } 把函数的主体括起来，这是许多语言的习惯，也有人更喜欢用缩进来表示，"
        "各有各的道理，初学的人不必为此争论，先把程序写对，再把它写得好看一些。"
        "等到和别人一起写的时候，照着大家的样子写就好，因为读代码的时间总比写代码的时间要长得多。",
    ),
    DropReason.TAGS: (
        "【热卖】【包邮】【新款】【特价】春季外套，【买一送一】，【限时】#女装##外套##春装#",
        "【本报讯】昨天上午，市图书馆新馆正式向读者开放，首日接待读者三千余人，馆内藏书八十万册。",
    ),
    DropReason.REPETITIVE: (
        "外观漂亮，电池很牛！" * 6,
        "敲起鼓来，唱起歌来！我们的队伍向太阳。敲起鼓来，唱起歌来！脚踏着祖国的大地。",
    ),
    DropReason.MOJIBAKE: (
        "锟斤拷锟斤拷，今天的天气很好，我们一起去公园散步，看到了很多花。",
        NOVEL,
    ),
    DropReason.PLACEHOLDER: (
        "标题：XXXXXX。作者：XXXXXX。在此输入正文，在此输入正文的第二段，谢谢您的使用。",
        "他在表格的姓名一栏里写了XXXXX，工作人员看了看他，请他重新填写一份。"
        + "".join(f"第{n}次提起时，讲法又有不同，人也换了。" for n in range(60)),
    ),
    DropReason.BOILERPLATE: (
        "Please Enable JavaScript in your browser to view this page, then reload it and go on.",
        ARTICLE,
    ),
}


def test_every_rule_has_an_example():
    assert [reason for reason, _, _ in RULES] == list(EXAMPLES)
    assert {field for _, field, _ in RULES} == {one.name for one in fields(Thresholds)}


@pytest.mark.parametrize("reason", list(EXAMPLES))
def test_a_rule_drops_its_example_and_keeps_the_nearest_good_text(reason):
    dropped, kept = EXAMPLES[reason]
    assert apply_rules([dropped, kept], DEFAULTS) == [reason, None]


@pytest.mark.parametrize("text", [REVIEW, BRIEF, NOVEL, REFERENCE, ARTICLE])
def test_good_text_of_every_source_is_kept(text):
    assert apply_rules([text], DEFAULTS) == [None]


@pytest.mark.parametrize(
    "text",
    [
        "您的浏览器不支持播放视频，请升级到最新版本，或者下载我们的客户端观看本节目，谢谢。",
        "请启用JavaScript后刷新本页面，否则无法正常显示内容，如有问题请联系网站管理员处理。",
    ],
)
def test_placeholder_pages_are_boilerplate(text):
    assert apply_rules([text], DEFAULTS) == [DropReason.BOILERPLATE]


def test_one_bad_character_does_not_cost_a_chapter():
    assert apply_rules([NOVEL * 10 + "\ufffd"], Thresholds(max_repeated_share=1)) == [None]
    assert apply_rules([NOVEL + "\ufffd"], DEFAULTS) == [DropReason.MOJIBAKE]


def test_the_repeated_share_counts_runs_seen_before():
    # 40 characters, their copy: 68 runs of 13; 28 of the copy stood before (those that cross the
    # seam did not). 28 / 68 = 0.41.
    text = "".join(chr(0x4E00 + 7 * number) for number in range(38)) + "。，"
    twice = text + text
    for share, reason in ((28 / 68 + 1e-6, None), (28 / 68 - 1e-6, DropReason.REPETITIVE)):
        assert apply_rules([twice], Thresholds(max_repeated_share=share)) == [reason]


def test_texts_do_not_repeat_one_another():
    assert apply_rules([NOVEL, NOVEL, NOVEL], DEFAULTS) == [None, None, None]


def test_no_texts_have_no_reasons():
    assert apply_rules([], DEFAULTS) == []


def test_short_lines_of_boilerplate_are_taken_out_and_all_else_is_left():
    text = "　　第一段。\r\n\n上一篇：春天　下一篇：秋天\n\t第二段，\n版权所有 ICP备12345号\n"
    assert without_boilerplate_lines([text, NOVEL]) == ["　　第一段。\r\n\n\t第二段，\n", NOVEL]
    long = "版权所有，" + "这是一个很长的段落，" * 8
    assert without_boilerplate_lines([long, ""]) == [long, ""]
