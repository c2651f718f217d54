"""Parity, and the speed of the 1.3B train step on one GPU, on synthetic tokens.

    python -m benchmarks.gpu_suite           # one GPU, some minutes
    python -m benchmarks.gpu_suite --tiny    # any CPU, a small model, to see that it runs

Needs jax, flax and optax; jaxtyping and wadler-lindig, where not installed, can come as wheels:
PYTHONPATH=jaxtyping-VERSION.whl:wadler_lindig-VERSION.whl. Each measurement is a process of its
own, so that peak memory is its own and running out of it ends nothing else. Prints a table, then
one JSON line for each bar; the exit status is 0 if all bars hold. Speed is reported, not a bar.

MFU = tokens/s x F / peak, with F = 6 x (body + vocabulary x width) + 6 x layers x width x T
(ModelConfig.flops_per_token) and the device's dense bfloat16 peak; recomputation does not count.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from benchmarks import bars
from welm_jax.model import axes, loss
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Assembler
from welm_jax.train import optimizer
from welm_jax.train.accelerators import utilization
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.state import initial_parameters, initial_state
from welm_jax.train.step import StepConfig, make_train_step

FULL = {  # gin_configs/models/welm_1b3.gin; points are (sequences in a microbatch, remat)
    "model": {"num_layers": 24, "num_heads": 16, "d_model": 2048, "vocab_size": 62_000},
    "points": [(4, "none"), (4, "dots"), (8, "dots"), (8, "full"), (16, "dots"), (16, "full")],
    "batch_size": 32,
    "sequence_tokens": 2048,
}
TINY = {
    "model": {"num_layers": 2, "num_heads": 4, "d_model": 64, "vocab_size": 500},
    "points": [(2, "none"), (4, "full")],
    "batch_size": 4,
    "sequence_tokens": 64,
}
LOSS_CHUNKS, WARM_UP_STEPS, TIMED_STEPS = 16, 3, 8
REPOSITORY = Path(__file__).parent.parent
GOLDEN = REPOSITORY / "tests" / "golden" / "gpt_neox_parity.npz"
PARITY_TARGET = 1e-5
COLUMNS = (
    "| microbatch | remat | s/step: median (min to max) | tokens/s | MFU | peak GiB "
    "| compile s | loss |"
)


def measure_parity() -> dict:
    """How far float32 logits (absolute) and gradients (relative) are from Hugging Face's."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with np.load(GOLDEN) as golden, jax.set_mesh(mesh), jax.default_matmul_precision("highest"):
        found = [parity_of(case, golden) for case in ("tied", "untied")]
    logits, gradients = map(max, zip(*found, strict=True))
    return {"device": jax.devices()[0].device_kind, "logits": logits, "gradients": gradients}


def parity_of(case: str, golden) -> tuple[float, float]:
    layers, width, _, heads, _ = golden[f"{case}/parameters/blocks/qkv/kernel"].shape
    config = ModelConfig(
        num_layers=layers,
        num_heads=heads,
        d_model=width,
        vocab_size=len(golden[f"{case}/parameters/embed/embedding"]),
        ties_embeddings=case == "tied",
        compute_dtype="float32",
    )
    assemble, rows, tokens = Assembler(config), config.vocab_size, golden[f"{case}/tokens"]

    def stored(path, leaf):
        array = golden[f"{case}/parameters/{axes.path_name(path)}"]
        return np.pad(array, [(0, leaf.shape[0] - len(array)), *[(0, 0)] * (leaf.ndim - 1)])

    def forward(parameters, tokens):
        decoder = assemble(parameters)
        positions = jnp.tile(jnp.arange(tokens.shape[1] - 1), (len(tokens), 1))
        hidden = decoder(tokens[:, :-1], positions, jnp.ones_like(positions))
        logits = loss.logits(hidden, decoder.head_matrix(), rows)
        return jnp.mean(loss.token_losses(logits, tokens[:, 1:])), logits[:, :, :rows]

    shapes = jax.eval_shape(lambda: initial_parameters(config, 0))
    parameters = jax.tree_util.tree_map_with_path(stored, shapes)
    gradients, logits = jax.jit(jax.grad(forward, has_aux=True))(parameters, tokens)
    worst = 0.0
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        expected = golden[f"{case}/gradients/{axes.path_name(path)}"]
        difference = np.abs(np.asarray(gradient)[: len(expected)] - expected).max()
        worst = max(worst, float(difference / np.abs(expected).max()))
    return float(np.abs(logits - golden[f"{case}/logits"]).max()), worst


