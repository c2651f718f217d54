import pytest

from beam_pipelines import markup
from beam_pipelines.clean_rules import Thresholds, apply_rules
from beam_pipelines.document import DropReason
from beam_pipelines.markup import markup_share

PROSE = (
    "渡口的老船夫每天天不亮就起来，先把船舱里的水舀干净，再坐在岸边抽一袋烟。"
    "等到第一个赶集的人从坡上走下来，他便站起身，把缆绳解开，撑着竹篙慢慢离岸。"
)
LINES = [PROSE[start : start + 36] for start in (0, 5, 11, 18, 26, 34)]

SOURCES = [
    "<html><body>\n" + "".join(f"<p>{line}</p>\n" for line in LINES) + "</body></html>",
    "<!DOCTYPE html>\n<meta charset='utf-8'><title>渡口</title>\n"
    + "\n".join(LINES),  # cut off: nothing is closed
    "<html>\n<head>\n<title>渡口</title>\n</head>\n<body>\n" + "\n".join(LINES),
    "".join(f"<p>{line}</p>\n" for line in LINES),
    "<div class='a'><p>" + PROSE + "</p><p>" + LINES[2] + "</p></div>",
    "<div>" + "<br/>\n".join(LINES) + "</div>",
    "".join(f"{line}<b>船</b><br>\n" for line in LINES),
    "<ul>\n" + "".join(f"  <li><a href='{n}'>{line}</a></li>\n" for n, line in enumerate(LINES)),
    "源代码\n<table>\n<tr><td>" + "</td></tr>\n<tr><td>".join(LINES) + "</td></tr>\n</table>",
    "<SCRIPT>var a = 1;</SCRIPT>\n<DIV>\n" + PROSE + "\n</DIV>\n<p>" + LINES[1] + "</p>",
    # Over a third of it is tags, wherever they stand.
    "\n".join(
        f'{one[:4]}<a href="/{n}.htm" target="_blank">{one[4:9]}</a>{one[9:]}'
        for n, one in enumerate(LINES)
    ),
    "".join(f'<font color="red">{line[:7]}</font>{line[7:]}' for line in LINES),
    "".join(f"他说<SPAN CLASS=a>{line[:7]}</SPAN>，{line[7:20]}" for line in LINES),
    "The <i class='a'>old</i> man rose <a href='/early.htm'>early</a>, took his "
    "<b id='x'>boat</b>.",
    "".join(f"{line[:30]}<img src='/smile.gif' alt='笑'>，" for line in LINES),
    # Elements of any name, and paragraphs that nobody closes.
    "<rss><channel>"
    + "".join(f"<item><title>{one}</title></item>" for one in LINES)
    + "</channel></rss>",
    "<x:feed>\n" + "".join(f"<x-entry>{line}</x-entry>\n" for line in LINES) + "</x:feed>",
    "".join(f'<p class="MsoNormal">{line}\n' for line in LINES),
    "".join(f'<p class="MsoNormal">{line[:20]}，' for line in LINES),
    "<ol>\n" + "".join(f"<li>{line}\n" for line in LINES) + "</ol>",
    "&lt;div class=&quot;a&quot;&gt;&lt;p&gt;" + PROSE + "&lt;/p&gt;&lt;/div&gt;",
    "&nbsp;&nbsp;&nbsp;&nbsp;渡口的老船夫，&nbsp;&nbsp;每天天不亮，&nbsp;就起来了。&nbsp;&nbsp;&nbsp;",
]
TEXTS = [
    "<div> 是最常用的块，<span> 用在行里。记住 <div> 和 <span> 谁换行、谁不换行就好。",
    "<a>标签的target有什么用？<a target='_blank'>打开新的窗口，<a>留在原来的窗口里。",
    "<html> 是根，<head> 里写题目，<body> 里写正文，三者都只有一个，这是初学的人首先要记住的。",
    "<table> 后面写 <tr>，再写 <td>，"
    + PROSE
    + "最后不要忘了用 </table> 结束，</tr> 和 </td> 也是。",
    "<p align='center'>\n<img src='a.png' width='99'>\n</p>\n<h1>渡口</h1>\n\n" + PROSE,
    "<center>渡口</center>\n<hr>\n<br>\n" + PROSE,
    "<b>甲</b>：你从哪里来？\n<b>乙</b>：我从山那边来。\n<b>甲</b>：坐下喝口茶吧。\n<b>乙</b>：多谢多谢。",
    "<strong>第一回</strong>\n<i>渡口</i>\n却说" + PROSE,
    "列表这样写：\n<ul>\n<li>苹果</li>\n<li>香蕉</li>\n</ul>\n在浏览器里打开，每一项前面有一个圆点。"
    + PROSE,
    "<html>\n<body>\n<p>你好</p>\n</body>\n</html>\n这几行就是一个完整的页面。" + PROSE,
    "<ul> 是没有次序的列表。\n<ol> 是有次序的列表。\n<li> 是其中的一项。\n<dl> 是名词和它的解释。",
    "用 <ul> 和 </ul> 括起列表，用 <li> 和 </li> 括起每一项，用 <h1> 和 </h1> 括起标题，"
    "别忘了斜线。",
    "链接这样写：\n<a href='/first.htm' target='_blank'>一</a>\n"
    "<a href='/second.htm' target='_blank'>二</a>\n<a href='/third.htm' target='_blank'>三</a>\n"
    "点一下第一个，就会打开新的窗口。另外两个也是这样。",
    "头文件写 #include <stdio.h>、<stdlib.h>、<string.h>，地址写 <http://a.b/c> "
    "或者 <name@host.example>。",
    "输入框写 <input type='text' name='a'>，单选写 <input type='radio' name='b'/>，"
    "多选写 <input type='checkbox' name='c'> 和 <input type='checkbox' name='d'>，都很好记。",
    "配置在 <bean id='a' class='B'></bean> 里，"
    + PROSE
    + "改完以后重启，<bean id='c' class='D'></bean> 才生效。",
    "怎么打开新窗口？写 <a href='x.htm' target='_blank'>打开</a>，"
    "不要写 <a href='x.htm' target='_self'>打开</a>，记住这一点就行了。",
    "用 &lt; 表示小于号，用 &amp; 表示和号，用 &nbsp; 表示空格，其余的符号可以照原样写出来。",
    "他想了想&hellip;&hellip;说：&ldquo;算了，我们还是明天再去吧&hellip;&hellip;&rdquo;大家都没有说话。",
    "若 a<b 且 b<c，则 a<c；若 a<p 而 p>c，则不能断定。这里的 a、b、c 与 p 都是正整数。",
    "".join(f"<li> {line}\n<zhang> {line}\n" for line in LINES),  # a chat
    "The <b> element and the <i> element only change the look, so that <strong> is better here.",
]


