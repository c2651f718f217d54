"""The run folder's files: whole or not at all, and JSON that shows a change."""

import hashlib
import itertools
import json

import pytest

from tests.bucket import BucketPath
from welm_jax import run_files
from welm_jax.run_files import RunFolder, literal
from welm_jax.train import goodput
from welm_jax.train.goodput import Clock, Life


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


@pytest.mark.parametrize("name", ["run[1]", "[abc]", "a*", "what?", "[!x]"])
def test_a_folder_whose_name_looks_like_a_pattern_is_one_folder(tmp_path, name):
    """Beside folders that the name would match, and with such a name among its parents too."""
    for other in ("run1", "a", "ab", "whatX", "y"):
        (tmp_path / other / "run").mkdir(parents=True)
        (tmp_path / other / "run/lines.7").write_text('{"of": "another"}')
    run = RunFolder(tmp_path / name / "run")
    run.path.mkdir(parents=True)
    for file in ("lines.1", "lines.2", "notes"):
        (run.path / file).write_text("{}")
    assert sorted(run.path.glob("lines.[0-9]*")) == [run.path / "lines.1", run.path / "lines.2"]
    assert sorted(run.path.parent.glob("*/notes")) == [run.path / "notes"]
    run_files.remove_lines(run.path / "lines")
    assert [file.name for file in run.path.iterdir()] == ["notes"]
    for _ in range(2):  # each life in a file of its own
        Life(run.goodput, Clock()).write()
    assert sorted(file.name for file in run.goodput.iterdir()) == ["000001.json", "000002.json"]
    assert goodput.of_lives(run.goodput)


def test_a_uri_stays_as_it_is_and_a_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri in ("gs://bucket/run", "s3://bucket/a/run"):
        assert str(RunFolder(uri).path.resolve()) == uri
        assert str(RunFolder(uri).checkpoints.resolve()) == f"{uri}/checkpoints"
        assert str(literal(f"{uri}/tokens").parent.resolve() / "news") == f"{uri}/news"
    assert str(RunFolder("run").path.resolve()) == f"{tmp_path}/run"


def with_source(run, tokens):
    """A run folder with a mixture of one source, which lies in a folder of token datasets."""
    (tokens / "news").mkdir(parents=True)
    (tokens / "news/token_metadata.json").write_text("metadata")
    source = {"name": "news", "folder": str(tokens / "news"), "quota": 1000}
    digest = hashlib.sha256(b"metadata").hexdigest()
    run.write_mixture({"sources": [source | {"fingerprint": digest}]})
    return run


def test_sources_are_found_where_they_were_or_beside_a_run_that_moved(tmp_path):
    tokens = tmp_path / "project/tokens"
    run = with_source(RunFolder(tmp_path / "project/runs/first"), tokens)
    assert folder_of(run) == tokens / "news"
    (tmp_path / "project").rename(tmp_path / "renamed")
    moved = RunFolder(tmp_path / "renamed/runs/first")
    assert folder_of(moved) == tmp_path / "renamed/tokens/news"


def test_sources_that_moved_elsewhere_are_found_where_the_configuration_says(tmp_path, monkeypatch):
    tokens = tmp_path / "tokens"
    run = with_source(RunFolder(tmp_path / "run"), tokens)
    (tmp_path / "project").mkdir()
    tokens.rename(tmp_path / "project/tokens")
    monkeypatch.chdir(tmp_path / "project")
    assert folder_of(run, "tokens") == tmp_path / "project/tokens/news"
    (tmp_path / "project/tokens/news/token_metadata.json").write_text("of other rows")
    assert folder_of(run, "tokens") == tokens / "news"  # nowhere, and the error names where it was


def folder_of(run, *tokens_dir):
    [source] = run.read_mixture(*tokens_dir)["sources"]
    return literal(source["folder"])


def test_a_run_has_steps_once_one_was_made_or_saved(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert not run.has_steps()
    (run.checkpoints / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    run_files.append_lines(run.metrics, [{"step": 0, "scores": {}}])  # of an evaluation
    assert not run.has_steps()
    run_files.append_lines(run.metrics, [{"step": 1, "loss": 6.2}])
    assert run.has_steps()
    run.metrics.unlink()
    (run.checkpoints / "0").mkdir()
    assert run.has_steps()
