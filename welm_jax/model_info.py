"""What a state is made of and where it lies: model_info.txt, and what lies there needlessly."""

import math
from collections.abc import Iterator

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from welm_jax.model import axes

LARGE_BYTES = 4 * 2**20


def table(parameters: PyTree, mesh: Mesh) -> str:
    """A line for each parameter: shape, names of its axes, where it lies at rest, bytes a device.

    The moments of Adam lie as their parameters do.

    Args:
      parameters: their shapes, types and shardings.
      mesh: where it lives.
    """
    rows = [("parameter", "shape", "axes", "split by", "bytes on a device")]
    for path, leaf in _named(parameters):
        split = ", ".join(map(str, leaf.sharding.spec))
        names = ", ".join(axes.parameter_axes(path))
        rows.append((path, str(list(leaf.shape)), names, split, f"{_bytes_on_device(leaf):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    leaves = jax.tree.leaves(parameters)
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    size = sum(map(_bytes_on_device, leaves))
    sizes = ", ".join(f"{axis} {ways}" for axis, ways in mesh.shape.items())
    ending = (
        f"mesh: {sizes}",
        f"{count:,} parameters, padding rows of the vocabulary counted",
        f"{3 * size / 2**30:.3f} GiB on a device: parameters and both moments, float32",
    )
    return "\n".join([*lines, "", *ending, ""])


def left_whole(parameters: PyTree, mesh: Mesh) -> str | None:
    """A warning of large parameters of which several devices hold the same part, if there are."""
    whole = []
    for path, leaf in _named(parameters):
        size, shard = math.prod(leaf.shape) * leaf.dtype.itemsize, _bytes_on_device(leaf)
        copies = mesh.size * shard // size
        if copies > 1 and size >= LARGE_BYTES:
            whole.append((path, copies, 3 * shard))
    if not whole:
        return None
    path, copies, _ = whole[0]
    return (
        f"warning: {len(whole)} large parameters, such as {path}, lie with their moments on "
        f"{copies} devices each, {sum(size for *_, size in whole) / 2**30:.2f} GiB on every one; "
        "a data x fsdp that divides ModelConfig.d_model would spread them"
    )


def _named(parameters: PyTree) -> Iterator[tuple[str, jax.ShapeDtypeStruct]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        yield axes.path_name(path), leaf


def _bytes_on_device(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
