"""What a compiled program does, read from its text: collectives, loops, and any other operation.

Knows XLA's textual form and no model.
"""

import collections
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COLLECTIVES = (
    "all-reduce",
    "reduce-scatter",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
BYTES = {
    **dict.fromkeys(("pred", "s8", "u8"), 1),
    **dict.fromkeys(("f16", "bf16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64"), 8),
    "token": 0,
}

Shape = tuple[str, tuple[int, ...]]  # XLA's name of the type, and the dimensions

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*?\{$(.*?)^\}", re.M | re.S)
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$", re.M)
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|called_computations)=\{(.*?)\}"
)
_NAMED = re.compile(  # no axis named by halves: those are written with a colon
    r"mesh\[(.*?)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? ?\{([^:]*?)\}"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One operation of a program.

    Attributes:
      name: its own, unique in the program.
      operation: XLA's word, such as "dot".
      shapes: of its results.
      details: operands and attributes, as they are written.
      times: how often a run of the program carries it out.
      in_loop: whether it stands in a loop.
      is_fused: whether it stands inside of a fusion, so that its results never lie in memory.
      starts_with_operands: whether the shapes of its operands come first, as many as results.
    """

    name: str
    operation: str
    shapes: Sequence[Shape]
    details: str
    times: int
    in_loop: bool
    is_fused: bool
    starts_with_operands: bool

    @property
    def result_bytes(self) -> int:
        """Bytes of all results together."""
        return _bytes(self.shapes)


@dataclass(frozen=True, kw_only=True)
class Collective:
    """An operation that devices carry out together.

    Attributes:
      kind: one of COLLECTIVES.
      axes: the mesh axes along which they differ.
      ways: devices of a group.
      instruction: where it stands.
    """

    kind: str
    axes: frozenset[str]
    ways: int
    instruction: Instruction

    @property
    def bytes(self) -> int:
        """Of the whole tensor, of which each device begins or ends with a part."""
        return _bytes(self.shapes) * (self.ways if self.kind == "reduce-scatter" else 1)

    @property
    def shapes(self) -> Sequence[Shape]:
        """Of the results; those of an asynchronous start come after its operands, if it has any."""
        found = self.instruction.shapes
        if self.kind == "collective-permute" and len(found) > 1:
            return found[1:2]  # what follows is the state of the exchange
        return found[len(found) // 2 :] if self.instruction.starts_with_operands else found

    def __str__(self) -> str:
        shapes = ", ".join(f"{dtype}{list(size)}" for dtype, size in self.shapes)
        place = f"x {self.instruction.times} in a loop" if self.instruction.in_loop else "once"
        return f"{self.kind} over {'+'.join(sorted(self.axes))} of {shapes}, {place}"


def instructions(text: str) -> list[Instruction]:
    """All operations of a program that runs, those of loops and fusions too."""
    bodies = {name: body for _, name, body in _COMPUTATION.findall(text)}
    entry = next(name for is_entry, name, _ in _COMPUTATION.findall(text) if is_entry)
    times: dict[tuple[str, bool, bool], int] = collections.Counter()

    @functools.cache
    def calls(computation: str) -> list[tuple[str, int, bool, bool]]:
        found = []
        for _, _, operation, details in _INSTRUCTION.findall(bodies[computation]):
            loops = operation == "while"
            trips = _trips(details, bodies) if loops else 1
            for one, several in _CALLED.findall(details):
                for name in [one] if one else re.findall(r"[\w.-]+", several):
                    found.append((name, trips, loops, operation == "fusion"))
        return found

    def visit(computation: str, multiplied: int, in_loop: bool, is_fused: bool) -> None:
        times[computation, in_loop, is_fused] += multiplied
        for name, trips, loops, fuses in calls(computation):
            visit(name, multiplied * trips, in_loop or loops, is_fused or fuses)

    visit(entry, 1, False, False)
    return [
        Instruction(
            name=name,
            operation=operation,
            shapes=_shapes(result),
            details=details,
            times=count,
            in_loop=in_loop,
            is_fused=is_fused,
            starts_with_operands=_holds_operands(operation, result),
        )
        for (computation, in_loop, is_fused), count in times.items()
        for name, result, operation, details in _INSTRUCTION.findall(bodies[computation])
    ]


def collectives(text: str, mesh_shape: Mapping[str, int]) -> list[Collective]:
    """The collectives of a program that was compiled for a mesh.

    Args:
      text: the program.
      mesh_shape: the mesh's axes and their sizes, in the mesh's order.

    Raises:
      ValueError: it groups devices in a form that is not known here.
    """
    found = []
    for one in instructions(text):
        kind = one.operation.removesuffix("-start")
        if kind in COLLECTIVES:
            groups = _groups(one.details, int(np.prod([*mesh_shape.values()])))
            axes = frozenset().union(*(_varying(group, mesh_shape) for group in groups))
            if axes:  # a group of one device exchanges nothing
                found.append(Collective(kind=kind, axes=axes, ways=len(groups[0]), instruction=one))
    return found


def _holds_operands(operation: str, result: str) -> bool:
    """Whether an asynchronous start's result is ((operands), results), or (operand, result)."""
    if not operation.endswith("-start") or not result.startswith("("):
        return False
    return operation != "all-reduce-start" or result.startswith("((")


def _bytes(shapes: Sequence[Shape]) -> int:
    return sum(BYTES[dtype] * int(np.prod(size)) for dtype, size in shapes)


def _trips(details: str, bodies: Mapping[str, str]) -> int:
    """How often a loop turns: as noted, or what its counter, from 0 in jax, is compared with.

    Once, where neither is written: a loop whose end depends on data.
    """
    if noted := _TRIPS.search(details):
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.-]+)", details)[1]
    bounds = re.findall(r"s32\[\]\S* constant\((\d+)\)", bodies[condition])
    return int(bounds[0]) if len(bounds) == 1 else 1


