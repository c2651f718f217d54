"""What a training step costs the host beside the step itself: the loop, the detector, the log.

    python -m benchmarks.host_work

The real loop with its detector and log around a step that does nothing but give the losses of a
noisy curve, so that all processor time is theirs: reading the numbers back, counting, judging,
writing metrics and TensorBoard.
"""

import contextlib
import io
import random
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
from tests.train.toy_runs import Schedule
from welm_jax.run_files import RunFolder
from welm_jax.train import loop
from welm_jax.train.run_log import RunLog
from welm_jax.train.spikes import SpikeConfig

STEPS = 4000
NUMBERS = {"gradient_norm": 1.0, "learning_rate": 1e-3, "tokens": 8.0}


def milliseconds_per_step(folder: Path, on_step: Callable) -> float:
    """Processor time of a run whose step does nothing, all threads counted."""
    draw = random.Random(0)
    metrics = []  # made before the clock starts: they stand for what the devices return
    for _ in range(STEPS + 1):
        loss = 3 + draw.gauss(0, 0.02) + (draw.random() < 0.002)
        numbers = {**NUMBERS, "loss": loss}
        metrics.append({name: jnp.float32(value) for name, value in numbers.items()})
    given = iter(metrics)
    training = toy_runs.training(epath.Path(folder), Schedule(train_steps=STEPS), on_step=on_step)
    training = replace(
        training,
        train_step=lambda state, *_: (state, next(given)),
        every=[],
        spikes=SpikeConfig(action="log"),
    )
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
