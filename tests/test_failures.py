import errno
import socket

import jax
import numpy as np
import pytest

from welm_jax.failures import InputError, Preempted, StopAndLook, as_failure, run_door


@pytest.mark.parametrize(
    ("failure", "status"), [(InputError, 2), (Preempted, 75), (StopAndLook, 70)]
)
def test_a_failure_is_one_line_and_its_status(capsys, failure, status):
    def main(argv):
        raise failure("what; where; next")

    assert run_door(main, ["x"], "welm") == status
    assert capsys.readouterr().err == "welm: error: what; where; next\n"


def test_debug_shows_the_traceback_and_is_not_passed_on(capsys):
    seen = []

    def main(argv):
        seen.extend(argv)
        raise InputError("wrong")

    assert run_door(main, ["a", "--debug", "b"], "welm") == 2
    assert seen == ["a", "b"]
    assert "Traceback" in capsys.readouterr().err


LESS_MEMORY = (
    "training takes less with a smaller BATCH_SIZE, more MICROBATCHES, REMAT = 'full' or more "
    "devices, and `welm plan` says what fits; other commands take less at a time, or fewer workers"
)


@pytest.mark.parametrize(
    ("take", "words"),
    [
        (lambda: jax.numpy.zeros(2**45), "RESOURCE_EXHAUSTED: Out of memory allocating"),
        (lambda: np.zeros(2**59), "Unable to allocate 4.00 EiB"),
        (lambda: bytearray(2**62), "MemoryError"),
    ],
    ids=["of a device", "of an array", "of Python"],
)
def test_too_little_memory_is_a_line_that_says_what_takes_less(capsys, take, words):
    assert run_door(lambda _: take(), [], "welm") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"welm: error: out of memory ({words}") and line.endswith(LESS_MEMORY)


def test_an_error_of_jax_that_is_not_about_memory_is_a_bug():
    assert as_failure(jax.errors.JaxRuntimeError("INTERNAL: a fault")) is None


def test_success_is_0_interruption_is_75_and_a_bug_is_not_hidden(capsys):
    assert run_door(lambda argv: None, [], "welm") == 0

    def full(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "/run/metrics.jsonl")

    assert run_door(full, [], "welm") == 70

    def missing(argv):
        return open("/nowhere/at/all", encoding="utf-8")

    assert run_door(missing, [], "welm") == 2
    assert "/nowhere/at/all" in capsys.readouterr().err

    def interrupted(argv):
        raise KeyboardInterrupt

    assert run_door(interrupted, [], "welm") == 75

    def broken(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_door(broken, [], "welm")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ESTALE, "Stale file handle", "/nfs/run"), 75),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), 75),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 75),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), 75),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), 75),
        (OSError(errno.ECONNREFUSED, "Connection refused"), 75),
        (ConnectionAbortedError("the other end went away"), 75),
        (OSError(errno.EHOSTUNREACH, "No route to host"), 75),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), 75),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 75),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 2),
        (OSError(errno.ENOENT, "No such file or directory", "/run"), 2),
        (OSError(errno.EACCES, "Permission denied", "/run"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 70),
        (OSError(errno.EIO, "Input/output error"), 70),
    ],
)
def test_an_error_of_the_system_that_may_pass_says_start_again(error, status):
    failure = as_failure(error)
    assert failure.status == status
    assert ("this may pass: start the same command again" in str(failure)) == (status == 75)
