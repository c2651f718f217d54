"""Unattended drills: planted faults in real small runs, recovered from or rightly stopped?

    python -m benchmarks.spike_drills --seeds 40
    python -m benchmarks.spike_drills --seeds 4 --tokens quickstart_run/tokens --vocab_size 5000

Each seed trains the same small decoder with the real trainer: once undisturbed, and in three arms
with a fault at a random place, of each kind in turn, even seeds by cursor (bad data) and odd ones
by step (a bad state, which comes again after every rollback). The arms: `recover` as a run does by
itself; `log`, where nothing is done; `skip`, the peers' way (in_step_skipping). Then `welm recover
why` is asked about the last recovery. What is right: a fault in the data is skipped and the run
ends within 2 % of the undisturbed held-out loss; a bad state is got past as well as that, or the
run stops with a diagnosis. Whether recovering beats the other arms is printed and is not a bar.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import bars, in_step_skipping

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
MOST_ITERATIONS = 2 * STEPS  # an arm that refuses every update would never end


def bounded(train_step: Callable) -> Callable:
    """The train step that stops a run which comes to no end."""
    made = itertools.count()

    def step(*arguments):
        from welm_jax.failures import StopAndLook

        if next(made) == MOST_ITERATIONS:
            raise StopAndLook(f"not at its end after {MOST_ITERATIONS:,} iterations")
        return train_step(*arguments)

    return step


NOTHING_DONE = f"SpikeConfig.action = 'log'\nCheckpointConfig.every_steps = {STEPS}\n"
ARMS = {  # what each adds to RUN, and what the train step is put into
    "recover": ("", lambda train_step: train_step),
    "log": (NOTHING_DONE, bounded),
    "skip": (NOTHING_DONE, lambda train_step: bounded(in_step_skipping.guarded(train_step))),
}


def drill(job: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a seed undisturbed and in each arm, and asks why; gives the row of the table."""
    from welm_jax import why
    from welm_jax.run_files import RunFolder
    from welm_jax.train.recovery import Journal

    with tempfile.TemporaryDirectory() as folder:
        runs = {name: RunFolder(Path(folder) / name) for name in ("clean", *ARMS)}
        with (
            open(Path(folder) / "console", "w", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
        ):
            clean, _, _ = _trained(runs["clean"], {**job, "kind": "none"}, "log")
            ended = {arm: _trained(runs[arm], job, arm) for arm in ARMS}
            run = runs["recover"]
            records = Journal(run.journal).records()
            answer = why.why(run, len(records)) if records else None
        diagnosed = (run.diagnosis / "incident.json").exists()
    ratios = {arm: loss and round(loss / clean, 4) for arm, (loss, _, _) in ended.items()}
    stopped = ended["recover"][2]
    held = diagnosed if stopped else ratios["recover"] <= TOLERANCE
    return {
        "seed": job["seed"],
        "by": job["by"],
        "kind": job["kind"],
        "at": job["at"],
        "recoveries": len(records),
        "detected": records[0].detected.step if records else None,
        "rule": records[0].rule if records else None,
        "loss / clean": ratios,
        "steps lost": {arm: lost for arm, (_, lost, _) in ended.items()},
        "stopped": {arm: words for arm, (_, _, words) in ended.items() if words},
        "why": answer and answer.verdict,
        "rises": answer and [round(answer.rise_again, 2), round(answer.rise_elsewhere, 2)],
        # A fault in the data leaves nothing to stop for.
        "right": held and not (stopped and job["by"] == "cursor"),
    }


def _trained(run, job: Mapping[str, Any], arm: str) -> tuple[float | None, int | None, str]:
    """Trains a run in an arm to its end.

    Returns:
      Its held-out loss in nats per token; the iterations whose update is not in the final model,
      for it was refused or gone back from; and why the run stopped, if it did, without the others.
    """
    import jax

    from welm_jax import gin_files, loaded_run, run_parts, runs
    from welm_jax.configurables import TRAINING
    from welm_jax.evaluate import held_out
    from welm_jax.failures import StopAndLook

    run.path.parent.mkdir(exist_ok=True)
    file = run.path.parent / f"{run.path.name}.gin"
    bindings, wrapped = ARMS[arm]
    file.write_text(RUN.format(**job) + bindings, encoding="utf-8")
    make = run_parts.make_train_step
    try:
        with mock.patch.object(run_parts, "make_train_step", lambda *parts: wrapped(make(*parts))):
            runs.train(run, gin_files.load([os.fspath(file)], [], TRAINING), [])
    except StopAndLook as error:
        return None, None, str(error)
    loaded = loaded_run.load(run)
    with jax.set_mesh(loaded.mesh):
        scores = held_out.bits_per_character(
            loaded.assemble, loaded.parameters, loaded.mixture, loaded.masks_documents
        )
    loss = next(score.loss for score in scores if score.source == held_out.ALL)
    return loss, sum(1 for _ in run.iterations()) - job["steps"], ""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the means of as many values drawn anew from these, 10,000 times."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def comparison(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table: how each arm ended, and how it differs from `recover` on the same seeds."""
    table = [
        "| planted | arm | ended | loss / clean | steps lost | less `recover`, same seeds |",
        "|---" * 6 + "|",
    ]
    for by, kind in [(by, kind) for by in ("cursor", "step") for kind in (*KINDS, None)]:
        mine = [row for row in rows if row["by"] == by and kind in (row["kind"], None)]
        for arm in ARMS if mine else ():
            ratios = {row["seed"]: row["loss / clean"][arm] for row in mine}
            ended = [row for row in mine if ratios[row["seed"]]]
            lost = [row["steps lost"][arm] for row in ended]
            pairs = [(ratios[row["seed"]], row["loss / clean"]["recover"]) for row in ended]
            less = [ratio - other for ratio, other in pairs if other]
            cells = (
                f"{by}: {kind or 'all'}",
                arm,
                f"{len(ended)} of {len(mine)}",
                _shown([ratio for ratio, _ in pairs], ".4f"),
                _shown(lost, ".0f"),
                "" if arm == "recover" else _shown(less, "+.4f"),
            )
            table.append(f"| {' | '.join(cells)} |")
    return table


def _shown(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    low, high = interval(values)
    return f"{np.mean(values):{form}} ({low:{form}} to {high:{form}})"


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
    parser.add_argument("--processes", type=int, help="drills at a time; one a core by default")
    options = parser.parse_args()
    if options.tokens is None:
        from tests import tiny_corpus

        options.tokens = str(tiny_corpus.tokens_dir())
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # the same programs all over
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
        rows = []
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            for row in pool.imap_unordered(drill, jobs(options)):
                rows.append(row)
                print(json.dumps(row, ensure_ascii=False), flush=True)
    print("\n".join(["", *comparison(rows), ""]))
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
