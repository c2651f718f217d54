import json
import subprocess
import sys

import pytest

from benchmarks import gpu_suite
from welm_jax import gin_files
from welm_jax.model.config import ModelConfig


def test_the_model_it_times_is_the_preset():
    wanted = {"ModelConfig": "welm_jax.model.config"}
    preset = gin_files.load(["models/welm_1b3.gin"], [], wanted)["ModelConfig"]
    assert ModelConfig(**gpu_suite.FULL["model"]) == preset


def test_what_did_not_run_and_what_is_not_known_is_said():
    assert "| 16 | none | out of memory |" in gpu_suite.table_row(
        16, "none", {"failed": "out of memory"}
    )
    found = {
        "seconds": [0.5, 0.25, 1.0],
        "tokens_per_second": 2048.0,
        "mfu": None,
        "peak_gib": None,
        "compile_seconds": 3.0,
        "loss": 11.0,
    }
    assert gpu_suite.table_row(4, "dots", found) == (
        "| 4 | dots | 0.500 (0.250 to 1.000) | 2,048 | MFU n/a | n/a | 3 | 11.000 |"
    )


@pytest.mark.slow
def test_the_tiny_suite_runs_on_a_cpu_and_its_bars_hold():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_suite", "--tiny"],
        cwd=gpu_suite.REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    bars = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert [bar["bar"] for bar in bars] == ["points_run", "parity_logits", "parity_gradients"]
    assert all(bar["holds"] for bar in bars)
    assert run.stdout.count("MFU n/a") == len(gpu_suite.TINY["points"])