@pytest.mark.parametrize("text", SOURCES)
def test_the_source_of_a_page_is_markup(text):
    assert apply_rules([text], Thresholds(max_repeated_share=1)) == [DropReason.MARKUP]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_with_tags_is_not(text):
    assert apply_rules([text], Thresholds()) == [None]


def test_the_share_between_tags_by_hand():
    row = "<p>一二三四</p>\n"
    assert markup_share(row) == 0  # two tags are too few
    assert markup_share(row + "<hr>") == 0  # so are three
    assert markup_share(row * 2) == 1
    assert markup_share(row * 2 + "五六") == 8 / 10
    assert markup_share(row * 2 + "<p>五六") == 8 / 10  # what is not closed encloses nothing
    assert markup_share(row * 2 + "他说<p>五六</p>") == 8 / 12  # nor what stands in a sentence
    # Two of three paragraphs end where the next begins, the last with its text.
    assert markup_share("<p>一二\n<p>三四\n<p>五六<hr>七八") == 6 / 8
    assert markup_share("一二<br>\n三四<br>\n五<br>\n六<br>七") == 5 / 7
    assert markup_share("一二&nbsp;") == 2 * 6 / 8
    assert markup_share("&#19968;") == 2
    assert markup_share("") == 0


@pytest.mark.parametrize(("words", "reason"), [(59, DropReason.MARKUP), (61, None)])
def test_a_third_in_tags_stays(words, reason):
    # Three elements have 30 characters in tags; twice as many words make them a third.
    text = PROSE[: words - 9] + "，<a h=1>一</a>二" * 3
    assert len("".join(text.split())) == 30 + words
    assert apply_rules([text], Thresholds()) == [reason]


def test_the_share_of_tags_by_hand():
    # <a h=1> and </a> have 6 and 4 characters; a third in tags is as much as four fifths enclosed.
    link = "一二<a h=1>三四</a>五六"
    assert markup_share(link * 2) == 0  # two elements are too few
    assert markup_share(link * 3) == pytest.approx(2.4 * 30 / 48)
    assert markup_share(link * 3 + "七" * 42) == pytest.approx(2.4 * 30 / 90)
    assert markup_share(link * 3 + "\n<hr><hr>") == pytest.approx(2.4 * 30 / 48)
    assert markup_share(link * 3 + "七<b>八</b>九") == pytest.approx(2.4 * 30 / 58)
    # A line with fewer words than a quarter is code, unless a clause ends there.
    code = "<i h=1234567890>一二</i>"  # 20 characters in tags
    assert markup_share("\n".join([code] * 3 + ["七" * 40])) == 6 / 46  # enclosed, as lines are
    assert markup_share("\n".join([code + "，"] * 3)) > 1
    assert markup_share("\u3000".join([code] * 3 + ["七" * 40])) == 0
    # Elements without words are mentioned.
    assert markup_share("一二<a h=1></a>三四<a h=1/>五六<a h=1>七八" * 3) == 0


@pytest.mark.parametrize(
    "start", ["<script>a ", "<style>a ", "<!-- a ", "<div ", "<p>\n", "<a h=1>b", "<a-a-a", "</a "]
)
def test_the_work_grows_as_the_text_does(monkeypatch, start):
    read = []

    class Counted:
        def __init__(self, pattern):
            self.pattern = pattern

        def search(self, text, place):
            found = self.pattern.search(text, place)
            read.append((found.end() if found else len(text)) - place)
            return found

    monkeypatch.setattr(markup, "_TAG", Counted(markup._TAG))
    hidden = {name: Counted(pattern) for name, pattern in markup._HIDDEN.items()}
    monkeypatch.setattr(markup, "_HIDDEN", hidden)
    text = start * 2000
    markup_share(text)
    assert sum(read) <= 2 * len(text)
