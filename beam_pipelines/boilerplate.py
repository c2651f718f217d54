"""Which lines of a text are about its page: links to its neighbours, footers, buttons, notices.

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
