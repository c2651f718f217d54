"""Several processes without a model: how they join, and how each ends when one fails or is gone."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

from tests.forked import Forked
from welm_jax import processes
from welm_jax.failures import InputError

# As `welm train --processes` begins, around a loop that waits for all processes in each turn.
LOOP = """
import contextlib, signal, sys, time
from pathlib import Path
from welm_jax import processes, stop_signals
from welm_jax.failures import InputError, StopAndLook, run_door

address, number, fault = sys.argv[1:]
processes.JOIN_SECONDS, processes.HEARTBEAT_SECONDS = 4, 5

def fail():
    match fault:
        case "input":
            raise InputError("no such thing")
        case "disk":
            raise OSError(28, "No space left on device")
        case "bug":
            raise ZeroDivisionError("a bug")

def main(_):
    processes.supervised()
    print("joining", flush=True)
    with processes.joined((address, 2, int(number))):
        print("joined", flush=True)
        import jax, numpy as np
        from jax.experimental import multihost_utils
        from welm_jax.train import hosts
        if fault == "of the first":
            hosts.by_first(lambda: 1 / 0)
        if fault.startswith("done"):
            time.sleep(2)
            if fault == "done, then a full disk":
                raise OSError(28, "No space left on device")
            return
        fail()
        while not multihost_utils.process_allgather(np.bool_(False)).any():
            time.sleep(0.05)

signal.signal(signal.SIGTERM, stop_signals.end_at_once)
processes.end(run_door(main, [], "welm"))
"""


class Pair:
    """Two processes, of which one may be told to fail; killed at the end, whatever happens."""

    def __init__(self, folder, faults, address=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = address or f"127.0.0.1:{free.getsockname()[1]}"
        self.logs = [folder / f"{number}.log" for number in range(len(faults))]
        self.running = []
        for number, (fault, log) in enumerate(zip(faults, self.logs, strict=True)):
            if fault == "absent":
                continue
            self.running.append(Forked(LOOP, [address, number, fault], log))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def wait_for(self, word):
        for log in self.logs:
            until = time.monotonic() + 60
            while word not in log.read_text():
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)

    def statuses(self):
        return [process.wait(timeout=60) for process in self.running]

    def error(self, number):
        lines = self.logs[number].read_text().splitlines()
        return [line for line in lines if line.startswith("welm: error: ")][-1]


def child_of(process):
    """The child in which it went on, once there is one."""
    until = time.monotonic() + 60
    while not (
        found := subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True)
    ).stdout:
        assert time.monotonic() < until
        time.sleep(0.05)
    return int(found.stdout)


INPUT = ("input", 2, "no such thing")
DISK = ("disk", 70, "No space left on device; make room")
BUG = ("bug", 1, "ZeroDivisionError")


@pytest.mark.parametrize(
    ("failing", "fault", "status", "words"),
    [
        (0, *INPUT),
        (1, *INPUT),
        (1, *DISK),
        (0, *BUG),
        pytest.param(0, *DISK, marks=pytest.mark.slow),
        pytest.param(1, *BUG, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_fails_alone_ends_the_others_with_its_status(
    failing, fault, status, words, tmp_path
):
    """So that none asks to be started again, and a scheduler does not do so for ever."""
    faults = ["none", "none"]
    faults[failing] = fault
    with Pair(tmp_path, faults) as pair:
        assert pair.statuses() == [status, status]
        assert words in pair.logs[failing].read_text()
        other = pair.error(1 - failing)
        assert other.startswith("welm: error: another process of the run failed: ")
        assert words in other
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.log", "1.log"]


def test_a_bug_of_the_first_is_told_with_its_traceback(tmp_path):
    with Pair(tmp_path, ["of the first", "of the first"]) as pair:
        assert pair.statuses() == [1, 1]
        told = pair.logs[0].read_text()
        assert "Traceback" in told and "ZeroDivisionError: division by zero" in told
        assert "process 0 failed: ZeroDivisionError" in pair.error(1)


def test_one_that_is_done_waits_for_the_failure_of_another(tmp_path):
    with Pair(tmp_path, ["done, then a full disk", "done"]) as pair:
        assert pair.statuses() == [70, 70]


@pytest.mark.parametrize(
    ("lost", "how"),
    [
        (0, signal.SIGKILL),
        (1, signal.SIGSTOP),
        pytest.param(1, signal.SIGKILL, marks=pytest.mark.slow),  # in short: test_hosts.py
        pytest.param(0, signal.SIGSTOP, marks=pytest.mark.slow),
    ],
)
def test_a_lost_process_is_noticed_after_some_heartbeats(lost, how, tmp_path):
    with Pair(tmp_path, ["none", "none"]) as pair:
        pair.wait_for("joined")
        child = child_of(pair.running[lost])
        os.kill(child, how)
        left = time.monotonic()
        assert pair.running[1 - lost].wait(timeout=60) == 75
        assert time.monotonic() - left < 20  # with five seconds of silence allowed
        assert "of the run is gone; the same command on all hosts" in pair.error(1 - lost)
        if how == signal.SIGKILL:
            assert pair.running[lost].wait(timeout=30) == 70
            assert "SIGKILL ended the process that trained" in pair.error(lost)
        else:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("faults", [("none", "absent"), ("absent", "none")])
def test_processes_that_do_not_come_are_told_as_such(faults, tmp_path):
    with Pair(tmp_path, faults) as pair:
        assert pair.statuses() == [75]
        assert "not all processes of the run came within 4 s" in pair.error(faults.index("none"))


def test_a_port_that_is_taken_is_wrong_input(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Pair(tmp_path, ["none"], address) as pair:
            assert pair.statuses() == [2]
            assert "is it the address of number 0, and its port free there?" in pair.error(0)


def test_sigterm_ends_one_that_waits_for_the_others_and_may_come_twice(tmp_path):
    """A scheduler sends it to parent and child, and the parent passes it on."""
    with Pair(tmp_path, ["none"]) as pair:
        pair.wait_for("joining")
        time.sleep(2)  # until jax waits for the other one
        os.killpg(pair.running[0].pid, signal.SIGTERM)
        assert pair.statuses() == [75]
        assert re.search("SIGTERM; start the same command again", pair.error(0))
        assert "Traceback" not in pair.logs[0].read_text()


def test_sigterm_before_the_first_step_ends_both_at_once(tmp_path):
    """Nobody asks jax yet whether one came, and nothing is there to be saved."""
    with Pair(tmp_path, ["none", "none"]) as pair:
        pair.wait_for("joined")
        pair.running[1].send_signal(signal.SIGTERM)
        assert pair.statuses() == [75, 75]
        assert pair.error(1).endswith("ended by SIGTERM; start the same command again")
        assert "process 1 of the run is gone" in pair.error(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4", "give auto .SLURM"),
        ("host:1,two,0", "such as --processes 10.0.0.1:8476,4,0"),
        ("host:port,2,0", "such as --processes 10.0.0.1:8476,4,0"),
        ("host:1,2,2", "of 2 processes this is 0 to 1"),
    ],
)
def test_processes_that_cannot_be_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        processes.parsed(text)


def test_processes_in_words():
    assert processes.parsed("auto") is None
    assert processes.parsed("10.0.0.1:8476,4,3") == ("10.0.0.1:8476", 4, 3)
