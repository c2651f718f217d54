import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import SHARDED_RTOL
from tests.tiny_decoder import (
    TINY,
    UNTIED,
    mesh_of,
    placed,
    placed_batch,
    random_batch,
    random_parameters,
)
from welm_jax.failures import InputError
from welm_jax.model import loss
from welm_jax.model.decoder import Assembler
from welm_jax.train import loss_scale, optimizer
from welm_jax.train import step as step_module
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.state import TrainState
from welm_jax.train.step import StepConfig, make_train_step, summed_loss

ROWS, LENGTH = 8, 8
BATCH = random_batch(ROWS, LENGTH, TINY.vocab_size)
PARAMETERS = random_parameters(TINY)
# No warm-up, so that the first step moves; a clip that bites.
OPTIMIZER = OptimizerConfig(max_learning_rate=0.01, warmup_steps=0, decay_steps=100, clip_norm=0.5)
UNSCALED = LossScaleConfig()  # which acts on float16 alone
ONE = np.float32(1)
initial_adam = jax.jit(optimizer.make_adam(OPTIMIZER).init)


def first_state(mesh, config=TINY, parameters=PARAMETERS, scale_config=UNSCALED):
    parameters = placed(parameters, mesh)
    return TrainState(
        step=jnp.int32(0),
        parameters=parameters,
        adam=initial_adam(parameters),
        loss_scale=loss_scale.initial(scale_config, config),
    )


@functools.cache
def plain_step():
    """The float32 step of one device and one microbatch, compiled once for all tests."""
    return make_train_step(Assembler(TINY), OPTIMIZER, StepConfig(batch_size=ROWS), UNSCALED)


def train(steps, *, mesh=None, **how):
    """The state and the metrics after some steps on one batch, as numpy arrays."""
    mesh = mesh or mesh_of()
    with jax.set_mesh(mesh):
        config = StepConfig(batch_size=ROWS, **how)
        step = make_train_step(Assembler(TINY), OPTIMIZER, config, UNSCALED)
        trail = iterate(step, mesh, first_state(mesh), [BATCH] * steps)
    return trail[-1][0], [metrics for _, metrics in trail]


def iterate(step, mesh, state, batches, lr_multiplier=ONE):
    """State and metrics after each batch, as numpy arrays; the mesh is set."""
    trail = []
    for batch in batches:
        state, metrics = step(state, placed_batch(batch, mesh), lr_multiplier)
        # A copy: what numpy merely looks at is overwritten by the next step.
        trail.append((jax.tree.map(np.array, state.as_tree()), jax.tree.map(float, metrics)))
    return trail


@functools.cache
def plain():
    """Three steps on one device in one microbatch."""
    with jax.set_mesh(mesh_of()):
        trail = iterate(plain_step(), mesh_of(), first_state(mesh_of()), [BATCH] * 3)
    return trail[-1][0], [metrics for _, metrics in trail]


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


@pytest.mark.parametrize(
    ("tensor", "chunks"),
    [(1, 1), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((1, 4), (2, 1), (2, 4)))],
)
def test_microbatches_of_one_row_change_nothing(tensor, chunks):
    """On devices that share no batch: jax forgets where an axis of 1 lies."""
    mesh = mesh_of(1, 1, tensor)
    assert_same_training(train(3, mesh=mesh, microbatches=ROWS, loss_chunks=chunks), plain())


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_everything_that_is_kept_is_float32_though_products_are_smaller(dtype):
    half = dataclasses.replace(TINY, compute_dtype=dtype)
    config = StepConfig(batch_size=ROWS, microbatches=2)
    with jax.set_mesh(mesh_of()):
        state = first_state(mesh_of())
        step = make_train_step(Assembler(half), OPTIMIZER, config, UNSCALED)
        batch = placed_batch(BATCH, mesh_of())

        def traced(state):
            after, metrics = step(state, batch, ONE)

            def loss_of(parameters):
                return summed_loss(Assembler(half)(parameters), batch, remat="none", chunks=1)

            gradients = jax.grad(loss_of)(state.parameters)
            return after.as_tree(), metrics, gradients

        tree, metrics, gradients = jax.eval_shape(traced, state)
    counts = [tree.pop("step"), tree["adam"].pop("count")]
    counts += [tree["loss_scale"].pop(name) for name in ("good_steps", "hysteresis_left")]
    assert {leaf.dtype for leaf in counts} == {np.dtype(np.int32)}
    kept = jax.tree.leaves((tree, metrics, gradients))
    assert {leaf.dtype for leaf in kept} == {np.dtype(np.float32)}


