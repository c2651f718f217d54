"""Unattended drills: planted faults in real small runs, recovered from or rightly stopped?

    python -m benchmarks.spike_drills --seeds 40
    python -m benchmarks.spike_drills --seeds 4 --tokens quickstart_run/tokens --vocab_size 5000

Each seed trains the same small decoder twice with the real trainer: once undisturbed and once with
a fault at a random place, of each kind in turn, even seeds by cursor (bad data) and odd ones by
step (a bad state, which comes again after every rollback). Then `welm recover why` is asked about
the last recovery. What is right: a fault in the data is skipped and the run ends within 2 % of the
undisturbed held-out loss; a bad state is got past as well as that, or the run stops with a
diagnosis.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import bars

KINDS = ("spike", "burst", "ramp", "nan")
STEPS = 1000
TOLERANCE = 1.02  # of the undisturbed held-out loss
RIGHT_ANSWERS = 0.9  # of `why`, of each sort of fault: 18 of 20

RUN = """
include 'runs/drill.gin'
TOKENS_DIR = '{tokens}'
TRAIN_STEPS = {steps}
BATCH_SIZE = 8
MAX_LEARNING_RATE = 3e-3
MixtureConfig.rates = {rates}
MixtureConfig.seed = {seed}
LoopConfig.seed = {seed}
LoopConfig.log_every_steps = 1000
LoopConfig.evaluate_every_steps = 100_000
ModelConfig.num_layers = 1
ModelConfig.num_heads = 2
ModelConfig.d_model = 48
ModelConfig.vocab_size = {vocab_size}
ModelConfig.compute_dtype = 'float32'
FaultConfig.kind = '{kind}'
FaultConfig.by = '{by}'
FaultConfig.at = {at}
"""


def drill(job: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a seed twice and asks why; gives the row of the table."""
    from welm_jax import why
    from welm_jax.failures import StopAndLook
    from welm_jax.run_files import RunFolder
    from welm_jax.train.recovery import Journal

    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "drilled")
        with open(f"{folder}/log", "w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            clean = _trained(RunFolder(Path(folder) / "clean"), {**job, "kind": "none"})
            try:
                loss, stopped = _trained(run, job), ""
            except StopAndLook as error:
                loss, stopped = None, str(error)
            records = Journal(run.journal).records()
            answer = why.why(run, len(records)) if records else None
        diagnosed = (run.diagnosis / "incident.json").exists()
    ratio = loss and loss / clean
    held = diagnosed if stopped else ratio <= TOLERANCE
    return {
        "seed": job["seed"],
        "by": job["by"],
        "kind": job["kind"],
        "at": job["at"],
        "recoveries": len(records),
        "detected": records[0].detected.step if records else None,
        "rule": records[0].rule if records else None,
        "loss / clean": ratio and round(ratio, 4),
        "stopped": stopped,
        "why": answer and answer.verdict,
        "rises": answer and [round(answer.rise_again, 2), round(answer.rise_elsewhere, 2)],
        # A fault in the data leaves nothing to stop for.
        "right": held and not (stopped and job["by"] == "cursor"),
    }


def _trained(run, job: Mapping[str, Any]) -> float:
    """Trains a run to its end and gives its held-out loss in nats per token."""
    import jax

    from welm_jax import gin_files, loaded_run, runs
    from welm_jax.configurables import TRAINING
    from welm_jax.evaluate import held_out

    run.path.parent.mkdir(exist_ok=True)
    file = run.path.parent / f"{run.path.name}.gin"
    file.write_text(RUN.format(**job), encoding="utf-8")
    runs.train(run, gin_files.load([os.fspath(file)], [], TRAINING), [])
    loaded = loaded_run.load(run)
    with jax.set_mesh(loaded.mesh):
        scores = held_out.bits_per_character(
            loaded.assemble, loaded.parameters, loaded.mixture, loaded.masks_documents
        )
    return next(score.loss for score in scores if score.source == held_out.ALL)


def jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A job a seed; the first fault may come once the detector is awake and can go back."""
    rates = {
        folder.parent.name: 1.0 for folder in Path(options.tokens).glob("*/token_metadata.json")
    }
    common = {
        "tokens": options.tokens,
        "rates": rates,
        "vocab_size": options.vocab_size,
        "steps": STEPS,
    }
    return [
        {
            **common,
            "seed": seed,
            "by": ("cursor", "step")[seed % 2],
            "kind": KINDS[seed // 2 % len(KINDS)],
            "at": random.Random(seed).randint(350, STEPS - 350),
        }
        for seed in range(options.seeds)
    ]


def main() -> int:
    """Runs the drills, prints the table as it comes out, and the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--tokens", help="token datasets; by default a small corpus made by rule")
    parser.add_argument("--vocab_size", type=int, default=480)
    options = parser.parse_args()
    if options.tokens is None:
        from tests import tiny_corpus

        options.tokens = str(tiny_corpus.tokens_dir())
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # the same programs all over
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
        rows = []
        with multiprocessing.get_context("spawn").Pool() as pool:
            for row in pool.imap_unordered(drill, jobs(options)):
                rows.append(row)
                print(json.dumps(row, ensure_ascii=False), flush=True)
    measured = []
    for by, truth in (("cursor", "data"), ("step", "state")):
        mine = [row for row in rows if row["by"] == by]
        for bar, right, target in (
            (f"{by}: recovered, or rightly stopped", [row["right"] for row in mine], 1.0),
            (f"{by}: why says {truth}", [row["why"] == truth for row in mine], RIGHT_ANSWERS),
        ):
            measured.append((bar, sum(right) / max(len(right), 1), f">= {target}"))
    return bars.ended(measured)


if __name__ == "__main__":
    sys.exit(main())
