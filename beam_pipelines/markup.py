"""How much of a text is the source of a page: what its tags enclose, and its entities.

A text that explains tags, or has a few, has its own words outside them. Knows nothing of
thresholds.
"""

import html
import re

_TAG = re.compile(
    r"<!--|<(/?)(!doctype|html|head|title|meta|link|body|div|span|p|a|img|br|hr|table|tbody|thead|tr|td|"
    "th|ul|ol|li|dl|dt|dd|h[1-6]|b|i|em|strong|font|center|small|form|input|button|select|option|"
    "label|iframe|script|style|noscript|nav|main|section|article|aside|header|footer|figure|video|"
    r"source|svg|path|g)\b[^<>]{0,500}>",
    re.IGNORECASE,
)
# Entities of a page's layout and of whole alphabets; &hellip; is a mark that a reader can read.
_ENTITY = re.compile(
    "&(?:nbsp|emsp|ensp|lt|gt|quot|amp|#[0-9]{2,6}|#x[0-9a-f]{2,5});", re.IGNORECASE
)
_ENTITY_WEIGHT = 2  # it is between the words, not around them
_MIN_TAGS = 4
_EDGES = ("", "\n", "\r")  # what is next to a tag that begins or ends a line, or meets another tag
_PAGE = ("!doctype", "html", "head", "body")
# What a reader of the page never sees, and where it ends.
_HIDDEN = {
    "!--": re.compile("-->"),
    "script": re.compile("</script[^<>]{0,99}>", re.IGNORECASE),
    "style": re.compile("</style[^<>]{0,99}>", re.IGNORECASE),
}


def markup_share(text: str) -> float:
    """The share of a text's words that elements enclose, or twice the share of its entities."""
    entities = sum(map(len, _ENTITY.findall(text))) if "&" in text else 0
    share = _ENTITY_WEIGHT * entities / _visible(text) if entities else 0
    source = html.unescape(text) if entities else text
    return max(share, _enclosed_share(source) if source.count("<") >= _MIN_TAGS else 0)


def _enclosed_share(text: str) -> float:
    tags = _tags(text)
    if len(tags) < _MIN_TAGS:
        return 0
    edges = [0, *(edge for start, end, _, _ in tags for edge in (start, end)), len(text)]
    pieces = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    depths = [0] * (len(pieces) + 1)  # how many elements begin before a piece, less those that end
    opened: dict[str, list[int]] = {}  # name -> the first piece of each element that is not closed
    line, broken = 0, set()  # the piece in which this line begins; those whose last line is broken
    for index, (_, _, name, closes) in enumerate(tags):
        before, after = pieces[index].rstrip(" \t"), pieces[index + 1].lstrip(" \t")
        line = index if "\n" in pieces[index] else line
        # Who mentions a tag goes on in the same line; an element begins and ends with its lines.
        if not closes and before[-1:] in _EDGES:
            opened.setdefault(name, []).append(index + 1)
        elif closes and opened.get(name):
            start = opened[name].pop()
            if after[:1] in _EDGES:
                depths[start] += 1
                depths[index + 1] -= 1
        if name == "br" and after[:1] in _EDGES:
            broken.add(line)
            depths[line + 1] += 1
            depths[index + 1] -= 1
    if tags[0][2] in _PAGE and not pieces[0].strip() and pieces[1].lstrip(" \t")[:1] in _EDGES:
        if tags[0][2] == "!doctype" or opened.get(tags[0][2]):
            depths[1] += 1  # a page that was cut off closes nothing
    words = enclosed = depth = 0
    for index, piece in enumerate(pieces):
        depth += depths[index]
        words += _visible(piece)
        if depth or index in broken:
            enclosed += _visible(piece if depth else piece.split("\n")[-1])
    return enclosed / max(words, 1)


def _tags(text: str) -> list[tuple[int, int, str, bool]]:
    """Where each tag begins and ends, its name, and whether it closes; a script is one tag."""
    tags, place, absent = [], 0, set()
    while tag := _TAG.search(text, place):
        name = (tag.group(2) or "!--").lower()
        place = tag.end()
        if name in _HIDDEN and not tag.group(1) and name not in absent:
            if end := _HIDDEN[name].search(text, place):
                name, place = "!--", end.end()
            else:
                absent.add(name)  # each search reads on to the end: one is enough
        tags.append((tag.start(), place, name, bool(tag.group(1))))
    return tags


def _visible(text: str) -> int:
    return len("".join(text.split()))
