"""How much of a text is the source of a page: what its tags enclose, they themselves, entities.

A text that explains tags, or has a few, has its own words outside them. Knows nothing of
thresholds.
"""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

# An element of any name, for feeds have names of their own; <stdio.h> and <http://...> are none.
_TAG = re.compile(
    r"<!--|<(/?)(!doctype|[a-z][a-z0-9]*(?:[:-][a-z0-9]+)*)(?=[\s/>])[^<>]{0,500}>", re.IGNORECASE
)
# Entities of a page's layout and of whole alphabets; &hellip; is a mark that a reader can read.
_ENTITY = re.compile(
    "&(?:nbsp|emsp|ensp|lt|gt|quot|amp|#[0-9]{2,6}|#x[0-9a-f]{2,5});", re.IGNORECASE
)
_ENTITY_WEIGHT = 2  # it is between the words, not around them
_TAG_WEIGHT = 2.4  # a third of a text in tags is as much as four fifths between them
_MIN_TAGS = 4
_MIN_SOURCE_TAGS = 6  # three elements: an answer shows how to write one, and how not to
_EDGES = ("", "\n", "\r")  # what is next to a tag that begins or ends a line, or meets another tag
_PAGE = ("!doctype", "html", "head", "body")
_UNCLOSED = frozenset("p li dt dd td th tr option".split())  # the next of the name closes them
_VOID = frozenset("!-- !doctype html head body br hr img input link meta".split())  # without an end
_SELDOM_MENTIONED = ("img", "p")  # with attributes
# What a reader of the page never sees, and where it ends.
_HIDDEN = {
    "!--": re.compile("-->"),
    "script": re.compile("</script[^<>]{0,99}>", re.IGNORECASE),
    "style": re.compile("</style[^<>]{0,99}>", re.IGNORECASE),
}
_LINE = re.compile("[^\n\u3000]+")  # of code that lost its line breaks the indentation is left
_CLAUSE_MARK = re.compile("[。，！？；]")
_IN_TAG, _IN_OTHER_TAG = "\x01", "\x02"


class Tag(NamedTuple):
    """A tag of a text, or a whole script, style or comment, which is named !--.

    Attributes:
      start: where it begins.
      end: where the text after it begins.
      name: of its element, in lower case.
      closes: whether it ends the element.
    """

    start: int
    end: int
    name: str
    closes: bool


def markup_share(text: str) -> float:
    """The share of a text's words that elements enclose, or a multiple of that of tags or entities.

    The share of entities counts twice, that of tags 2.4 times.
    """
    entities = sum(map(len, _ENTITY.findall(text))) if "&" in text else 0
    share = _ENTITY_WEIGHT * entities / _visible(text) if entities else 0
    source = html.unescape(text) if entities else text
    tags = _tags(source) if source.count("<") >= _MIN_TAGS else []
    if len(tags) < _MIN_TAGS:
        return share
    return max(share, _enclosed_share(source, tags), _TAG_WEIGHT * _tag_share(source, tags))


def _enclosed_share(text: str, tags: Sequence[Tag]) -> float:
    """The share of the words outside tags that elements enclose, or that a <br> ends."""
    pieces = _pieces(text, tags)
    elements, lines = _elements(tags, pieces), _broken_lines(tags, pieces)
    # 1. How many are around each piece: those that begin before it, less those that end.
    depths = [0] * (len(pieces) + 1)
    for first, end in elements + [(first + 1, end) for first, end in lines]:
        depths[first] += 1
        depths[end] -= 1
    # 2. The words of all pieces, and of those that any is around; of a piece in which a broken
    # line begins this line counts.
    begin_lines = {first for first, _ in lines}
    words = enclosed = depth = 0
    for index, piece in enumerate(pieces):
        depth += depths[index]
        words += _visible(piece)
        if depth or index in begin_lines:
            enclosed += _visible(piece if depth else piece.split("\n")[-1])
    return enclosed / max(words, 1)


