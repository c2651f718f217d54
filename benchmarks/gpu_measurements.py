"""Our side of gpu_suite: parity and the train step on one device, one measurement per process.

Reads one line of JSON, a Work or null for parity, and prints what it found as another.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import PyTree

from benchmarks.same_work import Work
from welm_jax import ahead_of_time, cost_model, gpt_neox_layout
from welm_jax.model import attention, axes, loss
from welm_jax.model.decoder import Assembler
from welm_jax.train import loss_scale, optimizer
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.state import TrainState, initial_parameters
from welm_jax.train.step import StepConfig, make_train_step, on_mesh

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "gpt_neox_parity.npz"
SOFTWARE = f"jax {jax.__version__}"


def measure_parity() -> dict:
    """How far float32 logits (absolute) and gradients (relative) are from Hugging Face's."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with np.load(GOLDEN) as golden, jax.set_mesh(mesh), jax.default_matmul_precision("highest"):
        found = [parity_of(case, golden) for case in ("tied", "untied", "general")]
    logits, gradients = map(max, zip(*found, strict=True))
    device = jax.devices()[0].device_kind
    return {"software": SOFTWARE, "device": device, "logits": logits, "gradients": gradients}


def parity_of(case: str, golden) -> tuple[float, float]:
    config = gpt_neox_layout.our_config(json.loads(str(golden[f"{case}/config"])))
    parameters_of, gradients_of = (
        dict(
            gpt_neox_layout.in_our_layout(
                lambda name, group=group: golden[f"{case}/{group}/{name}"],
                {
                    file.removeprefix(f"{case}/{group}/")
                    for file in golden.files
                    if file.startswith(f"{case}/{group}/")
                },
                config,
            )
        )
        for group in ("parameters", "gradients")
    )
    assemble, rows, tokens = Assembler(config), config.vocab_size, golden[f"{case}/tokens"]

    def stored(name, leaf):
        array = parameters_of[name]
        return np.pad(array, [(0, leaf.shape[0] - len(array)), *[(0, 0)] * (leaf.ndim - 1)])

    def forward(parameters, tokens):
        decoder = assemble(parameters)
        positions = jnp.tile(jnp.arange(tokens.shape[1] - 1), (len(tokens), 1))
        hidden = decoder(tokens[:, :-1], positions, jnp.ones_like(positions))
        logits = loss.logits(hidden, decoder.head_matrix(), rows)
        return jnp.mean(loss.token_losses(logits, tokens[:, 1:])), logits[:, :, :rows]

    shapes = jax.eval_shape(lambda: initial_parameters(config, 0))
    parameters = axes.mapped(stored, shapes)
    gradients, logits = jax.jit(jax.grad(forward, has_aux=True))(parameters, tokens)
    worst = 0.0
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        expected = gradients_of[axes.path_name(path)]
        difference = np.abs(np.asarray(gradient)[: len(expected)] - expected).max()
        worst = max(worst, float(difference / np.abs(expected).max()))
    return float(np.abs(logits - golden[f"{case}/logits"]).max()), worst


def measure_step(work: Work) -> dict:
    """Times optimizer steps, each waited for, after some that do not count."""
    if work.forces_xla:
        attention.kernel_for = lambda *_: "xla"
    config, device = work.decoder(), jax.devices()[0]
    mesh = make_mesh(MeshConfig(), [device])
    with jax.set_mesh(mesh):
        batch, state = on_mesh(batch_of(work), mesh), first_state(work, mesh)
        started = time.perf_counter()
        step = make_train_step(Assembler(config), rates(work), parts(work), LossScaleConfig())
        step = step.lower(state, batch, np.float32(1)).compile()
        losses, moments = [], [time.perf_counter()]
        for _ in range(work.warm_up_steps + work.timed_steps):
            state, metrics = jax.block_until_ready(step(state, batch, np.float32(1)))
            moments.append(time.perf_counter())
            losses.append(float(metrics["loss"]))
    kernel = attention.kernel_for(
        device.platform, jnp.dtype(work.dtype), work.sequence_tokens, config.head_width
    )
    return {
        "software": SOFTWARE,
        "device": device.device_kind,
        "attention": kernel,
        "seconds": np.diff(moments)[work.warm_up_steps :].tolist(),
        "losses": losses,
        "compile_seconds": moments[0] - started,
        "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "planned_bytes": ahead_of_time.live_bytes(step),
        "closed_form_bytes": closed_form_bytes(work, kernel),
    }


def closed_form_bytes(work: Work, kernel: attention.Kernel) -> float:
    """What the planner says before it compiles."""
    asked = cost_model.Workload(
        model=work.decoder(),
        sequence_tokens=work.sequence_tokens,
        loss_chunks=work.loss_chunks,
        kernel=kernel,
    )
    how = cost_model.Candidate(
        data=1,
        fsdp=1,
        tensor=1,
        rows=work.microbatch,
        microbatches=work.batch_size // work.microbatch,
        remat=work.remat,
    )
    return sum(cost_model.memory_parts(asked, how).values())


def rates(work: Work) -> optimizer.OptimizerConfig:
    """One learning rate: over some steps of a million the cosine does not move."""
    return optimizer.OptimizerConfig(
        max_learning_rate=work.learning_rate, warmup_steps=0, decay_steps=1_000_000
    )


def parts(work: Work) -> StepConfig:
    return StepConfig(
        batch_size=work.batch_size,
        microbatches=work.batch_size // work.microbatch,
        loss_chunks=work.loss_chunks,
        remat=work.remat,
    )


def batch_of(work: Work) -> dict[str, np.ndarray]:
    tokens = work.tokens()
    rows, length = tokens[:, 1:].shape
    return {
        "decoder_input_tokens": tokens[:, :-1],
        "decoder_target_tokens": tokens[:, 1:],
        "decoder_segment_ids": np.ones((rows, length), np.int32),
        "decoder_positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "decoder_loss_weights": np.ones((rows, length), np.float32),
    }


def first_state(work: Work, mesh: jax.sharding.Mesh) -> TrainState:
    """As state.initial_state, with the weights that the peer has too."""
    parameters = parameters_on(mesh, work)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        adam=jax.jit(optimizer.make_adam(rates(work)).init)(parameters),
        loss_scale=loss_scale.initial(LossScaleConfig(), work.decoder()),
    )


def parameters_on(mesh: jax.sharding.Mesh, work: Work) -> PyTree:
    """The work's weights, float32, at rest."""
    config, weights = work.decoder(), work.weights()

    def put(name, leaf):
        where = NamedSharding(mesh, axes.at_rest(name, leaf.shape))
        return jax.device_put(weights.pop(name), where)

    return axes.mapped(put, jax.eval_shape(lambda: initial_parameters(config, 0)))


if __name__ == "__main__":
    if line := sys.stdin.readline():
        job = json.loads(line)
        print(json.dumps(measure_parity() if job is None else measure_step(Work(**job))))
