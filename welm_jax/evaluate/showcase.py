"""Prompts in the manner of the paper's examples, a YAML file a figure, and how the answers look.

The paper shows much of what its model does by examples alone (Figures 1 and 4 to 8, Table 4). The
prompts in `showcase_prompts` are ours; a folder of one's own is read alike. Knows no model.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from etils import epath

from welm_jax import pages
from welm_jax.failures import InputError
from welm_jax.run_files import literal

PROMPTS = literal(__file__).parent / "showcase_prompts"
NEW_TOKENS = 128
KEYS = ("figure", "title", "shows", "prompts"), ("context", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One file of prompts.

    Attributes:
      name: of the paper's figure, or any; no two files have the same.
      title: what it is about.
      shows: what there is to see, a sentence.
      prompts: name -> text to continue, with the file's context before it.
      max_new_tokens: longest continuation.
    """

    name: str
    title: str
    shows: str
    prompts: Mapping[str, str]
    max_new_tokens: int


def read(folder: epath.Path) -> list[Figure]:
    """The figures of a folder, a YAML file each, in the order of the files' names.

    A file has `figure`, `title`, `shows` and `prompts`, a list of `name` and `prompt`. It may have
    `context`, lines that stand before each prompt (solved examples, say), and `max_new_tokens`.

    Raises:
      InputError: there is no file, or one is not such; names file, prompt and key.
    """
    figures: dict[str, Figure] = {}
    for file in sorted(folder.glob("*.yaml")):
        figure = _figure(file)
        if figure.name in figures:
            raise InputError(f"{file}: another file has the figure {figure.name!r} too; rename one")
        figures[figure.name] = figure
    if not figures:
        raise InputError(f"{folder} holds no *.yaml file of prompts; {PROMPTS} has examples")
    return [*figures.values()]


def _figure(file: epath.Path) -> Figure:
    try:
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date that is none
        raise InputError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    _require_keys(f"{file}", content, *KEYS)
    name, title, shows = (_text(f"{file}", content, key) for key in KEYS[0][:3])
    before = [_text(f"{file}", content, "context")] if "context" in content else []
    listed, tokens = content["prompts"], content.get("max_new_tokens", NEW_TOKENS)
    if not (isinstance(listed, list) and listed):
        raise InputError(f"{file}: prompts must be a list of name and prompt")
    if type(tokens) is not int or tokens < 1:
        raise InputError(f"{file}: max_new_tokens = {tokens!r}; it must be 1 or more")
    prompts: dict[str, str] = {}
    for number, one in enumerate(listed, 1):
        where = f"{file}, prompt {number}"
        _require_keys(where, one, ("name", "prompt"))
        if _text(where, one, "name") in prompts:
            raise InputError(f"{where}: another has the name {one['name']!r} too; rename one")
        prompts[one["name"]] = "\n".join([*before, _text(where, one, "prompt")])
    return Figure(name=name, title=title, shows=shows, prompts=prompts, max_new_tokens=tokens)


def _require_keys(
    where: str, content: Any, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    known = [*required, *optional]
    if not isinstance(content, dict):
        raise InputError(f"{where}: must have the keys {', '.join(required)}")
    for key in content:
        if key not in known:
            raise InputError(f"{where}: {key!r} is no key; known are {', '.join(known)}")
    for key in required:
        if key not in content:
            raise InputError(f"{where}: {key} is missing")


def _text(where: str, content: Mapping[str, Any], key: str) -> str:
    text = content[key]
    if not isinstance(text, str):
        raise InputError(f"{where}: {key} must be a text, not {text!r}; put it in quotes")
    if not text:
        raise InputError(f"{where}: {key} is empty")
    if text != text.rstrip():
        raise InputError(
            f"{where}: {key} ends in a blank or a line break, and the model would go on from "
            f"there; write `{key}: |-` and the text below it"
        )
    return text


def ending(record: Mapping[str, Any]) -> str:
    """How long a continuation is, and whether the model ended it."""
    how = "ended by the model" if record["new_tokens"] < record["max_new_tokens"] else "cut off"
    return f"{how} after {pages.count(record['new_tokens'])} tokens"


def settings(record: Mapping[str, Any]) -> str:
    """What all texts of a showcase have in common."""
    among = f"top-k {record['top_k']}, " if record.get("top_k") else ""
    return (
        f"Step {pages.count(record['step'])}, temperature {record['temperature']:g}, {among}top-p "
        f"{record['top_p']:g}, seed {record['seed']}. One draw of each."
    )


def markdown(figures: Sequence[Figure], records: Sequence[Mapping[str, Any]]) -> str:
    """Prompts and continuations as Markdown; what a model said is told, never rendered.

    Args:
      figures: as `read` gives them.
      records: a line of showcase.jsonl each, those of a figure under its name.
    """
    parts = ["# Showcase", settings(records[0])]
    for figure in figures:
        parts += [f"## {figure.name}: {figure.title}", figure.shows]
        for record in (one for one in records if one["figure"] == figure.name):
            parts += [f"### {record['name']}", _fenced(record["prompt"])]
            parts += [f"Continuation, {ending(record)}:", _fenced(record["continuation"])]
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    """A code block that no run of backticks within ends."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{pages.visible(text)}\n{fence}"


def page(figures: Sequence[Figure], records: Sequence[Mapping[str, Any]]) -> str:
    """The same as a page of HTML."""
    content = {"figures": figures, "records": records, "ending": ending, "settings": settings}
    return pages.render("showcase.html.j2", content)
