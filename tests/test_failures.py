import errno
import socket

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


def test_success_is_0_interruption_is_75_and_a_bug_is_not_hidden(capsys):
    assert run_door(lambda argv: None, [], "welm") == 0

    def full(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "/run/metrics.jsonl")

    assert run_door(full, [], "welm") == 70

    def missing(argv):
        return open("/nowhere/at/all")

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
