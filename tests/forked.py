"""Processes that begin with jax and our trainer imported: forked from one that has done no more.

Importing takes three seconds of CPU, and tests start dozens of processes. A fork is a process as
real as any: it can be killed, and opens its own devices; the one that is forked has opened none.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

WELM = "from welm_jax.launch import main; main()"

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.forked", "welm_jax.runs", "welm_jax.report"])


class Forked:
    """A process that runs Python code, with the interface of subprocess.Popen.

    Attributes:
      output: the file of its stdout, and unless it has one of its own, of its stderr.
    """

    def __init__(
        self,
        code: str,
        arguments,
        output: Path,
        errors: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self.output, self.errors = output, errors or output
        for file in (self.output, self.errors):
            file.write_text("")
        environment = os.environ | (environment or {})
        arguments = [str(argument) for argument in arguments]
        how = (code, arguments, str(self.output), str(self.errors), environment)
        self._process = _CONTEXT.Process(target=_run, args=how, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Returns the exit status, or minus the number of the signal that ended it; or None."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit status once there is one."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self._process.kill()


def _run(code, arguments, output, errors, environment):
    """Makes a forked process what `python -c code arguments` is, and runs it."""
    os.setsid()
    for number, file in ((1, output), (2, errors)):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    _adopt(environment)
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()


def _adopt(environment):
    """Sets the environment, and what jax read from it when it was imported."""
    import jax

    changed = {name for name in environment if environment[name] != os.environ.get(name)}
    os.environ.clear()
    os.environ.update(environment)
    for name in changed:
        if name.startswith("JAX_") and hasattr(jax.config, name.lower()):
            value = environment[name]
            jax.config.update(name.lower(), bool(int(value)) if value in ("0", "1") else value)
