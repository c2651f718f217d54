"""One run in several real processes: the same losses, other numbers of them, a lost one."""

import json
import re
import shutil
import signal
import socket
import time

import pytest

from tests import tiny_corpus
from tests.conftest import SHARDED_RTOL, xla_flags
from tests.forked import WELM, Forked
from tests.tasks import small_sets
from welm_jax import launch
from welm_jax.evaluate import result_files
from welm_jax.run_files import RunFolder

STEPS, EVERY = 20, 4
HEARTBEAT_SECONDS = 4  # less than a run's own, so that a lost process is noticed sooner
TRAIN = f"from welm_jax import processes; processes.HEARTBEAT_SECONDS = {HEARTBEAT_SECONDS}\n{WELM}"
TASKS = ("c3_0shot", "cmrc2018_0shot")


@pytest.fixture(scope="module")
def gin_file(tmp_path_factory):
    return tiny_corpus.run_gin(
        tmp_path_factory.mktemp("config") / "several.gin",
        STEPS,
        "MeshConfig.tensor = 2",
        "LoopConfig.log_every_steps = 1",
        "LoopConfig.evaluate_every_steps = 8",
        f"CheckpointConfig.every_steps = {EVERY}",
    )


@pytest.fixture
def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Processes:
    """Some processes of one run, each with some devices; killed at the end, whatever happens."""

    def __init__(self, gin_files, folder, count, devices):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        environment = {"XLA_FLAGS": xla_flags(devices)}
        self.logs = [folder.parent / f"{folder.name}.{number}.log" for number in range(count)]
        self.running = []
        for number, log in enumerate(self.logs):
            train = ["train", "--run_dir", folder, "--gin_file", gin_files[number % len(gin_files)]]
            train += ["--processes", f"{address},{count},{number}"] if count > 1 else []
            self.running.append(Forked(TRAIN, train, log, environment=environment))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def statuses(self, seconds=240):
        return [process.wait(timeout=seconds) for process in self.running]

    def error(self, number):
        """The line that a process ended with; what else it printed may come after it."""
        lines = self.logs[number].read_text().splitlines()
        return [line for line in lines if line.startswith("welm: error: ")][-1]

    def wait_for(self, pattern):
        """Until the first process has said it."""
        until = time.monotonic() + 240
        while not re.search(pattern, self.logs[0].read_text()):
            assert self.running[0].poll() is None, self.logs[0].read_text()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.02)


def fed(folder):
    """step -> (cursor, loss); where a step was made twice, the last time counts."""
    lines = RunFolder(folder).iterations()
    return {line["step"]: (line["cursor"], line["loss"]) for line in lines}


