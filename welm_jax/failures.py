"""The errors a person reads, and the four exit statuses they end in.

The status tells the operator what to do, not what went wrong: 0 done, 2 fix your input and do not
retry, 75 start me again, 70 stop and look. What went wrong is in the text. An exception that nobody
foresaw keeps its traceback and ends in 1: a bug of ours.
"""

import argparse
import errno
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from welm_jax import standard_streams

_OF_JAX = ("JaxRuntimeError", "XlaRuntimeError")  # by name: nothing here loads jax
_LESS_MEMORY = (
    "training takes less with a smaller BATCH_SIZE, more MICROBATCHES, REMAT = 'full' or more "
    "devices, and `welm plan` says what fits; other commands take less at a time, or fewer workers"
)

# What a file server, a network or a full memory may have got over when the command starts again.
PASSING = {
    *(errno.ESTALE, errno.ENOMEM, errno.EAGAIN, errno.ETIMEDOUT, socket.EAI_AGAIN),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
}


class Failure(Exception):
    """An ending that was foreseen: one line for a person, one exit status for a scheduler."""

    status = 70


class InputError(Failure):
    """Something the user gave is wrong; says what was asked, what is allowed, what to change."""

    status = 2


class Preempted(Failure):
    """The work was cut short with everything saved; the same command goes on from there."""

    status = 75


class StopAndLook(Failure):
    """Going on could do harm (corruption, a full disk): a person has to look first."""

    status = 70


class OfAnother(Failure):
    """Another process of the run failed; this one ends with its status."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


def failure_of_status(status: int, text: str) -> Failure:
    """The failure of another process, by the status and the text that are known of it."""
    kinds = {kind.status: kind for kind in (InputError, Preempted, StopAndLook)}
    return kinds[status](text)


def require_positive(config: object, *fields: str) -> None:
    """Raises InputError if a field of a configuration is below 1."""
    for field in fields:
        value = getattr(config, field)
        if value < 1:
            raise InputError(f"{type(config).__name__}.{field} = {value}; it must be 1 or more")


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose complaints are one line and status 2, as all our errors are."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError with argparse's own words."""
        if "expected one argument" in message:
            message += " (one that begins with - is written --NAME=VALUE)"
        raise InputError(f"{message}; {self.prog} --help tells more")


def run_door(main: Callable[[Sequence[str]], None], argv: Sequence[str], prog: str) -> int:
    """Runs a command and turns how it ended into one line on stderr and an exit status.

    Output that nobody reads any more is lost, and changes neither.

    Args:
      main: the command; gets the arguments without `--debug`.
      argv: the arguments as typed, without the program's name.
      prog: the program's name, which opens the line.

    Returns:
      The exit status: 0, or that of the Failure, whose traceback `--debug` in argv shows as well.
    """
    standard_streams.make_lasting()
    arguments = [argument for argument in argv if argument != "--debug"]
    try:
        main(arguments)
    except SystemExit as ended:  # argparse's, once it has printed its help
        if ended.code:
            raise
    except (Exception, KeyboardInterrupt) as error:
        failure = as_failure(error)
        if failure is None:
            raise
        if len(arguments) < len(argv):
            traceback.print_exc()
        print(f"{prog}: error: {failure}", file=sys.stderr)
        return failure.status
    if error := standard_streams.lost_output():
        print(f"{prog}: error: standard output is cut: {as_failure(error)}", file=sys.stderr)
        return StopAndLook.status
    return 0


def as_failure(error: BaseException) -> Failure | None:
    """What an exception is to a person; None for one that nobody foresaw."""
    match error:
        case Failure():
            return error
        case KeyboardInterrupt():
            return Preempted("interrupted; the same command goes on from what was saved")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EIO):
            return StopAndLook(f"{error}; make room or look at the disk, then start again")
        case _ if _is_out_of_memory(error):
            said = str(error).partition("\n")[0] or type(error).__name__
            return InputError(f"out of memory ({said}); {_LESS_MEMORY}")
        case OSError() if may_pass(error):
            return Preempted(f"{error}; this may pass: start the same command again")
        case OSError():
            return InputError(f"{error}; is the path right, and may it be read and written?")
        case ModuleNotFoundError():
            return InputError(f"{error}; install it, or all that we need: pip install -e '.[all]'")
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    of_devices = type(error).__name__ in _OF_JAX and "RESOURCE_EXHAUSTED" in str(error)
    return of_devices or isinstance(error, MemoryError)


def may_pass(error: BaseException) -> bool:
    """Whether an error of the system may be gone when the same command starts again."""
    return isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in PASSING
    )
