import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import SHARDED_RTOL
from tests.tiny_decoder import (
    TINY,
    mesh_of,
    placed,
    placed_batch,
    random_batch,
    random_parameters,
)
from welm_jax.failures import InputError
from welm_jax.model import loss
from welm_jax.model.decoder import Assembler
from welm_jax.train import optimizer
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.state import TrainState
from welm_jax.train.step import StepConfig, make_train_step, summed_loss

ROWS, LENGTH = 8, 8
BATCH = random_batch(ROWS, LENGTH, TINY.vocab_size)
PARAMETERS = random_parameters(TINY)
# No warm-up, so that the first step moves; a clip that bites.
OPTIMIZER = OptimizerConfig(max_learning_rate=0.01, warmup_steps=0, decay_steps=100, clip_norm=0.5)


def first_state(mesh):
    parameters = placed(PARAMETERS, mesh)
    adam = jax.jit(optimizer.make_adam(OPTIMIZER).init)(parameters)
    return TrainState(step=jnp.int32(0), parameters=parameters, adam=adam)


def train(steps, *, mesh=None, **how):
    """The state and the metrics after some steps on one batch, as numpy arrays."""
    mesh = mesh or mesh_of()
    with jax.set_mesh(mesh):
        state = first_state(mesh)
        config = StepConfig(batch_size=ROWS, **how)
        step = make_train_step(Assembler(TINY), OPTIMIZER, config)
        history = []
        for _ in range(steps):
            state, metrics = step(state, placed_batch(BATCH, mesh))
            history.append(jax.tree.map(float, metrics))
    return jax.tree.map(np.asarray, state.as_tree()), history


@functools.cache
def plain():
    """Three steps on one device in one microbatch."""
    return train(3)


def assert_same_training(found, expected):
    for one, other in zip(found[1], expected[1], strict=True):
        assert one == pytest.approx(other, rel=10 * SHARDED_RTOL)
    moments, others = found[0]["adam"]["mu"], expected[0]["adam"]["mu"]
    for one, other in zip(*map(jax.tree.leaves, (moments, others)), strict=True):
        np.testing.assert_allclose(one, other, atol=10 * SHARDED_RTOL * np.abs(other).max())


def test_accumulation_changes_nothing_however_padding_is_spread():
    """The rows count 1 to 8 tokens each: a mean of the microbatches' means would be another loss.

    On four devices at that, so that every microbatch takes rows from each.
    """
    of_microbatches = BATCH["decoder_loss_weights"].sum(1).reshape(ROWS // 4, 4).sum(0)
    assert len(set(of_microbatches)) > 1
    assert_same_training(train(3, mesh=mesh_of(2, 1, 2), microbatches=4, loss_chunks=2), plain())


def adamw_by_hand(steps):
    """AdamW in float64 numpy, on gradients of the mean loss taken outside the step."""
    assemble = Assembler(TINY)
    weights_sum = BATCH["decoder_loss_weights"].sum()

    @jax.jit
    def gradient_of(parameters, batch):
        def mean_loss(parameters):
            decoder = assemble(parameters)
            hidden = decoder(
                batch["decoder_input_tokens"],
                batch["decoder_positions"],
                batch["decoder_segment_ids"],
            )
            logits = loss.logits(hidden, decoder.head_matrix(), TINY.vocab_size)
            losses = loss.token_losses(logits, batch["decoder_target_tokens"])
            return jnp.sum(losses * batch["decoder_loss_weights"]) / weights_sum

        return jax.grad(mean_loss)(parameters)

    leaves, structure = jax.tree.flatten(PARAMETERS)
    names = [path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(PARAMETERS)]
    weights = [leaf.astype(np.float64) for leaf in leaves]
    first, second = ([np.zeros_like(leaf) for leaf in weights] for _ in range(2))
    norms = []
    for step in range(1, steps + 1):
        single = [leaf.astype(np.float32) for leaf in weights]
        with jax.set_mesh(mesh_of()):
            found = gradient_of(
                jax.tree.unflatten(structure, single), placed_batch(BATCH, mesh_of())
            )
        gradients = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]
        norms.append(np.sqrt(sum((gradient**2).sum() for gradient in gradients)))
        done = (step - 1) / 100
        rate = 0.001 + 0.009 * (1 + np.cos(np.pi * done)) / 2
        for i, gradient in enumerate(gradients):
            gradient = gradient * min(1.0, 0.5 / norms[-1])
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.95 * second[i] + 0.05 * gradient**2
            direction = first[i] / (1 - 0.9**step)
            direction /= np.sqrt(second[i] / (1 - 0.95**step)) + 1e-8
            decay = 0.1 if names[i] in ("kernel", "embedding") else 0.0
            weights[i] = weights[i] - rate * (direction + decay * weights[i])
    return jax.tree.unflatten(structure, weights), norms


