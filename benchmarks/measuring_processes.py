"""The processes in which gpu_suite measures: one at a time, until the time is up."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.same_work import Work

MODULES = {"ours": "gpu_measurements", "peer": "gpt_neox_peer"}
NO_TIME = "not run: no time left"
REPOSITORY = Path(__file__).parent.parent


class Bench:
    """Runs one measurement at a time, each in a process of its own, until the time is up.

    Each side's next process loads its packages meanwhile, and then waits for its work.
    """

    def __init__(self, peer_python: str, environment: dict[str, str], seconds: float):
        self._pythons = {"ours": sys.executable, "peer": peer_python}
        self._environment, self._deadline = environment, time.monotonic() + seconds
        self._waiting = {side: self._started(side) for side in MODULES}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._waiting.values():
            _end(process)

    def left(self) -> float:
        """Seconds until the time is up."""
        return self._deadline - time.monotonic()

    def ask(self, side: str, work: Work | None, keeps: float = 0.0) -> dict:
        """What one process found of some work; `failed` says why there is nothing.

        Args:
          side: ours or peer.
          work: what to do; None is parity.
          keeps: seconds that must be left when it ends.
        """
        if self.left() <= keeps:
            return {"failed": NO_TIME}
        process, self._waiting[side] = self._waiting[side], self._started(side)
        job = json.dumps(work and asdict(work)) + "\n"
        try:
            out, errors = process.communicate(job, timeout=self.left() - keeps)
        except subprocess.TimeoutExpired:
            return {"failed": NO_TIME}
        finally:
            _end(process)
        if process.returncode == 0:
            return json.loads(out.splitlines()[-1])
        if absent := re.search(r"ModuleNotFoundError: No module named '(\w+)[^\n]*\n\Z", errors):
            return {"failed": f"{absent[1]} is not here"}
        if "RESOURCE_EXHAUSTED" in errors or "OutOfMemoryError" in errors:
            return {"failed": "out of memory"}
        print(errors[-3000:], file=sys.stderr)
        return {"failed": f"exit status {process.returncode}"}

    def _started(self, side: str) -> subprocess.Popen:
        return subprocess.Popen(
            [self._pythons[side], "-m", f"benchmarks.{MODULES[side]}"],
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # torch.compile has workers, which must end with it
        )


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def environment_of(tiny: bool, folder: str) -> dict[str, str]:
    """What the processes run in; what they compile lies in the folder."""
    caches = {
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
    }
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9", **os.environ, **caches}
    if tiny:
        flags = "--xla_backend_optimization_level=0"
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "CUDA_VISIBLE_DEVICES": ""}
    return environment
