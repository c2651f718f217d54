import contextlib
import os
import re
import signal
import subprocess
import sys

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import parquet_rows
from beam_pipelines.runner import on_worker, open_pipeline, running
from tests.beam.raw_files import line, random_text
from welm_jax.failures import InputError, Preempted, StopAndLook

THREADS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def run(step, flags=()):
    pipeline = open_pipeline(flags)
    with running(pipeline):
        _ = pipeline | beam.Create([1]) | beam.Map(step) | beam.Reshuffle()


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


def test_a_bug_that_speaks_of_half_a_character_reaches_the_command():
    def step(_):
        raise ZeroDivisionError("\udce9")

    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: \\udce9"):
        run(on_worker(step))


def job_in(folder, *flags):
    command = [sys.executable, "-m", "beam_pipelines.curate", "--gin_file", "corpus/quickstart.gin"]
    command += [f"--gin.RAW_DIR={folder / 'raw'}", f"--gin.CURATED_DIR={folder / 'out'}"]
    return [*command, *flags]


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([], id="one"),
        pytest.param(THREADS, id="threads", marks=pytest.mark.slow),
        pytest.param(PROCESSES, id="all"),
    ],
)
def test_a_failure_is_one_line_on_any_worker(tmp_path, flags):
    """The file is named in GBK, of which half characters are all that Python can make."""
    (tmp_path / "raw/news").mkdir(parents=True)
    (tmp_path / "raw/news/a.jsonl").write_bytes(line("春眠不觉晓，处处闻啼鸟。"))
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / os.fsdecode("题.jsonl".encode("gbk"))).write_bytes(b"\xff")
    flags = [f"--gin.CurationConfig.evaluation_dir={evaluation}", *flags]
    ended = subprocess.run(job_in(tmp_path, *flags), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    [error] = ended.stderr.splitlines()
    assert re.match(r"curate: error: .*\.jsonl, line 1: not UTF-8; convert the file", error)


# Beam's own threads die of it, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_is_killed_is_no_bug(capfd):
    main = os.getpid()

    def step(_):
        assert os.getpid() != main
        os.kill(os.getpid(), signal.SIGKILL)

    text = "^a worker process was killed, or has too little memory; start again, with more memory"
    with pytest.raises(Preempted, match=text):
        run(step, PROCESSES[:1])
    assert capfd.readouterr().err == ""


def test_an_interrupt_that_a_library_loses_ends_the_job():
    def step(_):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(on_worker(step))
    run(on_worker(lambda _: None))  # the next job does not hear of it


def test_an_interrupt_while_parquet_is_read_costs_no_row(tmp_path):
    (tmp_path / "raw/news").mkdir(parents=True)
    words = random_text(0)
    texts = [
        f"第{number}回，{words[number % 160 :][:40]}，且听下回分解。" for number in range(30_000)
    ]
    pq.write_table(pa.table({"text": texts}), tmp_path / "raw/news/a.parquet")
    with subprocess.Popen(
        job_in(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        reader = ["pgrep", "-P", str(job.pid), "-f", parquet_rows.__file__]
        while subprocess.run(reader, stdout=subprocess.DEVNULL).returncode:
            assert job.poll() is None
        os.killpg(job.pid, signal.SIGINT)
        error = job.stderr.read()
    assert job.returncode == 75 and "interrupted; the same command goes on" in error
    assert not [*(tmp_path / ".out.partial/new/aside").glob("*.done")]
