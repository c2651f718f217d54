import re
import subprocess
import sys

import apache_beam as beam
import pytest

from beam_pipelines.runner import on_worker, open_pipeline, running
from tests.beam.raw_files import line
from welm_jax.failures import InputError, Preempted, StopAndLook

THREADS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def run(step):
    pipeline = open_pipeline([])
    with running(pipeline):
        _ = pipeline | beam.Create([1]) | beam.Map(step)


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (InputError('不是 "JSON": a\\b\n100 %'), InputError, '不是 "JSON": a\\b\n100 %'),
        (StopAndLook("damaged"), StopAndLook, "damaged"),
        (Preempted("again"), Preempted, "again"),
        (OSError(28, "No space left on device", "a"), StopAndLook, "[Errno 28] No space left on"),
        (OSError(2, "No such file or directory", "a"), InputError, "[Errno 2] No such file or dir"),
    ],
)
def test_a_failure_in_a_step_is_the_failure_of_the_command(capfd, raised, kind, text):
    def step(_):
        raise raised

    with pytest.raises(kind) as failure:
        run(on_worker(step))
    assert type(failure.value) is kind and str(failure.value).startswith(text)
    assert capfd.readouterr().err == ""


def test_what_nobody_foresaw_is_shown_with_all_that_workers_wrote(capfd):
    def step(_):
        print("a worker speaks", file=sys.stderr)
        return 1 / 0

    with pytest.raises((ZeroDivisionError, RuntimeError), match="division by zero"):
        run(on_worker(step))
    assert "a worker speaks" in capfd.readouterr().err


@pytest.mark.parametrize("flags", [[], THREADS, PROCESSES], ids=["one", "threads", "processes"])
def test_a_disk_that_gives_no_bytes_is_one_line_on_any_worker(tmp_path, flags):
    (tmp_path / "raw/news").mkdir(parents=True)
    (tmp_path / "raw/news/a.jsonl").write_bytes(line("春眠不觉晓，处处闻啼鸟。"))
    (tmp_path / "raw/news/b.jsonl").symlink_to("/proc/self/mem")
    command = [sys.executable, "-m", "beam_pipelines.curate", "--gin_file", "corpus/quickstart.gin"]
    command += [f"--gin.RAW_DIR={tmp_path / 'raw'}", f"--gin.CURATED_DIR={tmp_path / 'out'}"]
    ended = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert ended.returncode == 70
    [error] = ended.stderr.splitlines()
    assert re.match(r"curate: error: \[Errno 5\] Input/output error: '.*news/b.jsonl'; ", error)
