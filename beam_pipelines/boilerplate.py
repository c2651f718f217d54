"""What of a text is about its page: links to its neighbours, footers, buttons, notices, menus.

A phrase alone makes no such line, for sentences speak of privacy policies and of the article
before: what counts is how the line is built around it. Knows nothing of documents.
"""

import re
from collections.abc import Sequence

LONGEST_LINE = 60  # characters; a longer line that is built like one of these is text

# A line without one of these is text; asked first, for it is fast.
_HINTS = re.compile(
    "[上前下后]一[篇页条]|版权所有|备案|icp|返回|顶部|查看更多|加载更多|全文|隐私|协议|条款|联系我们|"
    "浏览器|javascript|cookie|privacy",
    re.IGNORECASE,
)
_EDGE = r"[^\w]*"  # brackets, arrows and blanks around what a line says
_ITEMS = (
    "首页|返回首页|网站首页|返回顶部|网站地图|关于我们|联系我们|加入我们|诚聘英才|招贤纳士|广告服务|友情链接|"
    "隐私政策|隐私声明|服务条款|用户协议|使用条款|免责声明|法律声明|版权声明|版权所有|意见反馈|帮助中心|"
    "登录|注册|[上下]一[篇页]|尾页|末页"
)
_LINES = re.compile(
    "|".join(
        (
            # A link to a neighbour: its label, then its title or nothing.
            rf"{_EDGE}[上前下后]一[篇页条](文章|新闻|资讯)?\s*([:：].*|\s[^，,]*|[^\w]*)",
            # A button.
            rf"{_EDGE}(返回|回到)(顶部|首页|列表|上一页){_EDGE}",
            rf"{_EDGE}(点击)?(展开|阅读|查看)(全文|原文){_EDGE}",
            rf"{_EDGE}(已有\d+人参与)?{_EDGE}(点击)?(查看|加载)更多(精彩)?(内容|评论|新闻|图片)?{_EDGE}",
            # A footer: two items of a menu or more, a registration number, who owns the page.
            rf"{_EDGE}({_ITEMS})([\s|｜·/、,，>»-]+({_ITEMS}))+{_EDGE}",
            r".*icp[备证](案号?)?[:：\s]*(字)?(第)?\s*[\d-]{5,}.*",
            rf"{_EDGE}((网站|icp)?备案(许可证)?号)\s*[:：].*",
            r".*(©|\(c\)|copyright).*版权所有.*",
            rf"{_EDGE}版权所有([:：\s©].*|\W*(侵权必究|翻印必究|不得转载|请勿转载).*|{_EDGE})",
            rf"[^，,。]*\s版权所有{_EDGE}",
            rf"{_EDGE}(accept( all)? cookies|cookie policy|privacy policy){_EDGE}",
        )
    ),
    re.IGNORECASE,
)
# Notices of a page that could not be shown are sentences, but begin as no other sentence does.
_NOTICES = re.compile(
    r"^\W*(请|您?需要|please|you need to)\s*(先|在(您的|你的)?浏览器中?)?\s*"
    r"(启用|开启|打开|enable)\s*javascript"
    r"|^\W*[您你]的浏览器(不支持|版本过低|版本太低|已禁用|禁用了)"
    r"|^\W*javascript is (disabled|required|not enabled)",
    re.IGNORECASE | re.MULTILINE,
)
_REGISTRATION = re.compile(r"icp[备证](案号?)?[:：\s]*(字)?第?\d{5,}", re.IGNORECASE)
_MENU = (
    "首页 返回首页 网站首页 上一页 下一页 上页 下页 前一页 后一页 末页 尾页 第一页 最后一页 "
    "当前位置 您的位置 您现在的位置 您当前的位置 所在位置 返回 返回顶部 回到顶部 更多 "
    "查看更多 加载更多 登录 注册 免费注册 忘记密码 友情链接 网站地图 网站导航 版权所有 "
    "联系我们 关于我们 加入我们 加入收藏 设为首页 收藏本站 广告服务 招聘信息 人才招聘 "
    "诚聘英才 隐私政策 隐私声明 服务条款 用户协议 免责声明 法律声明 意见反馈 在线留言 "
    "帮助中心 会员中心 个人中心 购物车 我的订单 站内搜索 搜索 客户端 手机版 微博 微信 分享到 "
    "打印 关闭 关闭窗口 新闻中心 产品中心 产品展示 公司简介 企业文化 新闻动态 公司新闻 "
    "行业动态 行业新闻 通知公告 下载中心 国内 国际 社会 军事 新闻 体育 财经 娱乐 科技 汽车 "
    "房产 教育 健康 旅游 图片 视频 论坛 博客"
).split()
_MENU_ITEM = re.compile(rf"(?<!\w)({'|'.join(sorted(_MENU, key=len, reverse=True))})(?!\w)")
_MENU_ITEMS = 4  # different ones; prose has few that stand alone
_PART_EDGE = re.compile(r"[\s|｜>»＞]+")
_LONGEST_PART = 30  # characters of a headline or a link
_CLAUSE_MARKS = frozenset("。，！？；…,!?;.")
_SENTENCE_ENDS = tuple("。；，、")


def without_boilerplate_lines(texts: Sequence[str]) -> list[str]:
    """The texts without such lines; all others stay as they are, with their indentation."""
    return [_without_lines(text) for text in texts]


def _without_lines(text: str) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if not is_boilerplate(line)]
    return text if len(kept) == len(lines) else "\n".join(kept)


def is_boilerplate(line: str) -> bool:
    """Whether a line is about its page."""
    line = line.strip()
    if len(line) > LONGEST_LINE or not _HINTS.search(line):
        return False
    if _NOTICES.match(line):
        return True
    return not line.endswith(_SENTENCE_ENDS) and _LINES.fullmatch(line) is not None


def count_notices(text: str) -> int:
    """How often a text says that a page cannot be shown, or under which number it is registered."""
    lowered = text.lower()
    notices = "浏览器" in lowered or "javascript" in lowered
    return (len(_NOTICES.findall(text)) if notices else 0) + (
        len(_REGISTRATION.findall(text)) if "icp" in lowered else 0
    )


def navigation_share(text: str) -> float:
    """The share of a page's menus, links and headlines, or 0 for a text with few items of a menu.

    A part between blanks or bars counts if it is short, has no clause mark, and is not Latin only.
    """
    if len(set(_MENU_ITEM.findall(text))) < _MENU_ITEMS:
        return 0
    parts = _PART_EDGE.split(text)
    links = [
        part
        for part in parts
        if len(part) <= _LONGEST_PART
        and _CLAUSE_MARKS.isdisjoint(part)
        and (part.isdigit() or not part.isascii())
    ]
    return sum(map(len, links)) / sum(map(len, parts))
