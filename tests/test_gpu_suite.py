import importlib.util
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import bars, gpu_measurements, gpu_suite, measuring_processes
from benchmarks.gpu_suite import FULL, TINY, Suite
from benchmarks.same_work import Work
from tests.golden import make_gpt_neox_parity
from tests.tiny_decoder import mesh_of
from welm_jax import gin_files, gpt_neox_layout
from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.train.state import initial_parameters

DONE = {
    "software": "some",
    "device": "NVIDIA H100 80GB HBM3",
    "attention": "cudnn",
    "seconds": [1.25, 1.0, 1.5],
    "losses": [11.0, 10.5, 10.25],
    "compile_seconds": 3.0,
    "peak_bytes": 40 * 2**30,
    "planned_bytes": 38 * 2**30,
    "closed_form_bytes": 37 * 2**30,
}


class InventedBench:
    """Stands for Bench; every measurement takes 60 seconds and finds what it is told."""

    def __init__(self, seconds, found):
        self.seconds, self.found, self.asked = seconds, found, []

    def left(self):
        return self.seconds

    def ask(self, side, work, keeps=0.0):
        self.asked.append((side, work))
        self.seconds -= 60
        return self.found(side, work)


def row(part, side, **found):
    how = {"dtype": "bfloat16", "microbatch": 8, **gpu_suite.COMPARED}
    return {**vars(Work(**FULL["work"], **how)), "part": part, "side": side, **DONE, **found}


def values(rows, parity=None):
    return {name: value for name, value, _ in gpu_suite.bars_of(FULL, parity or {}, rows)}


def test_the_model_it_times_is_the_preset():
    wanted = {"ModelConfig": "welm_jax.model.config"}
    preset = gin_files.load(["models/welm_1b3.gin"], [], wanted)["ModelConfig"]
    assert ModelConfig(**FULL["work"]["model"]) == preset


def test_the_weights_of_the_peer_are_ours_in_its_order():
    shape = make_gpt_neox_parity.SHAPE
    work = Work(**TINY["work"] | {"model": shape}, dtype="float32", microbatch=2, **gpu_suite.SWEPT)
    weights = work.weights()
    with jax.set_mesh(mesh_of()):
        shapes = jax.eval_shape(lambda: initial_parameters(work.decoder(), 0))
    paths = jax.tree_util.tree_leaves_with_path(shapes)
    assert {axes.path_name(path): leaf.shape for path, leaf in paths} == {
        name: array.shape for name, array in weights.items()
    }
    theirs = dict(gpt_neox_layout.as_gpt_neox(weights))
    back = dict(gpt_neox_layout.in_our_layout(theirs.__getitem__, {*theirs}, work.decoder()))
    assert back.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array)
        assert array.std() > 0
    assert not np.array_equal(weights["blocks/up/kernel"][0], weights["blocks/up/kernel"][1])


def test_a_row_says_what_did_not_run_and_what_is_not_known():
    assert "| cudnn | 1 | 1.250 (1.000 to 1.500) | 52,429 | 45.7% | 40.0 | 38.0 | 37.0 | 3 |" in (
        gpu_suite.table_row(row("sweep", "ours"))
    )
    unknown = row("sweep", "ours", device="cpu", peak_bytes=None)
    assert "| MFU n/a | n/a | 38.0 | 37.0 |" in gpu_suite.table_row(unknown)
    failed = row("sweep", "ours") | {"failed": "out of memory"}
    assert "| out of memory |" in gpu_suite.table_row(failed)


def test_what_could_not_be_measured_does_not_hold(capsys):
    assert bars.ended(gpu_suite.bars_of(FULL, {}, [])) == 1
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == 8 and not any(bar["holds"] for bar in printed)
    assert {bar["value"] for bar in printed} == {0, None}


def test_speed_is_over_the_better_microbatch_of_the_peer_and_on_one_device():
    ours, theirs = row("compared", "ours"), row("compared", "peer", seconds=[2.0, 1.5, 1.75])
    assert values([ours, theirs])["speed_over_peer"] == pytest.approx(1.4)
    other = row("other", "peer", seconds=[1.5])
    assert values([ours, theirs, other])["speed_over_peer"] == pytest.approx(1.2)
    elsewhere = theirs | {"device": "NVIDIA H200"}
    assert values([ours, elsewhere])["speed_over_peer"] is None
    assert values([ours])["mfu"] == pytest.approx(0.4567, abs=1e-4)


