"""The mesh of devices a run lives on."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from welm_jax.failures import InputError
from welm_jax.model.axes import MESH_AXES


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
        for axis in MESH_AXES:
            size = getattr(self, axis)
            if size < 1 and not (axis == "data" and size == -1):
                raise InputError(
                    f"MeshConfig.{axis} = {size}; it must be 1 or more"
                    + (", or -1 for all that is left over" if axis == "data" else "")
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
