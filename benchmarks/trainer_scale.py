"""The trainer at scale, measured without an accelerator: the loss's memory, the data, the plan.

    python -m benchmarks.trainer_scale

Needs the extras `all` and `plan-gpu`. The temporaries of the loss and its gradients in 16 chunks
against those of the plain form; the batch stream against what one host of sixteen would take at the
10B model, were its eight A100 at their peak; a seek into the far stream against one at its
beginning, alternated; and the plan of the 10B model on 128 A100, in seconds, as the goal is stated.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from beam_pipelines.write_tokens import WriteTokensConfig, write_tokens
from benchmarks import bars
from tests import tiny_corpus
from welm_jax.data.batches import BLOCK, BatchStream
from welm_jax.data.token_dataset import read_metadata
from welm_jax.model import axes, loss
from welm_jax.model.config import ModelConfig
from welm_jax.train import accelerators
from welm_jax.train.mesh import MeshConfig, make_mesh

ROWS, LENGTH, WIDTH, PADDED, VOCABULARY = 4, 512, 512, 62_464, 62_000
TEN = ModelConfig(num_layers=32, num_heads=40, d_model=5120)
SEQUENCE_TOKENS, BATCH_SIZE, HOSTS, DEVICES = 2048, 2048, 16, 128
SOURCE_ROWS = 10_000_000
ROUNDS, SEEKS, FAR = 40, 20, 10**9
PLAN = ["--gin_file", "models/welm_10b.gin", "--target", "a100-40gb", "--devices", str(DEVICES)]


def loss_temporaries(chunks: int) -> int:
    """Bytes that XLA asks for beside arguments and results, loss and gradients in float32."""

    def of(hidden, head, targets, weights):
        return loss.summed_loss(
            hidden, head, targets, weights, vocab_size=VOCABULARY, chunks=chunks
        )

    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, axes.spec(*names)))
        for shape, dtype, names in (
            ((ROWS, LENGTH, WIDTH), jnp.float32, ("batch", "length", "width")),
            ((PADDED, WIDTH), jnp.float32, ("vocabulary", "width")),
            ((ROWS, LENGTH), jnp.int32, ("batch", "length")),
            ((ROWS, LENGTH), jnp.float32, ("batch", "length")),
        )
    ]
    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.value_and_grad(of, (0, 1))).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes


class AsIfLarge:
    """A small token dataset that answers for any row; what is read are its own rows."""

    def __init__(self, dataset):
        self._dataset, self.metadata = dataset, dataset.metadata

    def __getitems__(self, rows):
        return self._dataset.__getitems__([row % len(self._dataset) for row in rows])


def stream(folder: Path) -> BatchStream:
    """Batches of 2,048 sequences of 2,048 tokens, from three sources of ten million rows each.

    Their order is that of so many rows; what is read for them are the few of a small corpus.
    """
    tokens = folder / "tokens"
    write_tokens(
        WriteTokensConfig(
            curated_dir=str(tiny_corpus.curated_dir()),
            tokenizer=str(tiny_corpus.tokenizer_file()),
            output_dir=str(tokens),
            sequence_tokens=SEQUENCE_TOKENS,
        )
    )
    sources = []
    for name, quota in (("news", 500), ("books", 300), ("english", BLOCK - 800)):
        _, fingerprint = read_metadata(tokens / name)
        source = {"name": name, "folder": str(tokens / name), "quota": quota}
        sources.append({**source, "rows": SOURCE_ROWS, "fingerprint": fingerprint})
    mixture = {"sequence_tokens": SEQUENCE_TOKENS, "seed": 0, "sources": sources}
    batches = BatchStream(mixture, BATCH_SIZE)
    batches._datasets = [AsIfLarge(dataset) for dataset in batches._datasets]
    return batches


def rows_per_second(batches: BatchStream) -> list[float]:
    """One host's rows of batch after batch, read ahead as training reads them."""
    share = range(BATCH_SIZE // HOSTS)
    following = batches.iterate(lambda number: number, share)
    next(following)
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        next(following)
        found.append(len(share) / (time.perf_counter() - began))
    return found


def seek_ratio(batches: BatchStream) -> float:
    """Time to the first batch far out over that at the beginning, medians of alternated seeks."""
    spent = {0: [], FAR: []}
    for number in range(SEEKS):
        for place, seconds in spent.items():
            began = time.perf_counter()
            batches.batch(place + number, range(BATCH_SIZE // HOSTS))
            seconds.append(time.perf_counter() - began)
    return statistics.median(spent[FAR]) / statistics.median(spent[0])


def plan_seconds() -> float:
    """The real command, from its start to its end; infinite if it fails."""
    began = time.perf_counter()
    line = [sys.executable, "-c", "from welm_jax.launch import main; main()", "plan", *PLAN]
    done = subprocess.run(line, capture_output=True, text=True)
    print(done.stdout + done.stderr)
    return time.perf_counter() - began if done.returncode == 0 else float("inf")


def main() -> int:
    """Measures, prints, judges."""
    plain, chunked = loss_temporaries(1), loss_temporaries(16)
    print(f"temporaries of the loss: {plain / 2**20:.0f} MiB plain, {chunked / 2**20:.0f} chunked")
    with tempfile.TemporaryDirectory() as folder:
        batches = stream(Path(folder))
        rates, ratio = rows_per_second(batches), seek_ratio(batches)
    peak = accelerators.named("a100-40gb").peak_flops * DEVICES / HOSTS
    wanted = peak / TEN.flops_per_token(SEQUENCE_TOKENS) / SEQUENCE_TOKENS
    print(
        f"a host takes {wanted:.1f} rows/s at most; the stream gives {min(rates):,.0f} to ", end=""
    )
    print(f"{max(rates):,.0f}, median {statistics.median(rates):,.0f}; far seeks {ratio:.2f} times")
    return bars.ended(
        [
            ("plain_over_chunked_loss_temporaries", plain / chunked, ">= 4"),
            ("slowest_batch_over_one_hosts_consumption", min(rates) / wanted, ">= 20"),
            ("far_seek_over_near_seek", ratio, "<= 1.5"),
            ("plan_of_10b_seconds", plan_seconds(), "<= 60"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
