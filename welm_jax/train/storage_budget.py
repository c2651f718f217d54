"""What checkpoints cost: room and bandwidth, told before a run fills a disk."""

import math

import jax
from jaxtyping import PyTree

from welm_jax.train import accelerators
from welm_jax.train.checkpoints import CheckpointConfig


def storage_budget(
    like: PyTree,
    config: CheckpointConfig,
    train_steps: int,
    *,
    flops_per_step: int,
    device_kind: str,
    devices: int,
) -> str:
    """One line on the room and the bandwidth that checkpoints take, before compression.

    The number at once counts the one being written, and not what recoveries pin. The bandwidth is
    what devices at their peak would ask for, an upper bound; without a known peak it is left out.

    Args:
      like: shapes and types of the train state.
      config: how often and how many.
      train_steps: of the whole run.
      flops_per_step: by ModelConfig.flops_per_token.
      device_kind: jax's name of the devices.
      devices: how many there are.
    """
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    steps = [*range(config.every_steps, train_steps, config.every_steps), train_steps]
    lasting = {step for step in steps if step % config.keep_every_steps == 0}
    at_once = min(len(steps), len({*steps[-config.keep :], *lasting}) + 1)
    per_step = size * len(steps) / train_steps
    budget = (
        f"checkpoints: {_bytes(size)} each, up to {at_once} at once in {_bytes(size * at_once)}; "
        f"{_bytes(per_step)} written per step on average"
    )
    device = accelerators.of_kind(device_kind)
    if device is None:
        return budget
    fastest = device.peak_flops * devices / flops_per_step
    return f"{budget}, up to {_bytes(per_step * fastest)}/s"


def unmet_period(config: CheckpointConfig) -> str | None:
    """Which checkpoints stay for good where `keep_every_steps` is not a multiple of `every_steps`.

    Returns:
      None where it is one.
    """
    if config.keep_every_steps % config.every_steps == 0:
        return None
    period = math.lcm(config.keep_every_steps, config.every_steps)
    return (
        f"CheckpointConfig.keep_every_steps = {config.keep_every_steps:,} is not a multiple of "
        f"every_steps = {config.every_steps:,}: of the checkpoints, those of each {period:,} steps "
        "stay for good"
    )


def _bytes(size: int | float) -> str:
    thousands = min(int(math.log(max(size, 1), 1000)), 4)
    return f"{size / 1000**thousands:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[thousands]}"
