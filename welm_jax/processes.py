"""One run in several processes: how each begins, and what is told when one is gone.

Loads no jax: jax ends a process that has lost its peers by an abort, in the middle of anything, so
that what a person reads has to come from a parent that never loaded it.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from welm_jax.failures import InputError, Preempted, StopAndLook

DETECTED = "auto"
HEARTBEAT_SECONDS = 10  # after which a silent process is held to be gone


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


def supervised() -> None:
    """Goes on in a child process; the parent waits for it, and ends as it ends.

    Raises:
      Preempted: in the parent: jax aborted the child, as it does when a peer is gone.
      StopAndLook: in the parent: something else killed it.
    """
    until_parent_ends, parent_lives = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent_lives)
        threading.Thread(target=_end_with, args=(until_parent_ends,), daemon=True).start()
        return
    os.close(until_parent_ends)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child as well
    for passed_on in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(passed_on, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGABRT:
        raise Preempted(
            "another process of the run is gone (which one, the lines above say); the same command "
            "on all hosts goes on from the newest checkpoint"
        )
    if code < 0:
        raise StopAndLook(
            f"{signal.Signals(-code).name} killed the process that trains; is there memory enough?"
        )
    raise SystemExit(code)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Holds back an error until jax had the time to abort us, if it comes from a lost peer."""
    try:
        yield
    except (InputError, Preempted):
        raise
    except Exception:
        time.sleep(HEARTBEAT_SECONDS + 5)
        raise


def end(status: int) -> NoReturn:
    """Ends this process; if it failed as one of several, without a farewell to the others.

    They may wait for it in the middle of a step, and it for them.
    """
    jax = sys.modules.get("jax")
    if status and jax and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
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
            address, count, number, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--processes {DETECTED}: {error}; under SLURM start it with srun, elsewhere give "
            "--processes HOST:PORT,PROCESSES,NUMBER"
        ) from error
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise Preempted(f"the processes did not find each other: {first}") from error
