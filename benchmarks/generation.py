"""Greedy decoding of the 1.3B model beside transformers' `generate` with a static cache, on a GPU.

    python -m benchmarks.generation --python PYTHON           # one GPU
    python -m benchmarks.generation --python PYTHON --tiny    # any CPU, to see that it runs

PYTHON is that of an environment with torch and transformers. Both sides draw the same weights and
prompts and write the same number of ids, whatever they are. The prompts are of one length, since
with many it would be ways to fill up batches that are compared. Each side has a process of its own;
they take turns, one round ours, one theirs, and the first rounds, which compile, do not count.
Seconds are of a whole call, the prompts counted, and our copy of float32 weights in bfloat16;
theirs are in bfloat16 before. Prints medians, then one JSON line; the exit status is 0 if it holds.

In bfloat16 rounding decides between near ids, and so it is the tiny form, in float32, that is asked
for the same ids, and for no speed: on a CPU transformers compiles nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import jax
import numpy as np

from benchmarks import bars, gpu_suite
from benchmarks.gpu_measurements import SOFTWARE, parameters_on
from benchmarks.measuring_processes import REPOSITORY
from benchmarks.same_work import Decoding
from welm_jax.decode.generate import generate
from welm_jax.model.decoder import Assembler
from welm_jax.train.mesh import MeshConfig, make_mesh

FULL = Decoding(
    model=gpu_suite.FULL["work"]["model"],
    dtype="bfloat16",
    batch_size=16,
    sequence_tokens=256,
    new_tokens=128,
    warm_up_steps=3,
    timed_steps=7,
)
TINY = Decoding(
    model=gpu_suite.TINY["work"]["model"],
    dtype="float32",
    batch_size=4,
    sequence_tokens=64,
    new_tokens=32,
    warm_up_steps=1,
    timed_steps=3,
)
NO_END = -1  # as the id of a document's end: it is never written


def answer(peer: subprocess.Popen, line: dict) -> dict:
    """What the peer says to a line; ends everything if that is nothing."""
    peer.stdin.write(json.dumps(line) + "\n")
    peer.stdin.flush()
    if said := peer.stdout.readline():
        return json.loads(said)
    sys.exit("the peer ended without an answer; its error is above")


def our_round(work: Decoding, mesh: jax.sharding.Mesh) -> Callable[[], dict]:
    """A function that continues the prompts once and says what the peer says."""
    assemble, parameters = Assembler(work.decoder()), parameters_on(mesh, work)
    prompts = work.prompts().tolist()

    def once() -> dict:
        began = time.perf_counter()
        found = generate(
            assemble, parameters, prompts, max_new_tokens=work.new_tokens, eod_id=NO_END
        )
        ids = [ids for _, ids in sorted(found)]
        return {"seconds": time.perf_counter() - began, "ids": ids}

    return once


def in_turns(work: Decoding, python: str, device: jax.Device) -> tuple[dict, dict[str, list]]:
    """What the peer runs on, and the rounds of both sides that count."""
    mesh, rounds = make_mesh(MeshConfig(), [device]), {"ours": [], "theirs": []}
    command = [python, "-m", "benchmarks.generation_peer"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as peer, jax.set_mesh(mesh):
        about, once = answer(peer, asdict(work)), our_round(work, mesh)
        for _ in range(work.warm_up_steps + work.timed_steps):
            rounds["ours"].append(once())
            rounds["theirs"].append(answer(peer, {}))
    return about, {side: found[work.warm_up_steps :] for side, found in rounds.items()}


def main() -> int:
    """Measures, prints, judges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="interpreter with torch, transformers")
    parser.add_argument("--tiny", action="store_true", help="a small model, on a CPU")
    options = parser.parse_args()
    work = TINY if options.tiny else FULL
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the peer needs memory too
    if options.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        jax.config.update("jax_platforms", "cpu")
    device = jax.devices()[0]
    if not options.tiny and device.platform != "gpu":
        parser.error("jax sees no GPU here; --tiny runs on a CPU")
    about, rounds = in_turns(work, options.python, device)
    print(f"{SOFTWARE} on {device.device_kind}; {about['software']} on {about['device']}")
    ids = [np.array(found[-1]["ids"]) for found in rounds.values()]
    same = float(np.mean(ids[0] == ids[1]))
    if options.tiny:
        return bars.ended([("share_of_ids_that_are_the_same", same, "== 1")])
    seconds = {}
    for side, found in rounds.items():
        times = [one["seconds"] for one in found]
        seconds[side] = statistics.median(times)
        speed = work.batch_size * work.new_tokens / seconds[side]
        print(
            f"{side}: {speed:,.0f} new tokens/s, rounds of {min(times):.3f} to {max(times):.3f} s"
        )
    print(f"{same:.1%} of the ids are the same")
    both_on_gpu = about["device"] != "cpu"
    ratio = seconds["theirs"] / seconds["ours"] if both_on_gpu else None
    return bars.ended([("speed_over_static_cache", ratio, ">= 1.5")])


if __name__ == "__main__":
    sys.exit(main())
