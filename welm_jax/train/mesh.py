"""The mesh of devices a run lives on."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from welm_jax.failures import InputError, require_positive
from welm_jax.model.axes import MESH_AXES
from welm_jax.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many ways each kind of parallelism splits the devices.

    Attributes:
      data: replicas of the model, each with its share of the batch; -1 takes what is left over.
      fsdp: ways in which the weights at rest, and the batch, are split.
      tensor: ways in which heads, the feed-forward axis and the vocabulary are split.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self):
        require_positive(self, "fsdp", "tensor", *(["data"] if self.data != -1 else []))


def check_model(mesh: Mesh, model: ModelConfig) -> None:
    """Refuses a model that the mesh does not divide.

    Raises:
      InputError: names the axis, its size and what it would have to divide.
    """
    for axis, what, size in (
        ("tensor", "ModelConfig.num_heads", model.num_heads),
        ("tensor", "the padded vocabulary", model.padded_vocab_size),
        ("fsdp", "ModelConfig.d_model", model.d_model),
    ):
        if size % mesh.shape[axis]:
            raise InputError(
                f"MeshConfig.{axis} = {mesh.shape[axis]} does not divide {what} = {size}; "
                f"use a divisor of {size}"
            )


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with explicit axes over the devices, all of them unless some are given.

    Raises:
      InputError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    replica = config.fsdp * config.tensor
    data = len(devices) // replica if config.data == -1 else config.data
    if data * replica != len(devices):
        raise InputError(
            f"mesh data {config.data} x fsdp {config.fsdp} x tensor {config.tensor} does not fit "
            f"{len(devices)} devices; make the product {len(devices)} (data = -1 takes the rest)"
        )
    shape = (data, config.fsdp, config.tensor)
    return Mesh(np.array(devices).reshape(shape), MESH_AXES, (AxisType.Explicit,) * len(shape))
