"""What becomes of a checkpoint when one bit flips, in its files or on the way to them.

    python -m benchmarks.checkpoint_damage            # 500 flips each: a quarter of an hour
    python -m benchmarks.checkpoint_damage --flips 40

Two checkpoints are saved, a bit of the newer one is flipped, and the run is restored onto another
mesh. It must get exactly what was saved, or the older one. In files, flips go round the classes of
files, so that the small ones are hit as often as the large ones. In host memory they hit the copies
of the arrays that Orbax is about to write, when the digests have left the devices, and (one in ten)
the JSON text. Prints a table and one JSON line for each bar; the exit status is 0 if all hold.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import numpy as np
from jaxtyping import PyTree
from orbax.checkpoint._src.handlers import json_checkpoint_handler
from orbax.checkpoint._src.serialization import replica_slices

from benchmarks import bars
from welm_jax.failures import StopAndLook
from welm_jax.model.config import ModelConfig
from welm_jax.train import optimizer
from welm_jax.train.checkpoints import CheckpointConfig, Checkpoints, Progress
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.state import TrainState, abstract_tree

MODEL = ModelConfig(num_layers=2, num_heads=4, d_model=32, vocab_size=120, compute_dtype="float32")
ADAM = optimizer.make_adam(OptimizerConfig(max_learning_rate=1.0, warmup_steps=0, decay_steps=1))
CONFIG = CheckpointConfig(every_steps=1, keep=2)
JSON_SHARE = 10  # one in so many flips in memory hits the JSON
OUTCOMES = ("exact", "unreadable", "digest", "at the save", "SILENT")


def mesh_of(data: int, fsdp: int, tensor: int) -> jax.sharding.Mesh:
    config = MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
    return make_mesh(config, jax.devices()[: data * fsdp * tensor])


@functools.cache
def like(mesh: jax.sharding.Mesh) -> PyTree:
    return abstract_tree(MODEL, ADAM, mesh)


def random_state(seed: int, mesh: jax.sharding.Mesh) -> TrainState:
    """A state in which every number is random, the integers too."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        numbers = random.integers(0, 100, leaf.shape)
        if np.issubdtype(leaf.dtype, np.floating):
            numbers = random.normal(0, 0.02, leaf.shape)
        return jax.device_put(numbers.astype(leaf.dtype), leaf.sharding)

    return TrainState.from_tree(jax.tree.map(draw, like(mesh)))


