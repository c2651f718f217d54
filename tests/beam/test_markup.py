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
    "用 &lt; 表示小于号，用 &amp; 表示和号，用 &nbsp; 表示空格，其余的符号可以照原样写出来。",
    "他想了想&hellip;&hellip;说：&ldquo;算了，我们还是明天再去吧&hellip;&hellip;&rdquo;大家都没有说话。",
    "若 a<b 且 b<c，则 a<c；若 a<p 而 p>c，则不能断定。这里的 a、b、c 与 p 都是正整数。",
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
    assert markup_share("一二<br>\n三四<br>\n五<br>\n六<br>七") == 5 / 7
    assert markup_share("一二&nbsp;") == 2 * 6 / 8
    assert markup_share("&#19968;") == 2
    assert markup_share("") == 0


@pytest.mark.parametrize("start", ["<script>a ", "<style>a ", "<!-- a ", "<div ", "<p>\n"])
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
