"""Our own commands, each printed as a user would type it and run as a process of its own.

Knows nothing of what a command does; how it ended is all that it hears.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from welm_jax.failures import Failure, Preempted, StopAndLook


class CommandFailed(Failure):
    """A command ended badly and has told why; its status is passed on."""

    def __init__(self, heading: str, status: int):
        how = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        super().__init__(f"{heading}: the command above {how}; see what it says, then start again")
        self.status = status if status > 0 else StopAndLook.status


def run(console: Console, heading: str, command: Sequence[str]) -> None:
    """Runs a command and waits for it, also for it to save what it has when it is to stop.

    Args:
      console: where the command is printed.
      heading: what it is for; opens the text of an error.
      command: `welm` or `python`, and the rest.

    Raises:
      Preempted: it was stopped.
      CommandFailed: it ended badly otherwise.
    """
    program, *rest = command
    typed = shlex.join([f"{folder_to_type()}{program}", *rest])
    console.print(f"$ {escape(typed)}", style="cyan", soft_wrap=True)
    door = ["-c", "from welm_jax.launch import main; main()"] if program == "welm" else []
    # Control-C reaches the command too, which saves what it has; we wait for it to end.
    former = signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen([sys.executable, *door, *rest])
    try:
        status = process.wait()
    except Preempted:  # SIGTERM reaches us alone
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, former)
    if status in (Preempted.status, -signal.SIGTERM, -signal.SIGINT):
        raise Preempted(f"{heading}: stopped; the same command goes on from what was saved")
    if status:
        raise CommandFailed(heading, status)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Makes a SIGTERM end the command that runs, and then us."""
    former = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _stop(number: int, _) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what runs is already ending
    raise Preempted("stopped by SIGTERM; the same command goes on from what was saved")


def folder_to_type() -> str:
    """What to type before `python` and `welm`: nothing if the shell finds this environment's."""
    programs = Path(sys.executable).parent
    if programs in map(Path, os.get_exec_path()):
        return ""
    here = Path.cwd()
    return f"{programs.relative_to(here) if programs.is_relative_to(here) else programs}/"
