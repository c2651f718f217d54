import pytest

from beam_pipelines.boilerplate import (
    count_notices,
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
        "Accept all cookies",
        "Privacy Policy | Terms of Use",
        "上一篇：这样做对吗？",
        "上一页 1 2 3 … 9 下一页",
        "上一条: 山里的露营地 下一条: 河边的露营地",
        "【下一条新闻：图书馆新馆开放】",
        "上一篇：我校举办秋季运动会  下一篇：你所不知道的候鸟",
        "主页 > 网站地图 > 联系我们",
        "版权所有：某某出版社",
        "版权所有，侵权必究！",
        "某某网 备案号：京ICP备12345678号 联系电话：12345",
        "Please enable JavaScript to view this page.",
        "JavaScript is disabled in your browser.",
        "您的浏览器不支持播放此视频",
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
        "隐私政策、用户协议",
        "Privacy Policy",
        "涉案网站备案号为粤ICP备2021012345号",
        "它登记的号码是粤ICP备2021012345号",
        "网站备案号：指网站在主管部门登记的编号",
        "备案号：什么是备案号",
        "下一条：第五十二条规定，侵权的人应当承担责任",
        "下一条：他跳进水里，救起了两个孩子",
        "下一条 消息说今晚有雨",
        "下一页 的按钮不见了怎么办？",
        "上一页：点左边的箭头",
        # A sentence behind the colon.
        "上一篇：我们讨论了线性回归，它有闭式解。",
        "下一篇：我们会讨论支持向量机，请先复习拉格朗日乘子。",
        "前一篇：他写的是爱情，后一篇：他写的是死亡。",
        "上一篇：讲的是怎样选种子。下一篇：讲怎样施肥。",
        "后一篇：写得匆忙，错字也多，读的人却更喜欢",
        "下一篇：我们来看怎样求导",
        "上一篇：昨天我们学了加法",
        "上一条：凡事预则立",
        "前一条：不立则破；后一条：不破不立",
        "下一条：知之为知之",
        "Copyright 与“版权所有”的区别",
        "上一篇 是写春天的",
        "版权所有：作者的姓名",
        "他在扉页上写道: (C) 版权所有的意思",
        "首页、末页怎么去掉？",
        "请打开JavaScript控制台，输入下面的命令：",
        "请先启用JavaScript，然后照下面做：打开设置，最后刷新页面。",
        "请先启用JavaScript再运行例子。",
        "您的浏览器不支持JavaScript怎么办？",
        "您的浏览器不支持哪些标签？",
        "你的浏览器版本过低时，请照这一节的办法升级。",
        "JavaScript is required for this tutorial",
        "JavaScript is required reading for whoever writes a page.",
        "JavaScript is disabled by default in Tor.",
        "Please enable JavaScript before you run the tests below",
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
    assert navigation_share("首页 | 登录 | 体育 | 首页") == 0  # three different items
    assert navigation_share("从首页登录，看新闻和体育，再注册") == 0
    assert navigation_share("") == 0


@pytest.mark.parametrize(
    ("page", "share"),
    [
        ("首页 小说 玄幻 仙侠 上一章 目录 下一章 加入书签", 1),
        ("首页 电影 电视剧 综艺 动漫 会员 登录 本片讲一个渔村。", 15 / 23),
        ("你的位置:主页 > 新闻资讯 > 公司新闻 > 新厂投产", 1),
        ("你的位置:主页 > 新闻资讯 > 新厂投产", 0),  # three items
        ("Home | About Us | Contact | Log in\nIt rained.", 25 / 35),
        ("HOME\nBLOG\nHELP\nCART\nA quiet river town", 1),
        ("Home | About Us | Contact\nIt rained.", 0),  # three items
        ("Go Home, read the Blog, ask Help or Search.", 0),
    ],
)
def test_menus_of_novels_of_films_and_of_english_pages(page, share):
    assert navigation_share(page) == pytest.approx(share)


def test_only_lines_that_are_notices_count():
    notice, number = "请启用JavaScript后刷新本页面", "某某网 京ICP备12345678号-1"
    assert count_notices(f"{notice}\n{NOVEL}\n{number}") == 2
    assert count_notices(f"{NOVEL}{notice}，{number}") == 0
    for length, count in ((300, 1), (301, 0)):
        assert count_notices(number + "某" * (length - len(number))) == count
    assert count_notices("读者查到，这个网站的备案号为京ICP备12345678号，主体却是另一家公司。") == 0
