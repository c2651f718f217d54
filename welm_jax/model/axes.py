"""Names for the axes of every array, and the one table that maps names to mesh axes.

The modules name what an axis *is*; this file alone knows where it lives. Letters in annotations:
B batch, T query tokens, S key tokens, D model width, N heads, H head width, F feed-forward width,
V vocabulary, L layers.
"""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

MESH_AXES = ("data", "fsdp", "tensor")

# What an axis is -> the mesh axes that split it. Axes without a row are whole on every device.
RULES = {
    "batch": ("data", "fsdp"),
    "heads": "tensor",
    "feed_forward": "tensor",
    "vocabulary": "tensor",
    "stored_width": "fsdp",  # a weight's model-width axis at rest; gathered before use
}

# Parameter (path without the block's leading layer axis) -> the names of its axes.
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


def parameter_specs(parameters: PyTree) -> PyTree:
    """The resting PartitionSpec of each leaf of a parameter tree (arrays or their shapes)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: spec(*parameter_axes(path_name(path))), parameters
    )


def gathered(parameters: PyTree) -> PyTree:
    """Parameters as a layer uses them: whole along fsdp, still split along tensor.

    Called inside the scan over layers, so that one layer's weights are whole at a time; its
    transpose scatters the gradients back.

    Args:
      parameters: a tree whose paths are keys of PARAMETERS.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, weight: gathered_as(path_name(path), weight), parameters
    )


def gathered_as(name: str, weight: Array) -> Array:
    """One weight as a layer uses it; `name` is its key in PARAMETERS."""
    in_use = (axis if axis != "stored_width" else "width" for axis in PARAMETERS[name])
    return jax.reshard(weight, spec(*in_use))