def equal_bytes(one, other):
    return all(
        left.tobytes() == right.tobytes()
        for left, right in zip(*map(jax.tree.leaves, (one, other)), strict=True)
    )


def learnt(tree):
    return {name: tree[name] for name in ("step", "parameters", "adam")}


# One id whose embedding nobody can read without overflowing: a row that holds it gives NaN, and
# only on the device that has the row.
POISON = 119
POISONED = random_parameters(UNTIED)
POISONED["embed"]["embedding"][POISON] = 1e38
GOOD = [random_batch(ROWS, LENGTH, POISON, seed) for seed in (1, 2)]
BAD = {**GOOD[0], "decoder_input_tokens": GOOD[0]["decoder_input_tokens"].copy()}
BAD["decoder_input_tokens"][-1, 0] = POISON


@functools.cache
def trails(dtype, *mesh_shape):
    """The trail of good, bad, good and that of good, good, from one compiled step."""
    mesh, config = mesh_of(*mesh_shape), dataclasses.replace(UNTIED, compute_dtype=dtype)
    how = StepConfig(batch_size=ROWS, microbatches=2)
    with jax.set_mesh(mesh):
        step = make_train_step(Assembler(config), OPTIMIZER, how, UNSCALED)
        return [
            iterate(step, mesh, first_state(mesh, config, POISONED), batches)
            for batches in ([GOOD[0], BAD, GOOD[1]], GOOD)
        ]


def assert_only_the_iteration_is_lost(harmed, unharmed):
    """On the trails of good, bad, good and of good, good."""
    (before, _), (after, bad), (end, metrics) = harmed
    assert not np.isfinite(bad["loss"]) and not np.isfinite(bad["gradient_norm"])
    assert equal_bytes(learnt(after), learnt(before))
    assert end["step"] == end["adam"]["count"] == 2
    assert not equal_bytes(end["parameters"], after["parameters"])
    assert equal_bytes(learnt(end), learnt(unharmed[-1][0]))
    assert metrics == unharmed[-1][1] and np.isfinite(metrics["gradient_norm"])


@pytest.mark.parametrize(
    ("dtype", "mesh"),
    [
        ("float32", (1, 1, 1)),
        ("float16", (1, 1, 1)),
        ("float32", (2, 2, 2)),
        pytest.param("bfloat16", (1, 1, 1), marks=pytest.mark.slow),
        pytest.param("float16", (2, 2, 2), marks=pytest.mark.slow),
    ],
)
def test_a_bad_batch_costs_one_iteration_and_nothing_else(dtype, mesh):
    """One row of one microbatch on one device is enough to refuse the whole update everywhere."""
    harmed, unharmed = trails(dtype, *mesh)
    assert_only_the_iteration_is_lost(harmed, unharmed)
    good_steps, left = (1, 1) if dtype == "float16" else (0, 2)  # frozen but for float16
    assert harmed[-1][0]["loss_scale"]["good_steps"] == good_steps
    assert harmed[-1][0]["loss_scale"]["hysteresis_left"] == left


def test_a_mesh_changes_nothing_of_a_training_with_a_refused_batch():
    spread, plain = (trails("float32", *mesh)[0][-1] for mesh in ((2, 2, 2), (1, 1, 1)))
    assert_same_training(*((state, [metrics]) for state, metrics in (spread, plain)))


def test_a_batch_without_a_counted_token_is_refused():
    empty = {**BATCH, "decoder_loss_weights": np.zeros_like(BATCH["decoder_loss_weights"])}
    with jax.set_mesh(mesh_of()):
        [(state, metrics)] = iterate(plain_step(), mesh_of(), first_state(mesh_of()), [empty])
    assert np.isnan(metrics["loss"]) and metrics["tokens"] == 0
    assert state["step"] == 0 and equal_bytes(state["parameters"], PARAMETERS)


def test_the_guard_keeps_no_copy_of_the_state(monkeypatch):
    """The compiled step needs the memory that a step without a guard would need."""

    def memory():
        mesh, how = mesh_of(2), StepConfig(batch_size=ROWS)
        step = make_train_step(Assembler(TINY), OPTIMIZER, how, UNSCALED).__wrapped__

        def on_trees(tree, *rest):  # their leaves may be anything; lowering puts words there
            after, metrics = step(TrainState.from_tree(tree), *rest)
            return after.as_tree(), metrics

        with jax.set_mesh(mesh):
            state, batch = first_state(mesh).as_tree(), placed_batch(BATCH, mesh)
            lowered = jax.jit(on_trees, donate_argnums=0).lower(state, batch, ONE)
        return lowered.compile().memory_analysis()

    guarded = memory()
    monkeypatch.setattr(step_module, "selected", lambda finite, updated, kept: updated)
    free = memory()
    assert guarded.alias_size_in_bytes == free.alias_size_in_bytes > 100_000  # all is donated
    assert guarded.temp_size_in_bytes < 1.01 * free.temp_size_in_bytes


