"""Names for the axes of every array, and the one table that maps names to mesh axes.

The modules name what an axis *is*; this file alone knows where it lives. Letters in annotations:
B batch, T query tokens, S key tokens, D model width, N heads, H head width, F feed-forward width,
V vocabulary, L layers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

MESH_AXES = ("data", "fsdp", "tensor")

# What an axis is -> the mesh axes that split it. Axes without a row are whole on every device.
RULES = {
    "batch": ("data", "fsdp"),
    "heads": "tensor",
    "feed_forward": "tensor",
    "vocabulary": "tensor",
}

# Parameter (path without the block's leading layer axis) -> the names of its axes. The stored
# width is the model width of a large parameter: the axis that is split further while unused.
PARAMETERS = {
    "embed/embedding": ("vocabulary", "stored_width"),
    "head/embedding": ("vocabulary", "stored_width"),
    "ln1/scale": ("width",),
    "ln1/bias": ("width",),
    "qkv/kernel": ("stored_width", "qkv", "heads", "head_width"),
    "qkv/bias": ("qkv", "heads", "head_width"),
    "out/kernel": ("heads", "head_width", "stored_width"),
    "out/bias": ("width",),
    "ln2/scale": ("width",),
    "ln2/bias": ("width",),
    "up/kernel": ("stored_width", "feed_forward"),
    "up/bias": ("feed_forward",),
    "down/kernel": ("feed_forward", "stored_width"),
    "down/bias": ("width",),
    "final_norm/scale": ("width",),
    "final_norm/bias": ("width",),
}
BLOCKS = "blocks"  # parameters under this name carry a leading layer axis


def spec(*names: str) -> PartitionSpec:
    """The PartitionSpec of an array whose axes bear these names."""
    return PartitionSpec(*(RULES.get(name) for name in names))


def parameter_axes(path: str) -> tuple[str, ...]:
    """The axis names of one parameter, such as `blocks/qkv/kernel`."""
    stacked = path.startswith(f"{BLOCKS}/")
    names = PARAMETERS[path.removeprefix(f"{BLOCKS}/")]
    return ("layers", *names) if stacked else names


def path_name(path: tuple) -> str:
    """A jax key path as `blocks/qkv/kernel`: the same name in tables, checkpoints and reports."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def mapped(function: Callable[[str, Any], Any], parameters: PyTree) -> PyTree:
    """The tree of function(path, leaf) over a tree of parameters, moments or gradients."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(path_name(path), leaf), parameters
    )


def at_rest(path: str, shape: tuple[int, ...]) -> PartitionSpec:
    """Where a parameter and its moments lie between steps: ZeRO stage 1, and fsdp.

    Its width is split over fsdp and data both, or over fsdp alone if data does not divide it.
    """
    sizes, names = jax.sharding.get_abstract_mesh().shape, parameter_axes(path)
    width = shape[names.index("stored_width")] if "stored_width" in names else 0
    divides = width % (sizes["fsdp"] * sizes["data"]) == 0
    return _stored(path, ("fsdp", "data") if divides else "fsdp")


def in_step(path: str) -> PartitionSpec:
    """Where a parameter lies within a step: whole along data.

    Typed `reduced`: its gradients, typed `unreduced`, are partial sums of each device until the
    step's end, so that data-parallel devices exchange them once.
    """
    reduced = {"data"} if "stored_width" in parameter_axes(path) else set(RULES["batch"])
    return PartitionSpec(*_stored(path, "fsdp"), reduced=reduced)


def _stored(path: str, split_by: str | tuple[str, ...]) -> PartitionSpec:
    names = parameter_axes(path)
    return PartitionSpec(
        *(split_by if name == "stored_width" else RULES.get(name) for name in names)
    )


def gradient_sums(path: str) -> PartitionSpec:
    """Where a parameter's gradients lie until the end of a step; see in_step."""
    weight = in_step(path)
    return PartitionSpec(*weight.partitions, unreduced=weight.reduced)


def in_use(name: str, weight: Array) -> Array:
    """A weight as a layer uses it: whole along data and fsdp, still split along tensor.

    Called where it is used, so that one layer's weights are whole at a time; its transpose
    scatters the gradients back along fsdp.

    Args:
      name: its key in PARAMETERS.
      weight: laid out as `in_step` says, without the layer axis.
    """
    whole = spec(*PARAMETERS[name])
    return jax.reshard(weight, PartitionSpec(*whole, reduced=set(RULES["batch"])))


def spread(name: str, vector: Array, rows: int) -> Array:
    """A bias or scale once for each sequence, [B, 1, ...], where the sequences are.

    Its gradient is then a partial sum, as that of a matrix is; added to the sequences as it is, it
    would be reduced over the devices in every layer.

    Args:
      name: its key in PARAMETERS.
      vector: laid out as `in_step` says, without the layer axis.
      rows: B.
    """
    ones = jnp.ones((rows, 1), vector.dtype, out_sharding=spec("batch", "one"))
    return jax.lax.dot_general(
        ones,
        vector[None],
        (((1,), (0,)), ((), ())),
        precision="highest",
        out_sharding=spec("batch", *PARAMETERS[name]),
    )[:, None]


def per_device(own: Callable[..., PyTree], of_rows: PyTree, *whole: Array) -> PyTree:
    """Runs own(of_rows, *whole) on each device for its rows, which need none of another's.

    Within, arrays have no sharding: any function of rows will do.

    Args:
      own: gives arrays of rows, as it takes them.
      of_rows: arrays whose first axis is the batch; the rest is whole on every device.
      *whole: arrays that are the same everywhere.
    """
    rows = spec("batch")
    run = jax.shard_map(
        own, in_specs=(rows, *[PartitionSpec()] * len(whole)), out_specs=rows, check_vma=False
    )
    return run(of_rows, *whole)
