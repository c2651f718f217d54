from dataclasses import fields

import pytest

from beam_pipelines.characters import TextBatch
from beam_pipelines.clean_rules import RULES, Thresholds, apply_rules, clause_marks, letter_share
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

QUATRAIN = "山行\n无名氏\n石路入云深，松风满客襟。\n归来人不见，明月在空林。"
ROWS = "".join(f"<tr><td>第{n}行</td><td>{n * n}分，及格</td></tr>\n" for n in range(9))
TEASER = (
    "，今年将在城南新建三座图书馆和一座体育馆，其中最大的一座占地三十亩，建成以后市民可以免费入内…"
)
HEADLINES = "图书馆新馆本月开放 01-02\n城南公园今起免费入园 01-03\n地铁三号线试运行 01-05\n"
GAMES = "本站有百家乐、老虎机和棋牌，官方网址每天更新，随时都能下注，"

# reason -> (a text that the rule drops, the nearest kind of text that it must keep)
EXAMPLES = {
    DropReason.MOJIBAKE: (
        "锟斤拷锟斤拷，今天的天气很好，我们一起去公园散步，看到了很多花。",
        NOVEL,
    ),
    DropReason.TOO_SHORT: ("还没拆开来看，也不知道是不是原装的。", QUATRAIN),
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
        "\n".join(f"记者{name}昨日获悉{TEASER}" for name in "甲乙丙丁"),
        "他想了想，说……\n“算了，我们还是明天再去吧……”\n她点点头，没有再说一句话……\n天色已经晚了……",
    ),
    DropReason.CODE: (
        "函数如下：function add(a, b) { return a + b; } function sub(a, b) { return a - b; } 完。",
        "用花括号 { 和 } 把函数的主体括起来，这是许多语言的习惯，也有人更喜欢用缩进来表示，"
        "各有各的道理，初学的人不必为此争论，先把程序写对，再把它写得好看一些。"
        "等到和别人一起写的时候，照着大家的样子写就好，因为读代码的时间总比写代码的时间要长得多。",
    ),
    DropReason.MARKUP: (
        f"<html><body><table>\n{ROWS}</table></body></html>",
        "表格用 <table> 写，一行是 <tr>，一格是 <td>：\n" + ROWS[:50] + "写完以后在浏览器里打开，"
        "就能看到排好的表格。初学的人常常忘记写结束的标记，浏览器一般也能猜出来，但最好不要依赖它。",
    ),
    DropReason.TAGS: (
        "【热卖】【包邮】【新款】【特价】春季外套，【买一送一】，【限时】#女装##外套##春装#",
        "【本报讯】昨天上午，市图书馆新馆正式向读者开放，首日接待读者三千余人，馆内藏书八十万册。",
    ),
    DropReason.REPETITIVE: (
        "外观漂亮，电池很牛！" * 6,
        "敲起鼓来，唱起歌来！我们的队伍向太阳。敲起鼓来，唱起歌来！脚踏着祖国的大地。",
    ),
    DropReason.PLACEHOLDER: (
        "标题：XXXXXX。作者：XXXXXX。在此输入正文，在此输入正文的第二段，谢谢您的使用。",
        "被告人某某某某驾驶赣AXXXXXX号货车，持卡号为6222xxxxxxxxxxxx的银行卡取走现金，电话1380xxxxxxx。",
    ),
    DropReason.BOILERPLATE: (
        "Please Enable JavaScript in your browser to view this page, then reload it and go on.",
        ARTICLE,
    ),
    DropReason.NAVIGATION: (
        "当前位置：首页 > 新闻中心\n"
        + HEADLINES
        + "共9页 首页 上一页 1 2 3 下一页 尾页，跳转到第 页",
        "当前位置：首页 > 新闻中心\n" + NOVEL + "\n首页 上一页 1 2 3 下一页 尾页",
    ),
    DropReason.SPAM: (
        GAMES + "注册送彩金，天天返水。",
        GAMES + "警方提醒，这是一个骗局，已经上当的请尽快报警。",
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor "
            "incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam.",
            DropReason.PLACEHOLDER,
        ),
        ("Lorem ipsum 是排版用的占位文字。Lorem ipsum 的词出自西塞罗，打乱以后读不成句。", None),
        ("点开搜索框，在此输入书名，再按回车，就能看到它放在哪一层的哪一个书架上。", None),
    ],
)
def test_a_placeholder_that_is_only_mentioned_stays(text, reason):
    assert apply_rules([text], DEFAULTS) == [reason]


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


def test_verdicts_do_not_hang_on_how_texts_are_batched():
    texts = [text for example in EXAMPLES.values() for text in example]
    together = apply_rules(texts, DEFAULTS)
    assert together == [reason for text in texts for reason in apply_rules([text], DEFAULTS)]
    assert apply_rules(texts[::-1], DEFAULTS) == together[::-1]


