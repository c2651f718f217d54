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
# Items of menus. Two of the common ones are asked for first, for that is fast; two that speak of
# the site itself make a footer; the rest is named in prose and lists as well.
_COMMON = (
    "首页 主页 上一页 下一页 上一章 下一章 前一页 后一页 登录 注册 联系我们 关于我们 版权所有 "
    "当前位置 您的位置 你的位置"
).split()
_SITE = [
    *_COMMON,
    *"返回首页 网站首页 尾页 末页 返回顶部 上一篇 下一篇 网站地图 网站导航 加入我们".split(),
    *"诚聘英才 招贤纳士 人才招聘 广告服务 友情链接 加入收藏 设为首页 收藏本站 加入书签".split(),
    *"隐私政策 隐私声明 服务条款 用户协议 使用条款 免责声明 法律声明 版权声明 意见反馈".split(),
    *"在线留言 帮助中心 会员中心 免费注册 您现在的位置 您当前的位置 所在位置".split(),
]
_MENU = [
    *_SITE,
    *"上页 下页 第一页 最后一页 返回 回到顶部 更多 查看更多 加载更多 忘记密码 招聘信息".split(),
    *"个人中心 购物车 我的订单 站内搜索 搜索 客户端 手机版 微博 微信 分享到 打印 关闭".split(),
    *"关闭窗口 新闻中心 新闻资讯 产品中心 产品展示 公司简介 企业文化 新闻动态 公司新闻".split(),
    *"行业动态 行业新闻 通知公告 下载中心 国内 国际 社会 军事 新闻 体育 财经 娱乐 科技".split(),
    *"汽车 房产 教育 健康 旅游 图片 视频 论坛 博客 目录 书架 小说 玄幻 武侠 仙侠 言情".split(),
    *"穿越 科幻 排行榜 全本 完本 电影 电视剧 连续剧 综艺 动漫 纪录片 直播 频道 会员".split(),
]
_ENGLISH_SITE = [
    *("privacy policy", "cookie policy", "terms of use", "terms of service"),
    *("about us", "contact us"),
]
_ENGLISH_MENU = {
    *_ENGLISH_SITE,
    *("log in", "sign in", "sign up", "site map", "my account"),
    *"home about contact login register search sitemap news blog products services".split(),
    *"careers help faq support terms privacy cart".split(),
}
_ITEMS = "|".join(_SITE + _ENGLISH_SITE)
# A title behind a colon: who goes on after a comma, or ends as a sentence does, says one.
_LINKED = r"\s*[:：](?!\s*[他她]|.*我们)[^，,。；;]*"
_TITLE = (
    r"[\s:：]*[^\s:：，,。是的在将会把被有没也就都很了][^\s，,。]*"  # of a link without a colon
)
_OWNER = r"(公司|网|局|社|委|院|中心|大学|学校|政府|协会|集团|\d{4})"
_OWNED = r"版权所有(?![的者人权属])"
# The number of a page's registration, but not in a sentence that says which it is.
_REGISTRATION = (
    r"(?!.*([为是系]\s*\w?icp|[的该其将][^，。\s]{0,30}icp))[^，,。；]*"
    r"icp[备证](案号?)?[:：\s]*(字)?(第)?\s*[\d-]{5,}[^，,。；]*"
)
_PAGES = "([上前下后]一页|首页|尾页|末页)"
# A link to a neighbour, with a title that may ask or shout; buttons and phrases that never change.
_LINKS = re.compile(
    "|".join(
        (
            rf"{_EDGE}[上前下后]一(篇(文章|新闻|资讯)?|条(新闻|资讯)){_LINKED}",
            # A clause of a law, too, has one before it: only two side by side are links.
            rf"{_EDGE}[上前下后]一条{_LINKED}\s\W*[上前下后]一条{_LINKED}",
            rf"({_EDGE}[上前下后]一篇\s+{_TITLE}\s*){{1,2}}",
            rf"{_EDGE}([上前下后]一[篇条](文章|新闻|资讯)?[^\w。]*)+",
            rf"{_EDGE}{_PAGES}([\W\d]|{_PAGES})*",
            rf"{_EDGE}(返回|回到)(顶部|首页|列表|上一页){_EDGE}",
            rf"{_EDGE}(点击)?(展开|阅读|查看)(全文|原文){_EDGE}",
            rf"{_EDGE}(已有\d+人参与)?{_EDGE}(点击)?(查看|加载)更多(精彩)?(内容|评论|新闻|图片)?{_EDGE}",
            rf"{_EDGE}版权所有\W*(侵权必究|翻印必究|不得转载|请勿转载){_EDGE}",
            rf"{_EDGE}版权所有{_EDGE}",
            rf"{_EDGE}accept( all)? cookies{_EDGE}",
        )
    ),
    re.IGNORECASE,
)
# A footer: two items of a menu or more, a registration number, who owns the page.
_FOOTERS = re.compile(
    "|".join(
        (
            rf"{_EDGE}({_ITEMS})([\s|｜·/>»-]+({_ITEMS}))+{_EDGE}",
            _REGISTRATION,
            rf"{_EDGE}((网站|icp)?备案(许可证)?号)\s*[:：][^，,。]*\d[^，,。]*",
            rf".*(©|\(c\)|copyright).*{_OWNER}.*{_OWNED}.*",
            rf"{_EDGE}版权所有[:：\s©].*({_OWNER}|©).*",
            rf"[^，,。]*{_OWNER}\s+版权所有{_EDGE}",
        )
    ),
    re.IGNORECASE,
)
# A notice of a page that could not be shown is a sentence of its own line, and goes on about the
# page; one that asks or explains does not.
_NOTICES = re.compile(
    r"^\W*(请|您?需要)(先|在(您的|你的)?浏览器(设置)?中?)?\s*(启用|开启|打开)\s*javascript(支持|功能|脚本)?"
    r"([，,。.！!\s]*|[，,\s]*(后|并|以|来|再|然后|否则|才能)[^\n：:？?]*"
    r"(页面|本页|网页|本站|网站|显示|浏览|访问|体验)[^\n：:？?]*)$"
    r"|^\W*(please|you need to) enable javascript( and cookies)?( (in|on) your (web )?browser)?"
    r"([.!\s]*| (to|in order to|and|then) [^\n:?]*\b(page|site|website|app|content|comments|"
    r"continue|reload|refresh)\b[^\n:?]{0,60})$"
    r"|^\W*javascript is (disabled|required|not enabled)( (in|on) your (web )?browser)?([.!\s]*"
    r"|[.,]? (to|for|please|this)\b[^\n:?]*\b(this|the) (page|site|website|app|content)\b"
    r"[^\n:?]{0,60})$"
    r"|^\W*[您你](当前)?的浏览器(不支持|版本过低|版本太低|已禁用|禁用了)(?![^\n]*(时|的话|怎么|如何|哪))"
    r"([^\n，,。：:？?]{0,12}[。.！!\s]*|[^\n：:？?]*(请|无法|升级|下载)[^\n：:？?]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_LONGEST_FOOTER = 300  # characters; all that a page says of its owner may be one line
_REGISTERED = re.compile(_REGISTRATION, re.IGNORECASE)
_MENU_ITEM = re.compile(rf"(?<!\w)({'|'.join(sorted(_MENU, key=len, reverse=True))})(?!\w)")
_MENU_ITEMS = 4  # different ones; prose has few that stand alone
_PART_EDGE = re.compile(r"[\s|｜>»＞]+")
_ENGLISH_EDGE = re.compile(r"[\n|>»•·]+")
_LONGEST_PART = 30  # characters of a headline or a link
_CLAUSE_MARKS = frozenset("。，！？；…,!?;.")
_SENTENCE_ENDS = tuple("。；，、？！?!")


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
    if _NOTICES.fullmatch(line) or _LINKS.fullmatch(line):
        return True
    return not line.endswith(_SENTENCE_ENDS) and _FOOTERS.fullmatch(line) is not None


def count_notices(text: str) -> int:
    """How many lines say that a page cannot be shown, or under which number it is registered."""
    lowered = text.lower()
    notices = "浏览器" in lowered or "javascript" in lowered
    return (len(_NOTICES.findall(text)) if notices else 0) + (
        sum(map(_is_registration, text.split("\n"))) if "icp" in lowered else 0
    )


def _is_registration(line: str) -> bool:
    return len(line) <= _LONGEST_FOOTER and _REGISTERED.fullmatch(line) is not None


def navigation_share(text: str) -> float:
    """The share of a page's menus, links and headlines, or 0 for a text with few items of a menu.

    A part between blanks or bars counts if it is short, has no clause mark, and is not Latin only;
    of an English page a part is between bars or the ends of lines.
    """
    if sum(word in text for word in _COMMON) >= 2:
        if len(set(_MENU_ITEM.findall(text))) >= _MENU_ITEMS:
            return _links_share(_PART_EDGE.split(text), counts_latin=False)
    if "Home" in text or "HOME" in text:
        parts = [part.strip() for part in _ENGLISH_EDGE.split(text)]
        if len(_ENGLISH_MENU.intersection(map(str.lower, parts))) >= _MENU_ITEMS:
            return _links_share(parts, counts_latin=True)
    return 0


def _links_share(parts: Sequence[str], counts_latin: bool) -> float:
    links = [
        part
        for part in parts
        if len(part) <= _LONGEST_PART
        and _CLAUSE_MARKS.isdisjoint(part)
        and (counts_latin or part.isdigit() or not part.isascii())
    ]
    return sum(map(len, links)) / sum(map(len, parts))
