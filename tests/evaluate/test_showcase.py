import pytest
from etils import epath
from markdown_it import MarkdownIt

from tests.test_report import Page
from welm_jax import launch
from welm_jax.evaluate import showcase
from welm_jax.failures import InputError

FILE = """figure: Figure 4
title: Talk
shows: A voice.
context: |-
  甲：你好。
  乙：好。
prompts:
  - name: first
    prompt: |-
      甲：去哪里？
      乙：
  - name: second
    prompt: "甲：\\n乙："
"""
# Ends code blocks, cells and elements; clears a terminal; turns the direction; ends with a fence.
HOSTILE = "````\n# 题|<script>x</script>\x1b[2J\u202e\r<b>\n```\n"
SPELT_OUT = "````\n# 题|<script>x</script>\\x1b[2J\\u202e\\r<b>\n```\n"


def folder_of(path, **files):
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)
    return epath.Path(path)


def test_a_context_stands_before_each_prompt_and_the_model_goes_on_where_it_ends(tmp_path):
    [figure] = showcase.read(folder_of(tmp_path, figure_4=FILE))
    before = "甲：你好。\n乙：好。\n"
    assert figure.prompts == {
        "first": before + "甲：去哪里？\n乙：",
        "second": before + "甲：\n乙：",
    }
    assert (figure.name, figure.max_new_tokens) == ("Figure 4", showcase.NEW_TOKENS)


def test_our_prompts_are_of_the_papers_figures_and_their_texts_differ():
    figures = showcase.read(showcase.PROMPTS)
    names = [figure.name for figure in figures]
    assert names == [f"Figure {number}" for number in (1, 4, 5, 6, 7, 8)] + ["Table 4"]
    prompts = [text for figure in figures for text in figure.prompts.values()]
    assert len(prompts) == len(set(prompts)) == 20


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title", "titel", "x.yaml: 'titel' is no key; known are figure, title, shows, prompts"),
        ("shows: A voice.\n", "", "x.yaml: shows is missing"),
        ("title: Talk", "title: yes", "title must be a text, not True; put it in quotes"),
        ("title: Talk", "title: ''", "x.yaml: title is empty"),
        ("context: |-", "context: |", "x.yaml: context ends in a blank or a line break"),
        ('乙："', '乙：\u3000"', "x.yaml, prompt 2: prompt ends in a blank or a line break"),
        ('"甲：\\n乙："', '""', "x.yaml, prompt 2: prompt is empty"),
        ("second", "first", "x.yaml, prompt 2: another has the name 'first' too"),
        ("  - name: second\n    prompt:", "  - text:", "x.yaml, prompt 2: 'text' is no key"),
        ("  - name: second\n    prompt:", "  -", "x.yaml, prompt 2: must have the keys name, prom"),
        ("title: Talk", "title: Talk\nmax_new_tokens: 0", "max_new_tokens = 0; it must be 1 or"),
        ("title: Talk", "title: Talk\nmax_new_tokens: yes", "max_new_tokens = True; it must be"),
        ("title: Talk", "title: [Talk", "x.yaml is no YAML: "),
        ("title: Talk", "title: 2022-13-45", "x.yaml is no YAML: month must be in 1..12"),
    ],
)
def test_a_file_that_is_not_such_is_refused_by_place(tmp_path, old, new, words):
    assert old in FILE
    with pytest.raises(InputError) as error:
        showcase.read(folder_of(tmp_path, x=FILE.replace(old, new, 1)))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_prompts_a_list_without_entries_and_a_figure_twice_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no \*.yaml file of prompts; .* has examples"):
        showcase.read(epath.Path(tmp_path / "none"))
    empty = FILE.partition("prompts:")[0] + "prompts: []\n"
    with pytest.raises(InputError, match="prompts must be a list of name and prompt"):
        showcase.read(folder_of(tmp_path, b=empty))
    with pytest.raises(InputError, match="b.yaml: another file has the figure 'Figure 4' too"):
        showcase.read(folder_of(tmp_path, a=FILE, b=FILE))


@pytest.fixture
def hostile():
    """A figure whose prompt, and what was made of it, would do harm if they were obeyed."""
    name, title = "Figure 4 <i>", "Talk & more"
    figure = showcase.Figure(
        name=name, title=title, shows="A voice.", prompts={"first": HOSTILE}, max_new_tokens=9
    )
    made = {"prompt": HOSTILE, "continuation": HOSTILE, "temperature": 0.8, "top_p": 0.9}
    made |= {"seed": 3, "step": 2000, "max_new_tokens": 9, "new_tokens": 9}
    short = made | {"continuation": "好。", "new_tokens": 2}
    return [figure], [{"figure": name, "name": "first", **one} for one in (made, short)]


def test_markdown_tells_what_a_model_said_and_renders_nothing_of_it(hostile):
    text = showcase.markdown(*hostile)
    tokens = MarkdownIt().parse(text)
    fences = [token.content for token in tokens if token.type == "fence"]
    assert fences == [SPELT_OUT + "\n"] * 3 + ["好。\n"]
    assert [token.tag for token in tokens if token.type == "heading_open"] == [
        "h1", "h2", "h3", "h3"
    ]  # fmt: skip
    assert "Step 2,000, temperature 0.8, top-p 0.9, seed 3." in text
    assert "cut off after 9 tokens" in text and "ended by the model after 2 tokens" in text


def test_the_page_does_neither(hostile):
    text = showcase.page(*hostile)
    page = Page(text)
    assert page.text.count(SPELT_OUT) == 3
    assert not {"script", "i", "b"} & set(page.tags)
    assert "\x1b" not in text and "\u202e" not in text
    assert "Figure 4 <i>: Talk & more" in page.text and "seed 3." in page.text


@pytest.mark.parametrize("flags", [[], ["--prompt", "春天", "--showcase"]])
def test_a_prompt_or_a_showcase_is_wanted(tmp_path, flags):
    (tmp_path / "config.gin").touch()
    with pytest.raises(InputError, match="or --showcase: one of the two"):
        launch.dispatch(["generate", "--run_dir", str(tmp_path), *flags])


def test_bad_prompts_and_settings_are_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "config.gin").touch()
    line = ["generate", "--run_dir", str(tmp_path), "--showcase"]
    with pytest.raises(InputError, match="top_p = 1.5; it must lie in"):
        launch.dispatch([*line, "--top_p", "1.5"])
    with pytest.raises(InputError, match="holds no"):
        launch.dispatch([*line, str(tmp_path)])