def _shapes(result: str) -> list[Shape]:
    return [
        (dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _SHAPE.findall(result)
    ]


def _groups(details: str, devices: int) -> np.ndarray | list[list[int]]:
    """The devices of each group, by number, in any of the three ways XLA writes them."""
    if pairs := re.search(r"source_target_pairs=\{(\{.*?\})\}", details):
        return [[*map(int, pair.split(","))] for pair in re.findall(r"\{(.*?)\}", pairs[1])]
    written = details.partition("replica_groups=")[2]
    if named := _NAMED.match(written):
        sizes = dict(re.findall(r"'([\w.]+)'=(\d+)", named[1]))
        members = re.findall(r"'([\w.]+)'", named[4])
        grid = _counted(devices, named[2] or str(devices), named[3])
        grid = grid.reshape([*map(int, sizes.values())])
        others = [at for at, name in enumerate(sizes) if name not in members]
        own = [at for at, name in enumerate(sizes) if name in members]
        count = int(np.prod([grid.shape[at] for at in own]))
        return grid.transpose(*others, *own).reshape(-1, count)
    if counted := re.match(r"\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", written):
        rows, columns, sizes, order = counted.groups()
        return _counted(devices, sizes, order).reshape(int(rows), int(columns))
    if listed := re.match(r"\{(\{.*?\})\}", written):
        return [[*map(int, group.split(","))] for group in re.findall(r"\{(.*?)\}", listed[1])]
    if written.startswith("{}"):
        return [[*range(devices)]]
    raise ValueError(f"replica_groups of a form that is not known: {written[:80]}")


def _counted(devices: int, sizes: str, order: str | None) -> np.ndarray:
    """The numbers of all devices in a grid of these sizes, its axes then put into an order."""
    grid = np.arange(devices).reshape([*map(int, sizes.split(","))])
    return grid.transpose([*map(int, order.split(","))]) if order else grid


def _varying(group: Sequence[int], mesh_shape: Mapping[str, int]) -> set[str]:
    places = np.unravel_index(np.asarray(group), [*mesh_shape.values()])
    return {axis for axis, at in zip(mesh_shape, places, strict=True) if len(set(at.tolist())) > 1}