def _pieces(text: str, tags: Sequence[Tag]) -> list[str]:
    """The text before, between and after the tags: piece n stands before tag n."""
    edges = [0, *(edge for tag in tags for edge in (tag.start, tag.end)), len(text)]
    return [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _elements(tags: Sequence[Tag], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """The first piece that each element encloses, and the one after its last.

    Who mentions a tag goes on in the same line; an element begins and ends with its lines.
    """
    elements, unclosed = [], set()
    may_be_unclosed = _UNCLOSED if not _are_speakers(tags) else frozenset()
    opened: dict[str, list[int]] = {}  # name -> the first piece of each element that is not closed
    for index, (_, _, name, closes) in enumerate(tags):
        begun = opened.setdefault(name, [])
        if not closes and _ends_at_edge(pieces[index]):
            # 1. A paragraph, a cell, an item ends where the next one begins.
            if name in may_be_unclosed and begun:
                elements.append((begun.pop(), index + 1))
                unclosed.add(name)
            begun.append(index + 1)
        elif closes and begun:
            # 2. All others end with a tag of theirs.
            first = begun.pop()
            if _begins_at_edge(pieces[index + 1]):
                elements.append((first, index + 1))
    # 3. The last paragraph of several ends with its text, a page that was cut off with the last.
    elements += [(first, first + 1) for name in unclosed for first in opened[name]]
    page = tags[0].name
    if page in _PAGE and not pieces[0].strip() and _begins_at_edge(pieces[1]):
        if page == "!doctype" or opened[page]:
            elements.append((1, len(pieces)))
    return elements


def _are_speakers(tags: Sequence[Tag]) -> bool:
    """Whether tags may be the names of who speaks in a chat, of which one is <li>, say.

    Tags of other names, half as many or more, are never closed either.
    """
    closed = {tag.name for tag in tags if tag.closes}
    open_ones = Counter(tag.name for tag in tags if tag.name not in closed | _VOID)
    unclosed = sum(open_ones.pop(name, 0) for name in _UNCLOSED)
    return 2 * open_ones.total() >= unclosed > 0


def _broken_lines(tags: Sequence[Tag], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """The piece in which each line begins that a <br> ends, and the one after its last."""
    lines, line = [], 0
    for index, tag in enumerate(tags):
        line = index if "\n" in pieces[index] else line
        if tag.name == "br" and _begins_at_edge(pieces[index + 1]):
            lines.append((line, index + 1))
    return lines


def _begins_at_edge(piece: str) -> bool:
    return piece.lstrip(" \t")[:1] in _EDGES


def _ends_at_edge(piece: str) -> bool:
    return piece.rstrip(" \t")[-1:] in _EDGES


def _tag_share(text: str, tags: Sequence[Tag]) -> float:
    """The share of a text, lines of code left out, in tags that belong to the source of a page."""
    # 1. The text, with a sign for each character of a tag.
    pieces, flat = _pieces(text, tags), []
    are_source = _are_source(text, tags, pieces)
    if sum(are_source) < _MIN_SOURCE_TAGS:
        return 0
    for piece, tag, is_source in zip(pieces, tags, are_source, strict=False):
        sign = _IN_TAG if is_source else _IN_OTHER_TAG
        flat += (piece, sign * _visible(text[tag.start : tag.end]))
    flat.append(pieces[-1])
    # 2. A line of code is mostly tags, and says nothing.
    in_tags = others = 0
    for line in _LINE.findall("".join(flat)):
        tags_of_line, visible = line.count(_IN_TAG), _visible(line)
        words = visible - tags_of_line - line.count(_IN_OTHER_TAG)
        if 4 * words >= visible or _CLAUSE_MARK.search(line):
            in_tags += tags_of_line
            others += visible - tags_of_line
    return in_tags / max(in_tags + others, 1)


def _are_source(text: str, tags: Sequence[Tag], pieces: Sequence[str]) -> list[bool]:
    """Which tags have attributes and begin an image or a paragraph, or an element with words.

    What ends such an element counts as well. Others are as often mentioned, or typed for a bold
    word.
    """
    have_attributes = ["=" in text[tag.start : tag.end] for tag in tags]
    are_source, opened = [False] * len(tags), defaultdict(list)
    for index, tag in enumerate(tags):
        if not tag.closes:
            opened[tag.name].append(index)
            are_source[index] = have_attributes[index] and tag.name in _SELDOM_MENTIONED
        elif opened[tag.name]:
            begin = opened[tag.name].pop()
            # A tag between the two is words enough.
            if have_attributes[begin] and (index - begin > 1 or pieces[index].strip()):
                are_source[begin] = are_source[index] = True
    return are_source


def _tags(text: str) -> list[Tag]:
    """The tags of a text; a script is one."""
    tags, place, absent = [], 0, set()
    while tag := _TAG.search(text, place):
        name = (tag.group(2) or "!--").lower()
        place = tag.end()
        if name in _HIDDEN and not tag.group(1) and name not in absent:
            if end := _HIDDEN[name].search(text, place):
                name, place = "!--", end.end()
            else:
                absent.add(name)  # each search reads on to the end: one is enough
        tags.append(Tag(tag.start(), place, name, bool(tag.group(1))))
    return tags


def _visible(text: str) -> int:
    return len("".join(text.split()))
