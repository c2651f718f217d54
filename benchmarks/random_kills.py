"""Real training processes, killed at random moments: do they end bit for bit the same?

    python -m benchmarks.random_kills --kills 50

A small run with a planted spike, so that a kill may fall into training, saving, going back or
deciding. Each trial starts the run, sends SIGKILL after a random time, starts it again to its end,
and compares all that was saved last, and the loss of every step, with a run that was left alone.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import bars
from benchmarks.spike_drills import RUN

STEPS = 480
COMMAND = [sys.executable, "-c", "from welm_jax.launch import main; main()", "train"]


def trial(job: tuple[str, int, float]) -> tuple[int, float, bool, dict]:
    """Kills one run after some seconds of training; says how it ended when started again."""
    gin_file, number, seconds = job
    with tempfile.TemporaryDirectory() as folder:
        killed = started(gin_file, folder)
        for line in killed.stdout:
            if "going on" in line or "from the beginning" in line:
                break
        time.sleep(seconds)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        again = started(gin_file, folder)
        out, _ = again.communicate()
        ended = outcome(Path(folder)) if again.returncode == 0 else {"said": out[-500:]}
    return number, seconds, killed.returncode == -signal.SIGKILL, ended


def started(gin_file: str, folder: str) -> subprocess.Popen:
    """Starts, or goes on with, the run of a folder."""
    line = [*COMMAND, "--gin_file", gin_file, "--run_dir", f"{folder}/run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(line, **pipes)


def outcome(folder: Path) -> dict:
    """What must be the same: the last checkpoint's digests and progress, and the last losses.

    The digests are of every array's bits; that they are those of what lies on disk is checked at
    each restore.
    """
    [host] = (folder / "run" / "checkpoints" / str(STEPS)).glob("host/metadata")
    saved = json.loads(host.read_text(encoding="utf-8"))
    lines = map(
        json.loads, (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    )
    losses = {(line["attempt"], line["cursor"]): line["loss"] for line in lines}
    return {"saved": saved, "losses": sorted(losses.items())}


def main() -> int:
    """Runs the trials and prints the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from tests import tiny_corpus

    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/cache"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
        gin_file = Path(folder) / "killed.gin"
        run = {
            "tokens": tiny_corpus.tokens_dir(),
            "rates": {"news": 0.7, "english": 0.3},
            "seed": 0,
        }
        run |= {"steps": STEPS, "vocab_size": tiny_corpus.VOCAB_SIZE}
        gin_file.write_text(RUN.format(**run, kind="spike", by="cursor", at=300), encoding="utf-8")
        alone = started(os.fspath(gin_file), folder)
        for line in alone.stdout:
            if "from the beginning" in line:
                begin = time.monotonic()
        if alone.wait():
            raise SystemExit("the run that was left alone did not end")
        lasted, expected = time.monotonic() - begin, outcome(Path(folder))
        draw = random.Random(options.seed)
        jobs = [
            (os.fspath(gin_file), n, draw.uniform(0, 0.9 * lasted)) for n in range(options.kills)
        ]
        same = killed = 0
        with multiprocessing.get_context("spawn").Pool() as pool:
            for number, seconds, was_killed, ended in pool.imap_unordered(trial, jobs):
                same, killed = same + (ended == expected), killed + was_killed
                print(f"{number}: after {seconds:.1f} s, the same: {ended == expected}", flush=True)
    target = f"== {options.kills}"
    return bars.ended([("killed before the end", killed, target), ("ended the same", same, target)])


if __name__ == "__main__":
    sys.exit(main())
