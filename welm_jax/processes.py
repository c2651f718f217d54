"""One run in several processes: how each begins, and what is told when one is gone or fails.

Loads no jax before it joins: jax ends a process that has lost its peers by an abort, in the middle
of anything, so that what a person reads has to come from a parent that never loaded it.
"""

import contextlib
import json
import mmap
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

from welm_jax.failures import Failure, InputError, OfAnother, Preempted, StopAndLook, as_failure

DETECTED = "auto"
HEARTBEAT_SECONDS = 10  # after which a silent process is held to be gone
JOIN_SECONDS = 300  # that the others have to come
LISTEN_SECONDS = 0.5  # between two looks at whether another process has failed
# What jax's coordination service says before it aborts us, and which process it misses.
LOST_PEER = r"(?s)stopped sending heartbeats\):\s*(\d+)|JAX distributed service detected fatal"
JOINING = "--processes: {}, joining; is it the address of number 0, and its port free there?"
WORD = "welm_failure"  # the key under which a failing process leaves its status and reason
JOINED, TRAINS = 1, 2  # how far the child is
_stage: bytearray | mmap.mmap = bytearray(1)  # one of them; `supervised` shares it with the child
_ending = threading.Event()  # once it is set, what others say no longer ends this process


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
    if (
        not re.fullmatch(r".+:\d+", address)
        or len(numbers) != 2
        or not all(map(str.isdigit, numbers))
    ):
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

    SIGTERM is the child's to answer once it trains, for then it has something to save. Before that
    the parent kills it.

    Raises:
      Preempted: in the parent: a peer is gone or never came, or SIGTERM ended the child.
      StopAndLook: in the parent: another signal ended it.
      SystemExit: in the parent: with the child's status.
    """
    global _stage
    _stage = mmap.mmap(-1, 1)
    until_parent_ends, parent_lives = os.pipe()
    from_child, child_says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent_lives)
        os.dup2(child_says, sys.stderr.fileno())
        threading.Thread(target=_end_with, args=(until_parent_ends,), daemon=True).start()
        return
    for end_of_child in (until_parent_ends, child_says):
        os.close(end_of_child)
    killed: list[int] = []

    def end(number: int, _) -> None:
        if _stage[0] < TRAINS:
            killed.append(number)
        os.kill(child, signal.SIGKILL if killed else number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child as well
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR1, lambda number, _: os.kill(child, number))
    said = _passed_on(from_child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code >= 0:
        raise SystemExit(code)
    raise _killed(signal.SIGTERM if killed else -code, _stage[0] >= JOINED, said)


def _killed(number: int, has_joined: bool, said: str) -> Failure:
    """What it means that a signal ended the child."""
    lost = re.search(LOST_PEER, said)
    if number == signal.SIGTERM:
        return Preempted("ended by SIGTERM; start the same command again")
    if number == signal.SIGABRT and not has_joined:
        return Preempted(
            f"not all processes of the run came within {JOIN_SECONDS} s, or their coordinator "
            "cannot be reached; start the same command on all hosts"
        )
    if number == signal.SIGSEGV and not has_joined:  # jax's way to say that it cannot listen
        return InputError(JOINING.format("jax ended"))
    if number == signal.SIGABRT and lost:
        who = f"process {lost[1]}" if lost[1] else "another process"
        return Preempted(
            f"{who} of the run is gone; the same command on all hosts goes on from the newest "
            "checkpoint"
        )
    return StopAndLook(
        f"{signal.Signals(number).name} ended the process that trained; the lines above may say "
        "why, and an empty memory of the host is a usual reason"
    )


def _passed_on(pipe: int) -> str:
    """Writes to stderr what comes out of a pipe until it ends; the last of it."""
    said = b""
    while chunk := os.read(pipe, 65_536):
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        said = (said + chunk)[-65_536:]
    return said.decode(errors="replace")


def _end_with(pipe: int) -> None:
    """Ends this process once the other end of a pipe is closed, by whatever death."""
    os.read(pipe, 1)
    os._exit(Preempted.status)


@contextlib.contextmanager
def joined(processes: tuple[str, int, int] | None) -> Iterator[None]:
    """Joins the other processes of the run; if one of them fails in this block, all end as it does.

    Args:
      processes: as `parsed` gives them.

    Raises:
      InputError: nothing here tells which processes there are, or they cannot be joined.
    """
    import jax

    address, count, number = processes or (None, None, None)
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL
    )  # jax, joining, hears no other; then it has its own
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            # Or inside of a SLURM job it would take one GPU of those that it sees.
            cluster_detection_method="deactivate" if processes else None,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--processes {DETECTED}: {error}; under SLURM start it with srun, elsewhere give "
            "--processes HOST:PORT,PROCESSES,NUMBER"
        ) from error
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise InputError(JOINING.format(first)) from error
    _stage[0] = JOINED
    service = _coordination().client
    threading.Thread(target=_listen, args=(service,), daemon=True).start()
    try:
        yield
        service.wait_at_barrier("welm_end", JOIN_SECONDS * 1000)  # till then one may yet fail
    except Preempted:
        raise
    except Exception as error:
        unforeseen = as_failure(error) is None
        if unforeseen:
            traceback.print_exc()
        _tell_others(service, error)
        if unforeseen:  # Python's own end would wait for the others
            end(1)
        raise
    finally:
        _ending.set()


def note_training() -> None:
    """Lets the parent know that training has begun."""
    _stage[0] = TRAINS


def are_joined() -> bool:
    """Whether this process is one of several."""
    return "jax" in sys.modules and _coordination().client is not None


def _coordination() -> Any:
    """What jax knows of its processes; it has no public door to it that starts no devices."""
    from jax._src import distributed

    return distributed.global_state


def _tell_others(service: Any, error: Exception) -> None:
    """Leaves word of a failure with jax's coordination service."""
    failure = as_failure(error)
    if failure is None:  # it may come from another's end: that is heard of, or jax aborts us
        time.sleep(2 * HEARTBEAT_SECONDS)
    _ending.set()
    word = [failure.status, str(failure)] if failure else [1, repr(error)]
    service.key_value_set(WORD, json.dumps(word), allow_overwrite=True)


def _listen(service: Any) -> None:
    """Ends this process once another one has left word that it failed."""
    import jax

    while not _ending.wait(LISTEN_SECONDS):
        try:
            status, said = json.loads(service.key_value_try_get(WORD))
        except jax.errors.JaxRuntimeError:  # no word, or no service: then jax ends us
            continue
        if not _ending.is_set():
            failure = OfAnother(f"another process of the run failed: {said}", status)
            print(f"welm: error: {failure}", file=sys.stderr, flush=True)
            end(failure.status)


def end(status: int) -> NoReturn:
    """Ends this process; if it failed as one of several, without a farewell to the others.

    They may wait for it in the middle of a step, and it for them. The first one goes last, for with
    it goes what tells the others why.
    """
    if status and are_joined():
        sys.stdout.flush()
        sys.stderr.flush()
        if _coordination().process_id == 0:
            time.sleep(3 * LISTEN_SECONDS)
        os._exit(status)
    sys.exit(status)