@pytest.mark.parametrize(
    "text",
    [
        "*号标注的菜不参加满减，其余的都可以用券，到月底为止，先到先得，请大家早点来。",
        "-3度的早晨，送奶的师傅照样准时到了，奶还是温的，真是辛苦他了，下次还订他家的。",
        "**的快递，等了半个月才到，包装破了，里面的杯子也碎了，客服到现在都没有回话。",
        "多年以后，他又回到那条巷子里，老屋还在，门前的树却已经没有了，只剩下一口井……",
        "报社的网站只放了开头几句，剩下的要登录以后才能看到，读者对此抱怨已经很久了...",
        "他们的故事\n本报记者\n三百元钱不算什么，对他来说却是半年省吃俭用才攒下来的……\n"
        "同学们都不知道，这个衣着朴素的青年，还有许多不平凡的往事……\n他说，这没有什么。",
        "- 先洗手。\n- 再切菜，切得细一些。\n- 然后下锅炒熟。\n- 装盘上桌，趁热吃！",
        "李四：我……大家不都这么说吗……\n张三：谁跟你说的，是不是那个家伙又在背后说我坏话……\n"
        "李四：不是他，是我自己猜的，我真的没有别的意思，你不要再问下去了……\n张三：那好吧……",
        "用了一个月，来说说...\n屏幕还不错，就是电池不太耐用，一天要充两次电才够...\n"
        "拍照一般，晚上噪点比较多，不如以前用的那个...\n这个价也就这样了，凑合着用吧...",
        "· 鸡蛋十个，看好日期再买\n· 酱油一瓶，不要太咸的\n· 米五公斤，要东北产的",
        "- 第一条，说得很长，因为它不是清单里的一个词，而是一段完整的话，读起来和正文一样。\n" * 4,
    ],
)
def test_few_or_full_lines_are_no_list_and_no_teasers(text):
    assert apply_rules([text], Thresholds(max_repeated_share=1)) == [None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("海内存知己，天涯若比邻。" * 2, None),
        ("很好用，送货快，样子好看，就是贵了一点点吧", None),
        ("很好用，送货快，样子好看就是贵了一点点的吧", DropReason.TOO_SHORT),
        ("很好用，送货快样子好看就是贵了一点点的吧。", None),
        ("很好用！送货快！样子好看！就是贵了一点点！", DropReason.TOO_SHORT),
        ("很好用，送货快，样子好看，贵了", DropReason.TOO_SHORT),  # 15 characters
        ("很好用，送货快，样子好看，可惜贵了一些", DropReason.TOO_SHORT),  # 19
        ("很好用，送货快，样子好看，可惜贵了一些些", None),  # 20
        ("9.9 9.9 9.9 9.9 9.9 9.9 好.", DropReason.TOO_SHORT),
    ],
)
def test_full_sentences_are_whole_in_20_characters(text, reason):
    assert apply_rules([text], Thresholds(max_repeated_share=1)) == [reason]


def test_verse_of_four_characters_a_line_is_no_menu():
    verse = "无题\n春风又来，\n柳色初新。\n旧友不见，\n独坐空庭。\n夜雨忽至，\n灯火三更。"
    assert apply_rules([verse], DEFAULTS) == [None]


@pytest.mark.parametrize("dots", ["…", "...", "......", ".........", ".."])
def test_dots_cut_a_line_and_a_writers_ellipsis_does_not(dots):
    text, thresholds = EXAMPLES[DropReason.CUT_SHORT][0], Thresholds(max_repeated_share=1)
    assert apply_rules([text.replace("…", dots)], thresholds) == [DropReason.CUT_SHORT]
    assert apply_rules([text.replace("…", "……")], thresholds) == [None]


