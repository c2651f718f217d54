"""Content -> a page of HTML, whole in itself: the templates, and how they write numbers.

Everything is escaped, and a name that a template asks for must be there. Knows nothing of what a
page says.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

# Characters that act on what stands around them: control characters but tab and newline, and those
# that turn the direction of writing.
ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fills one of the templates beside this file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "duration": duration,
        "visible": visible,
    }
    return environment.get_template(template).render(content) + "\n"


def count(number: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,}"


def percent(share: float) -> str:
    """0.1234 as 12.3%."""
    return f"{share:.1%}"


def duration(seconds: float) -> str:
    """Seconds in minutes, or in hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def visible(text: str) -> str:
    r"""A model's text, unable to act on a terminal or a page: \x1b is four characters to read."""
    return ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