def test_three_steps_equal_adamw_written_in_numpy():
    """Clipping bites (the norm is above 0.5); only kernels and embeddings decay."""
    state, history = plain()
    expected, norms = adamw_by_hand(3)
    assert min(norms) > 2 * OPTIMIZER.clip_norm
    assert [metrics["gradient_norm"] for metrics in history] == pytest.approx(norms, rel=1e-4)
    for path, weight in jax.tree_util.tree_leaves_with_path(state["parameters"]):
        other = expected
        for key in path:
            other = other[key.key]
        # A step moves a weight by up to 0.01; where a gradient is near nothing, rounding
        # decides its direction, hence a bound on the mean as well as on the largest.
        difference = np.abs(weight - other)
        assert difference.mean() < 1e-6 and difference.max() < 1e-4, jax.tree_util.keystr(path)


def test_the_metrics_are_what_they_say():
    state, history = plain()
    assert state["step"] == 3
    assert [metrics["tokens"] for metrics in history] == [BATCH["decoder_loss_weights"].sum()] * 3
    assert [metrics["learning_rate"] for metrics in history] == pytest.approx(
        [0.01, 0.0099978, 0.0099911], rel=1e-5
    )
    losses = [metrics["loss"] for metrics in history]
    assert losses[2] < losses[1] < losses[0]


def test_everything_that_is_kept_is_float32_though_products_are_bfloat16():
    half = dataclasses.replace(TINY, compute_dtype="bfloat16")
    config = StepConfig(batch_size=ROWS, microbatches=2)
    with jax.set_mesh(mesh_of()):
        state = first_state(mesh_of())
        step = make_train_step(Assembler(half), OPTIMIZER, config)
        batch = placed_batch(BATCH, mesh_of())

        def traced(state):
            after, metrics = step(state, batch)
            gradient_of = jax.grad(
                functools.partial(summed_loss, remat="none", chunks=1), argnums=1
            )
            gradients = gradient_of(Assembler(half), state.parameters, batch)
            return after.as_tree(), metrics, gradients

        tree, metrics, gradients = jax.eval_shape(traced, state)
    assert tree.pop("step").dtype == tree["adam"].pop("count").dtype == np.int32
    kept = jax.tree.leaves((tree, metrics, gradients))
    assert {leaf.dtype for leaf in kept} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"batch_size": 10, "microbatches": 2},
            "batch of 10 sequences does not divide into data 4 x fsdp 1 x 2 microbatches; "
            "set StepConfig.batch_size to 8 or 16",
        ),
        ({"batch_size": 3}, "set StepConfig.batch_size to 4$"),
        (
            {"batch_size": 8, "loss_chunks": 5},
            "StepConfig.loss_chunks = 5 does not divide sequences of 16 tokens",
        ),
    ],
)
def test_batches_that_do_not_divide_are_refused(config, text):
    with pytest.raises(InputError, match=text):
        StepConfig(**config).check(mesh_of(4, 1, 2), sequence_tokens=16)
