import jax
import jax.numpy as jnp
import pytest

from tests.tiny_decoder import mesh_of
from welm_jax import gin_files
from welm_jax.train import optimizer, state
from welm_jax.train.checkpoints import CheckpointConfig
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.storage_budget import storage_budget, unmet_period

ADAM = optimizer.make_adam(OptimizerConfig(max_learning_rate=1.0, warmup_steps=0, decay_steps=1))


def test_the_budget_of_the_largest_preset():
    preset = gin_files.load(["models/welm_10b.gin"], [], {"ModelConfig": "welm_jax.model.config"})[
        "ModelConfig"
    ]
    tree = state.abstract_tree(preset, ADAM, mesh_of())
    # 12 bytes for each of 10.39e9 parameters. 71,500 steps: 12 newest, 71 thousands, of which the
    # newest 600 steps hold 71,000, and the one being written: 83. A batch of 2,048 sequences of
    # 2,048 tokens at 64.3e9 FLOPs each, on 128 devices of 312e12 FLOP/s: 6.76 s a step.
    assert storage_budget(
        tree,
        CheckpointConfig(),
        71_500,
        flops_per_step=2048 * 2048 * preset.flops_per_token(2048),
        device_kind="NVIDIA A100-SXM4-80GB",
        devices=128,
    ) == (
        "checkpoints: 125 GB each, up to 83 at once in 10.3 TB; 2.49 GB written per step on "
        "average, up to 369 MB/s"
    )


def test_the_budget_of_a_short_run_on_devices_without_a_known_peak():
    tree = {"a": jax.ShapeDtypeStruct((1000, 1000), jnp.float32)}
    config = CheckpointConfig(every_steps=10, keep=12)
    words = storage_budget(tree, config, 25, flops_per_step=1, device_kind="cpu", devices=1)
    assert words == (  # of steps 10, 20 and 25
        "checkpoints: 4 MB each, up to 3 at once in 12 MB; 480 kB written per step on average"
    )


@pytest.mark.parametrize(
    ("every_steps", "period", "met"),
    [(50, 1000, 1000), (1000, 1000, 1000), (300, 1000, 3000), (21, 1000, 21_000), (100, 50, 100)],
)
def test_a_period_that_the_interval_does_not_meet_is_reported(every_steps, period, met):
    config = CheckpointConfig(every_steps=every_steps, keep_every_steps=period)
    words = (
        f"CheckpointConfig.keep_every_steps = {period:,} is not a multiple of every_steps = "
        f"{every_steps:,}: of the checkpoints, those of each {met:,} steps stay for good"
    )
    assert unmet_period(config) == (None if met == period else words)
