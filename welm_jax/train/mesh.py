"""The mesh of devices a run lives on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
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
      slices: groups of devices that a slower network joins (TPU slices, nodes), of the same size.
        Each holds data x fsdp x tensor devices, and the mesh's data axis is slices x data long, so
        that only what is exchanged once a step passes between them.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    slices: int = 1

    def __post_init__(self):
        sizes = {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor}
        if list(sizes.values()).count(-1) > 1:
            raise InputError(f"MeshConfig has {sizes}; only one of them may be -1")
        given = [axis for axis, size in sizes.items() if size != -1]
        require_positive(self, "slices", *given)


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


def available_devices() -> list[Any]:
    """Returns the devices that jax finds.

    Raises:
      InputError: it finds none of the kind that JAX_PLATFORMS names.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a word
        said = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise InputError(
            f"jax opens no device of JAX_PLATFORMS={jax.config.jax_platforms or ''}{said}; unset "
            "it to use what is here, or install jax for that device"
        ) from error


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with explicit axes over the devices, all of them unless some are given.

    They may be descriptions of devices that are not here. Within a slice jax lays the mesh so that
    neighbours along an axis are near each other.

    Raises:
      InputError: the axes do not multiply to the number of devices, TPU slices are ignored, or
        there is no device.
    """
    devices = available_devices() if devices is None else devices
    _check_slices(config, devices)
    sizes = [config.data, config.fsdp, config.tensor]
    given = math.prod(size for size in sizes if size != -1) * config.slices
    if -1 in sizes and len(devices) % given == 0:
        sizes[sizes.index(-1)] = len(devices) // given
    if math.prod(sizes) * config.slices != len(devices):
        raise InputError(
            f"mesh data {config.data} x fsdp {config.fsdp} x tensor {config.tensor} x slices "
            f"{config.slices} does not fit {len(devices)} devices; make the product "
            f"{len(devices)} (one of -1 takes the rest)"
        )
    slices = [
        mesh_utils.create_device_mesh(sizes, part, allow_split_physical_axes=True)
        for part in np.split(np.array(by_slice(devices)), config.slices)
    ]
    return Mesh(np.concatenate(slices), MESH_AXES, (AxisType.Explicit,) * len(MESH_AXES))


def _check_slices(config: MeshConfig, devices: Sequence[Any]) -> None:
    """Refuses TPUs of several slices laid out as if they were of fewer."""
    there = len({_slice_of(one) for one in devices if one.platform == "tpu"})
    if there and config.slices % there:
        raise InputError(
            f"MeshConfig.slices = {config.slices}, but the {len(devices)} devices are of {there} "
            f"slices; set it to {there}"
        )


def by_slice(devices: Sequence[Any]) -> list[Any]:
    """Devices with those of a slice, or of a node, beside each other."""
    # GPUs are numbered node by node, and know of no slices.
    return sorted(devices, key=lambda one: (_slice_of(one), one.id))


def _slice_of(device: Any) -> int:
    return getattr(device, "slice_index", 0) or 0