@pytest.fixture(scope="module")
def alone(gin_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    with Processes([gin_file], folder, 1, 8) as one:
        assert one.statuses() == [0]
    return fed(folder)


def assert_same_training(folder, alone):
    found = fed(folder)
    assert [cursor for cursor, _ in found.values()] == list(range(1, STEPS + 1))
    losses = [loss for _, loss in found.values()]
    expected = [loss for _, loss in alone.values()]
    assert losses == pytest.approx(expected, rel=10 * SHARDED_RTOL)


@pytest.mark.parametrize("others", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_lost_process_ends_the_others_and_other_processes_go_on(
    gin_file, alone, tmp_path, others
):
    """Two of four devices; then, from the checkpoint, some of one, over which tensor is split.

    These evaluate tasks at the end: the first reads and writes, and all compute.
    """
    folder = tmp_path / "run"
    with Processes([gin_file], folder, 2, 4) as two:
        while not (folder / f"checkpoints/{EVERY}").exists():  # a step is made before it is saved
            assert two.running[0].poll() is None, two.logs[0].read_text()[-2000:]
            time.sleep(0.02)
        two.running[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert two.running[0].wait(timeout=60) == 75
        assert time.monotonic() - killed < 2 * HEARTBEAT_SECONDS
        assert re.search("process 1 of the run is gone.*goes on from the newest", two.error(0))
    with Processes([evaluating(gin_file, tmp_path)], folder, others, 1) as several:
        assert several.statuses() == [0] * others
        said, silent = (log.read_text() for log in several.logs[:2])
        begun = re.search(r"going on from step (\d+)", said)
        assert EVERY <= int(begun[1]) < STEPS
        assert "going on" not in silent  # the first alone speaks
        assert "CLUE average" in said and "the mean of 2 of 8 rows" in said
        assert re.search("ocnli_0shot is left out: .*validation.jsonl, line 1, is not of", said)
    assert_same_training(folder, alone)
    run = RunFolder(folder)
    by_others = result_files.summaries(run.evaluation / str(STEPS), {})
    shutil.rmtree(run.evaluation)
    line = ["evaluate", "--run_dir", str(folder), "--data_dir", str(tmp_path)]
    launch.dispatch([*line, *(word for task in TASKS for word in ("--task", task))])
    assert set(by_others) == set(TASKS)
    assert result_files.summaries(run.evaluation / str(STEPS), {}) == by_others


def evaluating(gin_file, folder):
    """The same configuration with tasks evaluated, on sets that are written to a folder."""
    small_sets.write(folder / "c3", "validation", [*map(small_sets.dialogue, range(4))])
    small_sets.write(folder / "cmrc2018", "validation", [small_sets.squad(1)])
    (folder / "ocnli").mkdir()
    (folder / "ocnli/validation.jsonl").write_text('{"sentence1": "cut sh')  # and told
    tasks = ("ocnli_0shot", *TASKS)
    values = {"every_steps": STEPS, "data_dir": str(folder), "tasks": tasks}
    lines = [f"EvaluationConfig.{name} = {value!r}" for name, value in values.items()]
    (folder / "evaluating.gin").write_text("\n".join([f"include '{gin_file}'", *lines]))
    return folder / "evaluating.gin"


def test_a_request_to_stop_stops_all_after_the_same_step(gin_file, alone, tmp_path):
    folder = tmp_path / "run"
    with Processes([gin_file], folder, 2, 4) as two:
        two.wait_for("step 2/")
        two.running[1].send_signal(signal.SIGTERM)
        assert two.statuses() == [75, 75]
        stopped = [re.search(r"stopped at step (\d+), saved", two.error(at))[1] for at in (0, 1)]
        assert stopped[0] == stopped[1] and int(stopped[0]) < STEPS
    kept = {step: alone[step] for step in fed(folder)}
    assert list(kept) == list(range(1, int(stopped[0]) + 1))
    assert [cursor for cursor, _ in fed(folder).values()] == [cursor for cursor, _ in kept.values()]


OWN_ROWS = """
import sys
import jax, numpy as np
address, number = sys.argv[1:]
jax.distributed.initialize(address, 2, int(number))
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.step import own_rows
for data, tensor in ((8, 1), (4, 2), (1, 8)):
    print(own_rows(16, make_mesh(MeshConfig(data=data, tensor=tensor))))
crossed = np.array(jax.devices()).reshape(2, 4).T  # a device of each process by turns
for shape in ((8, 1, 1), (4, 1, 2)):
    print(own_rows(16, jax.sharding.Mesh(crossed.reshape(shape), ("data", "fsdp", "tensor"))))
"""


def test_each_process_reads_the_rows_that_its_devices_work_on(free_address, tmp_path):
    four = {"XLA_FLAGS": xla_flags(4)}
    running = [
        Forked(OWN_ROWS, [free_address, number], tmp_path / f"{number}.log", environment=four)
        for number in (0, 1)
    ]
    assert [one.wait(timeout=120) for one in running] == [0, 0]
    first, second = (
        [*map(json.loads, one.output.read_text().splitlines()[-5:])] for one in running
    )
    halves, whole = [list(range(8)), list(range(8, 16))], list(range(16))
    by_twos = [row for row in whole if row % 4 < 2], [row for row in whole if row % 4 >= 2]
    assert first == [halves[0], halves[0], whole, by_twos[0], whole]
    assert second == [halves[1], halves[1], whole, by_twos[1], whole]


def test_processes_that_would_compute_different_things_stop_at_once(gin_file, tmp_path):
    other = tmp_path / "other.gin"
    other.write_text(f"include '{gin_file}'\nOptimizerConfig.beta1 = 0.8\n")
    folder = tmp_path / "run"
    with Processes([gin_file, other], folder, 2, 4) as two:
        assert two.statuses() == [70, 70]
        for number in (0, 1):
            assert re.search(r"processes \d and \d differ in OptimizerConfig", two.error(number))
    assert not (folder / "config.gin").exists()


def test_what_the_first_refuses_is_refused_by_all_with_its_status(gin_file, tmp_path):
    other = tmp_path / "other.gin"
    other.write_text(f"include '{gin_file}'\nStepConfig.batch_size = 7\n")
    with Processes([other], tmp_path / "run", 2, 4) as two:
        assert two.statuses() == [2, 2]
        assert "batch of 7 sequences does not divide" in two.error(0)
        assert re.search("process.* failed: batch of 7 sequences does not divide", two.error(1))
    assert not (tmp_path / "run/config.gin").exists()
