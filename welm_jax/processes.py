"""One run in several processes: how each begins, and what is told when one is gone.

Loads no jax: jax ends a process that has lost its peers by an abort, in the middle of anything, so
that what a person reads has to come from a parent that never loaded it.
"""

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from welm_jax import run_files
from welm_jax.failures import InputError, Preempted, StopAndLook
from welm_jax.run_files import RunFolder

DETECTED = "auto"
HEARTBEAT_SECONDS = 10  # after which a silent process is held to be gone
# What jax's coordination service says before it aborts us, and which process it misses.
LOST_PEER = r"(?s)stopped sending heartbeats\):\s*(\d+)|JAX distributed service detected fatal"
BEGAN = time.perf_counter()  # of this process, near enough


def parsed(text: str) -> tuple[str, int, int] | None:
    """The coordinator's address, the number of processes and our own; None to detect them.

    Args:
      text: `auto`, or `HOST:PORT,PROCESSES,NUMBER`.

    Raises:
      InputError: it is neither.
    """
    if text == DETECTED:
        return None
    address, *numbers = text.split(",")
    if ":" not in address or len(numbers) != 2 or not all(map(str.isdigit, numbers)):
        raise InputError(
            f"--processes {text}; give {DETECTED} (SLURM, Open MPI, TPU VMs), or the coordinator, "
            "how many there are and which one this is, such as --processes 10.0.0.1:8476,4,0"
        )
    count, number = map(int, numbers)
    if number >= count:
        raise InputError(f"--processes {text}: of {count} processes this is 0 to {count - 1}")
    return address, count, number


def supervised(run: RunFolder) -> None:
    """Goes on in a child process; the parent waits for it, and ends as it ends.

    Where one process fails by itself, all others lose a peer; so it leaves word in the run folder,
    and they end with its status instead of asking to be started again.

    Raises:
      Preempted: in the parent: jax aborted the child, for a peer is gone.
      StopAndLook: in the parent: something else killed it, or another process left word.
    """
    until_parent_ends, parent_lives = os.pipe()
    from_child, child_says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent_lives)
        os.dup2(child_says, sys.stderr.fileno())
        threading.Thread(target=_end_with, args=(until_parent_ends,), daemon=True).start()
        return
    os.close(until_parent_ends)
    os.close(child_says)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child as well
    for passed_on in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(passed_on, lambda number, _: os.kill(child, number))
    said = _passed_on(from_child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lost = re.search(LOST_PEER, said)
    if code == -signal.SIGABRT and lost:
        _raise_what_was_left(run)
        who = f"process {lost[1]}" if lost[1] else "another process"
        raise Preempted(
            f"{who} of the run is gone; the same command on all hosts goes on from the newest "
            "checkpoint"
        )
    if code < 0:
        failure = StopAndLook(
            f"{signal.Signals(-code).name} ended the process that trained; the lines above may say "
            "why, and an empty memory of the host is a usual reason"
        )
        _leave_word(run, failure)
        raise failure
    raise SystemExit(code)


def _passed_on(pipe: int) -> str:
    """Writes to stderr what comes out of a pipe until it ends; the last of it."""
    said = b""
    while chunk := os.read(pipe, 65_536):
        os.write(sys.stderr.fileno(), chunk)
        said = (said + chunk)[-65_536:]
    return said.decode(errors="replace")


def _leave_word(run: RunFolder, failure: BaseException) -> None:
    status = getattr(failure, "status", 1)
    word = {"status": status, "failure": f"{type(failure).__name__}: {failure}"}
    with contextlib.suppress(OSError):
        run_files.write_json(run.failure, word)


def _raise_what_was_left(run: RunFolder) -> None:
    if run.failure.exists():
        word = run_files.read_json(run.failure)
        failure = StopAndLook(f"another process of the run failed: {word['failure']}")
        failure.status = word["status"]
        raise failure


@contextlib.contextmanager
def watched(run: RunFolder) -> Iterator[None]:
    """Leaves word of a failure that is this process's own.

    An error may come from a lost peer: then jax aborts us before we have waited long enough.
    """
    try:
        yield
    except Preempted:
        raise
    except Exception as error:
        if not getattr(error, "is_shared", False):
            if not isinstance(error, InputError):
                time.sleep(2 * HEARTBEAT_SECONDS)
            _leave_word(run, error)
        raise


def end(status: int) -> NoReturn:
    """Ends this process; if it failed as one of several, without a farewell to the others.

    They may wait for it in the middle of a step, and it for them. The first one goes last, for with
    it goes what would tell the others that it is gone.
    """
    jax = sys.modules.get("jax")
    if status and jax and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        if jax.process_index() == 0:
            time.sleep(2)
        os._exit(status)
    sys.exit(status)


def _end_with(pipe: int) -> None:
    """Ends this process once the other end of a pipe is closed, by whatever death."""
    os.read(pipe, 1)
    os._exit(Preempted.status)


def joined(processes: tuple[str, int, int] | None) -> None:
    """Joins the other processes of the run; they may take five minutes to come.

    Args:
      processes: as `parsed` gives them.

    Raises:
      InputError: nothing here tells which processes there are.
      Preempted: the others did not come.
    """
    import jax

    address, count, number = processes or (None, None, None)
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            # Or inside of a SLURM job it would take one GPU of those that it sees.
            cluster_detection_method="deactivate" if processes else None,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--processes {DETECTED}: {error}; under SLURM start it with srun, elsewhere give "
            "--processes HOST:PORT,PROCESSES,NUMBER"
        ) from error
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise Preempted(f"the processes did not find each other: {first}") from error
