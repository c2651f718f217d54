"""What a training step costs the host beside the step itself: the loop, the detector, the log.

    python -m benchmarks.host_work

The real loop with its detector and log around a step that does nothing, so that all processor time
is theirs: reading the numbers back, counting, judging, writing metrics and TensorBoard.
"""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
from etils import epath

from benchmarks import bars
from tests.train import toy_runs
from tests.train.toy_runs import Schedule, ToyState
from welm_jax.run_files import RunFolder
from welm_jax.train import loop
from welm_jax.train.run_log import RunLog

STEPS = 4000
NUMBERS = {"loss": 2.0, "gradient_norm": 1.0, "learning_rate": 1e-3, "tokens": 8.0}


def milliseconds_per_step(folder: Path, on_step: Callable) -> float:
    """Processor time of a run whose step does nothing, all threads counted."""
    metrics = {name: jnp.float32(value) for name, value in NUMBERS.items()}
    training = toy_runs.training(epath.Path(folder), Schedule(train_steps=STEPS), on_step=on_step)
    training = replace(training, train_step=lambda *_: (ToyState(), dict(metrics)), every=[])
    started = time.process_time()
    loop.run(training)
    return (time.process_time() - started) / STEPS * 1000


def main() -> int:
    """Prints what the parts cost, and the bar."""
    with tempfile.TemporaryDirectory() as folder:
        bare = milliseconds_per_step(Path(folder) / "bare", lambda record, seconds: None)
        with contextlib.redirect_stdout(io.StringIO()):
            log = RunLog(RunFolder(folder), flops_per_token=6, total_steps=STEPS, every_steps=10)
            with log:
                logged = milliseconds_per_step(Path(folder) / "logged", log.step)
    print(f"of {logged:.3f} ms a step, loop and detector {bare:.3f}, log {logged - bare:.3f}")
    return bars.ended([("host_milliseconds_per_step", round(logged, 3), "<= 1")])


if __name__ == "__main__":
    sys.exit(main())
