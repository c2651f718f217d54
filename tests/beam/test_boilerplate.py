import pytest

from beam_pipelines.boilerplate import (
    is_boilerplate,
    navigation_share,
    without_boilerplate_lines,
)

NOVEL = "第一回 宴桃园豪杰三结义\n\n　　话说天下大势，分久必合，合久必分。"


def test_lines_of_boilerplate_are_taken_out_and_all_else_is_left():
    text = "　　第一段。\r\n\n上一篇：春天　下一篇：秋天\n\t第二段，\n版权所有 ICP备12345号\n"
    kept = "　　第一段。\r\n\n\t第二段，\n"
    assert without_boilerplate_lines([text, NOVEL, ""]) == [kept, NOVEL, ""]


@pytest.mark.parametrize(
    "line",
    [
        "上一篇：冬天里的一把火",
        "【上一篇:去北京要带什么?】 【下一篇:去上海要带什么?】",
        "下一篇 河边的旧事",
        "下一页 >>",
        "返回顶部↑",
        "点击查看更多精彩内容",
        "展开全文",
        "关于我们 | 联系我们 | 隐私政策 | 网站地图",
        "京ICP备12345678号-1",
        "网站备案号：某字第12号",
        "Copyright © 2019 某某公司 版权所有",
        "版权所有 侵权必究",
        "某某公司 版权所有",
        "Privacy Policy",
        "请启用JavaScript后刷新本页面，否则无法正常显示内容。",
        "您的浏览器版本过低，请升级后再访问本站！",
    ],
)
def test_a_line_about_its_page_is_boilerplate(line):
    assert is_boilerplate(line) and is_boilerplate(f"  {line}\r")


@pytest.mark.parametrize(
    "line",
    [
        "通知要求，应用首次启动时须展示隐私政策。",
        "我在上一篇文章里介绍了怎样装系统。",
        "下一篇文章将介绍怎样配置网络",
        "每奏上一篇，皇帝都称赞叫好。",
        "书的封面印有“版权所有，侵权必究”字样，",
        "软件的版权所有者可以授权他人使用",
        "网站首页底部要写明备案号。",
        "我们的备案号是京ICP备12345678号，已经通过审核。",
        "点击“返回顶部”的链接，就能回到目录",
        "使用这个命令来查看更多信息：",
        "怎样在旧的浏览器里启用JavaScript",
        "隐私政策",
        "返回首页的按钮在右上角",
        "版权所有，" + "这是一个很长的段落，" * 8,
        "",
    ],
)
def test_a_line_that_speaks_of_such_things_is_text(line):
    assert not is_boilerplate(line)


def test_the_share_of_navigation_by_hand():
    menu = "首页 | 新闻 | 体育 | 登录"  # 8 characters and 3 bars, which are blanks here
    assert navigation_share(menu) == 1
    assert navigation_share(menu + " 今天下了雨。") == 8 / 14
    assert navigation_share(menu + " 1 2 App") == 10 / 13
    assert navigation_share(f"{menu} {'长' * 30}") == 1
    assert navigation_share(f"{menu} {'长' * 31}") == 8 / 39
    assert navigation_share("首页 | 新闻 | 体育 | 首页") == 0  # three different items
    assert navigation_share("从首页登录，看新闻和体育，再注册") == 0
    assert navigation_share("") == 0