def measure_step(setting: dict, microbatch: int, remat: str) -> dict:
    """Times optimizer steps, each blocked on, after some that do not count."""
    rows, length = setting["batch_size"], setting["sequence_tokens"]
    config = ModelConfig(**setting["model"])
    adamw = optimizer.OptimizerConfig(max_learning_rate=1e-4, warmup_steps=10, decay_steps=1000)
    how = StepConfig(
        batch_size=rows, microbatches=rows // microbatch, loss_chunks=LOSS_CHUNKS, remat=remat
    )
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (rows, length + 1), np.int32)
    arrays = {
        "decoder_input_tokens": tokens[:, :-1],
        "decoder_target_tokens": tokens[:, 1:],
        "decoder_segment_ids": np.ones((rows, length), np.int32),
        "decoder_positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "decoder_loss_weights": np.ones((rows, length), np.float32),
    }
    device = jax.devices()[0]
    mesh = make_mesh(MeshConfig(), [device])
    with jax.set_mesh(mesh):
        batch = jax.device_put(arrays, NamedSharding(mesh, axes.spec("batch", "length")))
        state = initial_state(config, optimizer.make_adam(adamw), 0, LossScaleConfig())
        started = time.perf_counter()
        step = make_train_step(Assembler(config), adamw, how, LossScaleConfig())
        step = step.lower(state, batch, np.float32(1)).compile()
        moments = [time.perf_counter()]
        for _ in range(WARM_UP_STEPS + TIMED_STEPS):
            state, metrics = jax.block_until_ready(step(state, batch, np.float32(1)))
            moments.append(time.perf_counter())
    seconds = np.diff(moments)[WARM_UP_STEPS:].tolist()
    rate = rows * length / statistics.median(seconds)
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "seconds": seconds,
        "tokens_per_second": rate,
        "mfu": utilization(rate, config.flops_per_token(length), device.device_kind, 1),
        "peak_gib": memory and memory / 2**30,
        "compile_seconds": moments[0] - started,
        "loss": float(metrics["loss"]),
    }


def in_own_process(*arguments: str) -> dict:
    """Runs this file once more for one measurement; `failed` says why there is none."""
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9", **os.environ}
    if "--tiny" in arguments:
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_suite", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    if child.returncode == 0:
        return json.loads(child.stdout.splitlines()[-1])
    if "RESOURCE_EXHAUSTED" in child.stderr:
        return {"failed": "out of memory"}
    print(child.stderr, file=sys.stderr)
    return {"failed": f"exit status {child.returncode}"}


def table_row(microbatch: int, remat: str, found: dict) -> str:
    if "failed" in found:
        return f"| {microbatch} | {remat} | {found['failed']} | | | | | |"
    seconds, mfu, memory = (found[name] for name in ("seconds", "mfu", "peak_gib"))
    return (
        f"| {microbatch} | {remat} | {statistics.median(seconds):.3f} "
        f"({min(seconds):.3f} to {max(seconds):.3f}) | {found['tokens_per_second']:,.0f} "
        f"| {f'{mfu:.1%}' if mfu else 'MFU n/a'} | {f'{memory:.1f}' if memory else 'n/a'} "
        f"| {found['compile_seconds']:.0f} | {found['loss']:.3f} |"
    )


def main(*flags: str) -> int:
    """Measures everything, prints the table and the bars, and returns the exit status."""
    setting = TINY if flags else FULL
    parity = in_own_process("parity", *flags)
    print(f"1 x {parity.get('device', 'unknown device')}, jax {jax.__version__}, {setting}\n")
    print(COLUMNS, "|---" * 8 + "|", sep="\n")
    ran = 0
    for microbatch, remat in setting["points"]:
        found = in_own_process("step", str(microbatch), remat, *flags)
        ran += "failed" not in found
        print(table_row(microbatch, remat, found), flush=True)
    measured = [("points_run", ran, ">= 1")]
    for part in ("logits", "gradients"):
        measured.append((f"parity_{part}", parity.get(part, float("inf")), f"<= {PARITY_TARGET}"))
    return bars.ended(measured)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [] | ["--tiny"]:
            sys.exit(main(*sys.argv[1:]))
        case ["parity", *_]:
            print(json.dumps(measure_parity()))
        case ["step", microbatch, remat, *flags]:
            print(json.dumps(measure_step(TINY if flags else FULL, int(microbatch), remat)))
        case other:
            sys.exit(f"gpu_suite: error: {' '.join(other)}: it takes nothing but --tiny")