def same_bits(one: TrainState, other: TrainState) -> bool:
    pairs = zip(*(jax.tree.leaves(state.as_tree()) for state in (one, other)), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


class Damaged:
    """A folder with checkpoints 1 and 2, and what happens when it is restored."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._mesh, self._other_mesh = mesh_of(2, 2, 2), mesh_of(1, 1, 4)
        self._states = {step: random_state(step, self._mesh) for step in (1, 2)}
        self._progress = {step: Progress(step=step, cursor=step + 7) for step in (1, 2)}
        for step in (1, 2):
            self.save(step)

    def save(self, step: int, attempt: int = 0) -> None:
        """Saves a step, in place of what another attempt left there."""
        self._progress[step] = dataclasses.replace(self._progress[step], attempt=attempt)
        with jax.set_mesh(self._mesh), Checkpoints(self.folder, CONFIG, {}) as checkpoints:
            checkpoints.save(self._states[step], self._progress[step])

    def outcome(self) -> str:
        """One of OUTCOMES: how a restore after damage to checkpoint 2 went."""
        said = []
        mesh = self._other_mesh
        with jax.set_mesh(mesh), Checkpoints(self.folder, None, {}, said.append) as checkpoints:
            state, progress = checkpoints.restore(like(mesh), lambda step, attempt: True)
            step = progress.step
            exact = same_bits(state, self._states[step]) and progress == self._progress[step]
        if not exact or (step, len(said)) not in ((2, 0), (1, 1)):
            return "SILENT"
        if step == 2:
            return "exact"
        return "digest" if "not as saved" in said[0] else "unreadable"


def flip_bit(data: bytearray | np.ndarray, random: np.random.Generator) -> None:
    """Flips one bit of a buffer of bytes."""
    at = random.integers(len(data))
    data[at] ^= 1 << int(random.integers(8))


def file_class(file: Path, step_folder: Path) -> str:
    """The name of a file; random names become what is in them, arrays or an index (OCDBT's)."""
    content = "INDEX" if file.read_bytes().startswith(b"\x0c\xdb") else "ARRAYS"
    return re.sub(r"[0-9a-f]{32}", content, file.relative_to(step_folder).as_posix())


def flip_in_files(damaged: Damaged, flips: int, seed: int = 0) -> dict[str, Counter]:
    """Flips bits of checkpoint 2 on disk, one after the other, and puts each back."""
    random = np.random.default_rng(seed)
    folder = damaged.folder / "2"
    classes: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            classes.setdefault(file_class(file, folder), []).append(file)
    found = {name: Counter() for name in classes}
    for flip in range(flips):
        name = list(classes)[flip % len(classes)]
        file = classes[name][random.integers(len(classes[name]))]
        kept = file.read_bytes()
        data = bytearray(kept)
        flip_bit(data, random)
        file.write_bytes(data)
        found[name][damaged.outcome()] += 1
        file.write_bytes(kept)
    return found


@contextlib.contextmanager
def flipping_an_array(random: np.random.Generator) -> Iterator[None]:
    """While it lasts, one bit flips in what Orbax has copied to the host and not written yet."""
    plain = replica_slices.transfer_arrays_to_host
    hit = False

    def transfer(*args, **kwargs):
        nonlocal hit
        copies = list(plain(*args, **kwargs))
        if hit:
            return copies
        hit = True
        sizes = np.array([one.nbytes for one in copies])
        at = random.choice(len(copies), p=sizes / sizes.sum())  # each byte is as likely
        slices = list(copies[at].replica_slices)
        which = random.integers(len(slices))
        data = np.array(slices[which].unsliced_data)
        flip_bit(data.reshape(-1).view(np.uint8), random)
        slices[which] = dataclasses.replace(slices[which], unsliced_data=data)
        copies[at] = dataclasses.replace(copies[at], replica_slices=slices)
        return copies

    with mock.patch.object(replica_slices, "transfer_arrays_to_host", transfer):
        yield
    assert hit


@contextlib.contextmanager
def flipping_the_json(random: np.random.Generator) -> Iterator[None]:
    """While it lasts, one bit flips in the JSON text that Orbax is about to write."""

    async def save(self, content, directory):
        text = bytearray(json.dumps(content).encode())
        flip_bit(text, random)
        (directory / self._filename).write_bytes(bytes(text))

    with mock.patch.object(json_checkpoint_handler.JsonCheckpointHandler, "_save_fn", save):
        yield


def flip_in_memory(damaged: Damaged, flips: int, seed: int = 0) -> dict[str, Counter]:
    """Saves checkpoint 2 again and again, each time with a bit flipped on its way to the files."""
    random = np.random.default_rng(seed)
    found = {"arrays": Counter(), "JSON": Counter()}
    for flip in range(flips):
        name = "arrays" if (flip + 1) % JSON_SHARE else "JSON"
        flipping = flipping_an_array if name == "arrays" else flipping_the_json
        try:
            with flipping(random):
                damaged.save(2, attempt=flip + 1)
        except StopAndLook:
            found[name]["at the save"] += 1
            assert damaged.outcome() == ("digest" if name == "arrays" else "unreadable")
        else:
            found[name][damaged.outcome()] += 1
    return found


def table(title: str, found: dict[str, Counter]) -> str:
    rows = [(title, *OUTCOMES), ("---",) * (len(OUTCOMES) + 1)]
    rows += [(name, *(str(counts[one]) for one in OUTCOMES)) for name, counts in found.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=500)
    flips = parser.parse_args().flips
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        damaged = Damaged(Path(folder))
        for name, damage in (("files", flip_in_files), ("memory", flip_in_memory)):
            started = time.perf_counter()
            found = damage(damaged, flips)
            print(table(f"flips in {name}", found))
            print(f"{flips} in {time.perf_counter() - started:.0f} s\n")
            silent = sum(counts["SILENT"] for counts in found.values())
            done = sum(counts.total() for counts in found.values())
            measured.append((f"silent_flips_in_{name}", silent, "== 0"))
            measured.append((f"flips_in_{name}", done, f"== {flips}"))
    return bars.ended(measured)


if __name__ == "__main__":
    sys.exit(main())