HALF = dataclasses.replace(TINY, compute_dtype="float16")


@pytest.fixture(scope="module")
def half_step():
    """One compiled float16 step on a mesh, with a window of four iterations."""
    config = LossScaleConfig(window=4)
    with jax.set_mesh(mesh_of(2, 1, 2)):
        yield make_train_step(Assembler(HALF), OPTIMIZER, StepConfig(batch_size=ROWS), config)


def from_scale(half_step, scale, iterations, lr_multiplier=ONE):
    mesh = mesh_of(2, 1, 2)
    state = first_state(mesh, HALF, scale_config=LossScaleConfig(initial=scale))
    return iterate(half_step, mesh, state, [BATCH] * iterations, lr_multiplier)


def test_an_overflow_has_a_finite_loss_and_teaches_nothing(half_step):
    """From 2^32 the scale comes down until the gradients fit; only then is anything learnt."""
    trail = from_scale(half_step, 2.0**32, 20)
    losses, norms, scales = (
        [metrics[name] for _, metrics in trail] for name in ("loss", "gradient_norm", "loss_scale")
    )
    refused = next(i for i, norm in enumerate(norms) if np.isfinite(norm))
    assert scales[: refused + 1] == [2.0**32] + [2.0 ** (32 - i) for i in range(refused)]
    assert 10 < refused < 18
    assert losses[: refused + 1] == losses[:1] * (refused + 1) and np.isfinite(losses[0])
    for state, _ in trail[:refused]:
        assert equal_bytes(state["parameters"], PARAMETERS)
        assert not any(leaf.any() for leaf in jax.tree.leaves(state["adam"]))
    assert trail[refused][0]["step"] == 1
    assert not equal_bytes(trail[refused][0]["parameters"], PARAMETERS)


def test_the_scale_does_not_show_in_what_is_learnt_or_logged(half_step):
    """Powers of two round nothing while all gradients stay in range: equal bit for bit."""
    low, high = (from_scale(half_step, scale, 3) for scale in (2.0**13, 2.0**15))
    assert equal_bytes(learnt(low[-1][0]), learnt(high[-1][0]))
    for (_, one), (_, other) in zip(low, high, strict=True):
        assert (one.pop("loss_scale"), other.pop("loss_scale")) == (2**13, 2**15)
        assert one == other


def test_neither_the_rate_nor_the_scale_recompiles(half_step):
    """Fresh, trained, overflowed, its scale reset, restored from numpy: one program."""
    mesh, state = mesh_of(2, 1, 2), None
    for rate, scale in itertools.product((1.0, 0.8, 0.512), (2.0**16, 2.0**32)):
        fresh = first_state(mesh, HALF, scale_config=LossScaleConfig(initial=scale))
        state = dataclasses.replace(state or fresh, loss_scale=fresh.loss_scale)
        state, metrics = half_step(state, placed_batch(BATCH, mesh), np.float32(rate))
        assert metrics["loss_scale"] == scale
    restored = jax.tree.map(
        lambda leaf: jax.device_put(np.array(leaf), leaf.sharding), state.as_tree()
    )
    half_step(TrainState.from_tree(restored), placed_batch(BATCH, mesh), ONE)
    assert half_step._cache_size() == 1


def test_the_multiplier_acts_on_the_whole_rate():
    """Half of it is half the peak rate, bit for bit; none moves moments but no weight."""
    halved = dataclasses.replace(OPTIMIZER, max_learning_rate=OPTIMIZER.max_learning_rate / 2)
    half = make_train_step(Assembler(TINY), halved, StepConfig(batch_size=ROWS), UNSCALED)
    mesh = mesh_of()
    with jax.set_mesh(mesh):
        multiplied = iterate(plain_step(), mesh, first_state(mesh), [BATCH] * 2, np.float32(0.5))
        expected = iterate(half, mesh, first_state(mesh), [BATCH] * 2)
        [(still, metrics)] = iterate(plain_step(), mesh, first_state(mesh), [BATCH], np.float32(0))
    assert multiplied[0][1]["learning_rate"] == np.float32(0.005)
    assert multiplied[-1][1] == expected[-1][1]
    assert equal_bytes(multiplied[-1][0], expected[-1][0])
    assert metrics["learning_rate"] == 0 and still["step"] == 1
    assert equal_bytes(still["parameters"], PARAMETERS)
    assert all(leaf.any() for leaf in jax.tree.leaves(still["adam"]["mu"]["blocks"]))


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