def test_losses_and_memory_count_at_their_worst():
    half = row("float16", "ours", planned_bytes=44 * 2**30)
    rows = [row("sweep", "ours"), half, row("compared", "ours")]
    rows.append(row("compared", "peer", losses=[11.0, 10.5, 10.0]))
    found = values(rows, {"logits": 1e-6, "gradients": 2e-6})
    assert found["planned_memory_error"] == pytest.approx(0.1)
    assert found["losses_apart_from_peer"] == 0.25
    assert found["float16_loss_fall"] == 0.75
    assert found["parity_gradients"] == 2e-6
    half["losses"] = [11.0, float("nan"), 10.0]
    assert values(rows)["float16_loss_fall"] is None


def suite_after(seconds, found):
    """The rows, in brief, and all that was asked of the bench."""
    suite = Suite(FULL, InventedBench(seconds, found))
    suite.sweep(gpu_suite.RESERVED)
    suite.compare()
    suite.rest()
    return [(row["part"], row["side"]) for row in suite.rows], suite


def test_the_comparison_has_its_time_and_the_sweep_takes_what_is_left(capsys):
    done, suite = suite_after(gpu_suite.SECONDS, lambda side, work: DONE)
    ours, theirs = ("compared", "ours"), ("compared", "peer")
    swept = ("sweep", "ours")
    assert done == [swept] * 3 + [("float16", "ours"), ours, theirs, theirs, ours]
    assert capsys.readouterr().out.count(measuring_processes.NO_TIME) == len(FULL["points"]) - 3
    done, _ = suite_after(3600, lambda side, work: DONE)
    assert done.count(swept) == len(FULL["points"]) and ("other", "peer") in done


def test_the_fastest_point_is_compared_with_the_largest_microbatch_that_the_peer_holds():
    def found(side, work):
        if side == "peer":
            return {"failed": "out of memory"} if work.microbatch == 8 else DONE
        return DONE | {"seconds": [0.5 if work.remat == "none" else 1.0]}

    _, suite = suite_after(3600, found)
    compared = [work for _, work in suite.bench.asked if work.timed_steps == 12]
    assert [work.microbatch for work in compared] == [4, 8, 4, 4, 4]
    assert {work.remat for work in compared} == {"none"}
    assert {work.dtype for work in compared} == {"bfloat16"}


def test_a_peer_that_is_not_here_is_asked_once():
    def found(side, work):
        return {"failed": "torch is not here"} if side == "peer" else DONE

    done, _ = suite_after(3600, found)
    assert done.count(("compared", "peer")) == 1 and done.count(("compared", "ours")) == 2


def test_nothing_is_started_when_the_time_is_up():
    environment = measuring_processes.environment_of(True, "unused")
    with measuring_processes.Bench(sys.executable, environment, 0) as bench:
        assert bench.ask("ours", None) == {"failed": measuring_processes.NO_TIME}


def test_our_side_measures_in_float32_what_the_golden_arrays_hold():
    found = gpu_measurements.measure_parity()
    assert found["logits"] <= 1e-5 and found["gradients"] <= 1e-5


def test_our_side_measures_a_step():
    how = {"dtype": "float32", "microbatch": 2, "remat": "dots", "loss_chunks": 4}
    work = Work(**TINY["work"], **how, warm_up_steps=1, timed_steps=2)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_measurements"],
        input=json.dumps(vars(work)),
        cwd=measuring_processes.REPOSITORY,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert len(found["seconds"]) == 2 and found["attention"] == "xla"
    assert found["losses"][-1] < found["losses"][0] < 8
    assert found["planned_bytes"] > 0 and found["closed_form_bytes"] > 0


@pytest.mark.slow
def test_the_tiny_suite_runs_on_a_cpu_and_its_bars_hold():
    """Without torch all but the one that is about the peer."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_suite", "--tiny"],
        cwd=measuring_processes.REPOSITORY,
        capture_output=True,
        text=True,
    )
    printed = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    has_peer = all(map(importlib.util.find_spec, ("torch", "transformers")))
    assert {bar["bar"]: bar["holds"] for bar in printed} == {
        "points_run": True,
        "parity_logits": True,
        "parity_gradients": True,
        "float16_loss_fall": True,
        "losses_apart_from_peer": has_peer,
    }, run.stderr
    assert run.returncode == (0 if has_peer else 1)
    assert has_peer or "is not here" in run.stdout