def test_a_teaser_has_50_characters_and_there_are_three():
    line = "记者昨日获悉，" + "".join(chr(0x4E00 + 11 * number) for number in range(42)) + "…"
    others = "今天天气很好，我们去了公园。\n" * 4
    for text, reason in (
        (f"{line}\n" * 3 + others, DropReason.CUT_SHORT),
        (f"{line[1:]}\n" * 3 + others, None),
        (f"{line}\n" * 2 + others[: len(others) // 2], None),
    ):
        assert apply_rules([text], Thresholds(max_repeated_share=1)) == [reason]


def test_a_bullet_has_30_characters_and_no_end():
    for item, reason in (
        ("苹果，" + "红" * 25, DropReason.BULLETS),
        ("苹果，" + "红" * 26, None),
        ("苹果，" + "红" * 20 + "。", None),
    ):
        text = f"- {item}\n" * 4
        assert apply_rules([text], Thresholds(max_repeated_share=1)) == [reason]


@pytest.mark.parametrize(
    "text",
    [
        "{髟贊}儿歌\n无名氏\n{糹丐}衣落日前山晚，{飠卂}饭炊烟隔水迟。\n一路看花人不见，归来犹记去年诗。",
        "设 {Xn,n≥0} 为随机序列,证明了 {fn(x0,…,xn),n≥1} 的强极限定理,并给出集合 {0,1} 上的推论.",
        "The stage direction {Enter the king} and the note {12} stand where the scribe put them.",
        "在数据里写成 {data:[1],image:'1_png'}，然后在回调里解析，就能显示出来，和以前不一样。",
    ],
)
def test_braces_around_notes_and_formulas_are_no_code(text):
    assert apply_rules([text], DEFAULTS) == [None]


@pytest.mark.parametrize(
    "text",
    [
        "public static int add(int a, int b) { return a + b; } // 相加，返回和。",
        "body { color: red; margin: 0; } p { font-size: 12px; } a:hover { color: blue; }.",
        "if (this.parent) { this.parent.removeChild(this); } else { this.parent = null; }.",
    ],
)
def test_code_is_code_with_a_word_of_chinese_too(text):
    assert apply_rules([text], DEFAULTS) == [DropReason.CODE]


def test_a_long_text_may_repeat_itself_once_it_has_said_enough():
    # Half of _WHOLE_TEXT is 2,000 new runs: more than 1,800 characters have, fewer than 2,200.
    new = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(2400)) + "。"
    for length, reason in ((1800, DropReason.REPETITIVE), (2200, None)):
        assert apply_rules([new[-length:] * 4], DEFAULTS) == [reason]


def test_tables_in_a_result_are_text():
    abstract = (
        "测得公羊绒细度为(14.25±2.67)μm，母羊为(14.36±2.57)μm，伸度39.33%～40.87%，绒毛比37:63，"
        "表明这一品种的绒毛品质良好。"
    )
    share = letter_share(TextBatch.of([abstract]))
    assert 0.4 < share < 0.5
    assert apply_rules([abstract], DEFAULTS) == [None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("灯没有想的那么亮 照得也不远 掉电有点快 放一天再用就剩一半了 而且盒子里没有线", None),
        ("中国队最强阵容集结仅剩一将缺席 主帅宣布周五飞赴东京备战世界杯首轮", DropReason.NO_CLAUSE),
    ],
)
def test_spoken_words_stand_for_the_marks_that_are_left_out(text, reason):
    assert apply_rules([text], DEFAULTS) == [reason]


def test_spoken_words_are_counted_where_marks_are_few():
    # Six spoken words are two marks more, but not for who sets four.
    texts = ["我，他，她，你这那", "我，他，她，你，这那"]
    assert clause_marks(TextBatch.of(texts)).tolist() == [3 + 2, 4]


def test_an_indented_page_is_markup_and_an_article_about_tags_is_not():
    page = (
        "<div class='main'>\n<p style='color:red'>\n今天的天气很好，我们去了公园。\n</p>\n</div>\n"
        * 3
    )
    assert apply_rules([page], Thresholds(max_repeated_share=1)) == [DropReason.MARKUP]
    answer = "怎么取输入框的值？给它编号：<input type='text' id='a'><br>，再按编号去取就可以了。"
    assert apply_rules([answer], DEFAULTS) == [None]


FIELD = "一条河流过平原两岸都是麦田春天麦苗刚刚返青风吹过来像水面起了波纹远处有人赶着牛慢慢走，"


@pytest.mark.parametrize(
    ("bad", "share", "reason"),
    [
        ("#" * 8 + FIELD[:31] + "，", 8 / 40, None),
        ("#" * 9 + FIELD[:30] + "，", 9 / 40, DropReason.TAGS),
        (f"<p>{FIELD[:16]}</p>\n<p>{FIELD[16:32]}</p>\n今天下了雨雨，。", 32 / 40, None),
        (f"<p>{FIELD[:16]}</p>\n<p>{FIELD[16:33]}</p>\n今天下了雨，。", 33 / 40, DropReason.MARKUP),
    ],
)
def test_a_fifth_of_tags_and_four_fifths_between_them_stay(bad, share, reason):
    thresholds = Thresholds()
    bound = thresholds.max_tag_share if "#" in bad else thresholds.max_markup_share
    assert (share > bound) == (reason is not None)
    assert apply_rules([bad], thresholds) == [reason]


@pytest.mark.parametrize(("han", "reason"), [(299, DropReason.CODE), (300, None)])
def test_300_ideographs_explain_any_code(han, reason):
    code = "function add(a) { return a; }\n" * 90
    assert apply_rules(["说" * han + "。\n" + code], Thresholds(max_repeated_share=1)) == [reason]


def test_three_promises_and_calls_are_spam_and_two_are_not():
    for words, reason in (("首存有礼，进群有礼", DropReason.SPAM), ("进群有礼，人人有礼", None)):
        text = f"这里有百家乐、老虎机和六合彩，天天返水，{words}，大家都来这里看一看。"
        assert apply_rules([text], DEFAULTS) == [reason]
