"""The run folder's files: whole or not at all, and JSON that shows a change."""

import itertools
import json

import pytest

from tests.bucket import BucketPath
from welm_jax import run_files
from welm_jax.run_files import RunFolder


def test_sealed_json_opens_and_any_changed_byte_is_seen():
    content = {"progress": {"step": 3, "losses": [0.1, float("inf")]}, "名": "值"}
    text = json.dumps(run_files.sealed(content)).encode()
    opened = run_files.unsealed(text)
    assert opened.pop("sha256") and opened == content
    for at, bit in itertools.product(range(len(text)), range(8)):
        changed = bytearray(text)
        changed[at] ^= 1 << bit
        try:
            opened = run_files.unsealed(bytes(changed))
        except ValueError:
            continue
        assert opened == run_files.unsealed(text)  # such as a blank that became another blank


@pytest.mark.parametrize("text", [b"[]", b"{}", b"", b"7", b'{"step": 3}'])
def test_json_that_was_never_sealed_is_refused(text):
    with pytest.raises(ValueError):
        run_files.unsealed(text)


def test_a_line_cut_by_a_kill_is_left_out_and_the_next_life_goes_on(tmp_path):
    file = RunFolder(tmp_path).metrics
    run_files.append_lines(file, [{"step": 1}])
    with file.open("a") as lines:
        lines.write('{"step": 2, "lo')
    run_files.append_lines(file, [{"step": 2}, {"step": 3}])
    assert [line["step"] for line in run_files.read_lines(file)] == [1, 2, 3]


def test_json_is_written_whole_and_readable(tmp_path):
    file = RunFolder(tmp_path).held_out
    run_files.write_json(file, {"news": "人民"})
    run_files.write_json(file, {"news": "日报"})
    assert "日报" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["held_out.json"]
    assert json.loads(file.read_text()) == run_files.read_json(file)


def test_a_bucket_takes_what_a_disk_does_though_it_neither_appends_nor_renames(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run_files, "in_bucket", lambda path: isinstance(path, BucketPath))
    folder = BucketPath(tmp_path)
    run_files.write_text(folder / "deep/er/text", "one")
    run_files.write_text(folder / "deep/er/text", "two")
    assert (tmp_path / "deep/er/text").read_text() == "two"
    for number in range(3):
        run_files.append_lines(folder / "lines", [{"at": number}])
    assert [one["at"] for one in run_files.read_lines(folder / "lines")] == [0, 1, 2]
    with pytest.raises(OSError, match="a bucket does not open"):
        (folder / "lines").open("a")
