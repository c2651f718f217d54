"""docs/evaluation_sets.md says of each folder what is true of its rows."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tasks import small_sets

PAGE = Path(__file__).parents[2] / "docs/evaluation_sets.md"
TOLD = {
    folder: (rows, json.loads(line), checked)
    for folder, rows, line, checked in re.findall(
        r"^\| `(\w+)` \| ([\w*, ]+) \| `(\{.*?\})` \| .+ \| ([a-z ]+) \|$", PAGE.read_text(), re.M
    )
}
SETS = small_sets.sets_of_rows()


def test_the_page_names_every_folder_with_its_rows_and_what_its_reader_was_tried_on():
    of_folder = {}
    for row, one in SETS:
        rows, checked = of_folder.setdefault(one.folder, ([], {one.checked}))
        rows.append(row.name + "*" * bool(one.stands_in))
        checked.add(one.checked)
    assert {folder: (rows, {checked}) for folder, (rows, _, checked) in TOLD.items()} == {
        folder: (", ".join(rows), checked) for folder, (rows, checked) in of_folder.items()
    }
    assert {one.pool for _, one in SETS if one.pool} <= TOLD.keys()


def test_a_line_of_the_page_is_read_by_each_row_of_its_folder():
    for row, one in SETS:
        [example] = one.reader(TOLD[one.folder][1])
        assert not example.skipped
        row.prompt.format_map(example.inputs)


def test_every_field_of_a_line_counts():
    """Without it the line is refused or says something else, to one of the rows at least."""
    for folder, (_, line, _) in TOLD.items():
        readers = [one.reader for _, one in SETS if one.folder == folder]
        whole = [_read(reader, line) for reader in readers]
        for less in _each_field_gone(line):
            assert [_read(reader, less) for reader in readers] != whole, (folder, less)


def _read(reader, record):
    try:
        return list(reader(record))
    except (KeyError, ValueError) as error:
        return type(error)


def _each_field_gone(line: dict) -> Iterator[dict]:
    """Copies of a line, each without one field, those of inner objects too."""

    def paths(value, path=()):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                yield (*path, key)
            if isinstance(one, dict | list):
                yield from paths(one, (*path, key))

    for *path, last in paths(line):
        less = copy.deepcopy(line)
        inner = less
        for key in path:
            inner = inner[key]
        del inner[last]
        yield less
