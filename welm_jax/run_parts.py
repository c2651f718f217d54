"""What a run is made of: its step, batches, state and checkpoints, from its configuration and data.

Training uses them, and so does whoever opens a run that exists: to score with it, to feed batches
again, to look at its checkpoints. Writes nothing.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from jaxtyping import PyTree

from welm_jax import gin_files
from welm_jax.configurables import TRAINING
from welm_jax.data.batches import BatchStream
from welm_jax.failures import InputError
from welm_jax.gin_files import GinConfig
from welm_jax.model.decoder import Assembler
from welm_jax.run_files import RunFolder
from welm_jax.text.fast_tokenizer import AnyTokenizer, open_tokenizer
from welm_jax.train import lineage, loss_scale
from welm_jax.train.checkpoints import Checkpoints
from welm_jax.train.mesh import MeshConfig, available_devices, make_mesh
from welm_jax.train.optimizer import make_adam
from welm_jax.train.state import TrainState, abstract_tree, initial_state
from welm_jax.train.step import Batch, make_train_step, on_mesh, own_rows

# What must not change in the life of a run: class -> fields. The rest may, and is told.
IDENTITY = {
    "ModelConfig": (
        "num_layers",
        "num_heads",
        "d_model",
        "vocab_size",
        "ties_embeddings",
        "parallel_residual",
        "rotary_fraction",
        "compute_dtype",  # float16 comes with a loss scale of its own
    ),
    "MixtureConfig": ("mixture", "rates", "seed"),
    "StepConfig": ("batch_size", "masks_documents"),
    "LoopConfig": ("seed",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParts:
    """A run's configuration, data and devices, and what follows from them.

    Attributes:
      config: objects of all classes of configurables.TRAINING.
      mixture: the content of its mixture.json.
      mesh: where its arrays live.
    """

    config: GinConfig
    mixture: Mapping[str, Any]
    mesh: jax.sharding.Mesh

    @classmethod
    def opened(cls, run: RunFolder, on_first_device: bool = False) -> "RunParts":
        """The parts of a run that exists; on its own mesh, or on the first device alone.

        Raises:
          InputError: it is no run, or there are fewer devices than its mesh asks for.
        """
        config = gin_files.load([os.fspath(run.require().config)], [], TRAINING)
        if on_first_device:
            mesh = make_mesh(MeshConfig(), available_devices()[:1])
        else:
            mesh = make_mesh(config["MeshConfig"])
        mixture = run.read_mixture(config["MixtureConfig"].tokens_dir)
        return cls(config=config, mixture=mixture, mesh=mesh)

    @functools.cached_property
    def assemble(self) -> Assembler:
        """Puts parameters into a decoder."""
        return Assembler(self.config["ModelConfig"])

    @functools.cached_property
    def train_step(self) -> Callable:
        """The jitted step."""
        return make_train_step(
            self.assemble,
            self.config["OptimizerConfig"],
            self.config["StepConfig"],
            self.config["LossScaleConfig"],
        )

    @functools.cached_property
    def stream(self) -> BatchStream:
        """The batches that it trains on."""
        step_config = self.config["StepConfig"]
        return BatchStream(self.mixture, step_config.batch_size, step_config.masks_documents)

    def batches(
        self, cursor: int, skipped: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Batch]]:
        """Yields (cursor, batch on devices) from a cursor on, past the skipped ranges, for ever."""
        faults, vocab_size = self.config["FaultConfig"], self.config["ModelConfig"].vocab_size
        batch_size = self.config["StepConfig"].batch_size
        places = functools.partial(lineage.advance, cursor, skipped=skipped)
        for at, batch in self.stream.iterate(places, own_rows(batch_size, self.mesh)):
            yield at, on_mesh(faults.batch(at, batch, vocab_size), self.mesh, batch_size)

    @functools.cached_property
    def like(self) -> PyTree:
        """Shapes, types and shardings of the state."""
        adam = make_adam(self.config["OptimizerConfig"])
        return abstract_tree(self.config["ModelConfig"], adam, self.mesh)

    def new_state(self) -> TrainState:
        """The state before the first step; needs the mesh to be set."""
        config, adam = self.config, make_adam(self.config["OptimizerConfig"])
        seed, scale = config["LoopConfig"].seed, config["LossScaleConfig"]
        return initial_state(config["ModelConfig"], adam, seed, scale)

    def with_first_loss_scale(self, state: TrainState) -> TrainState:
        """The state with its loss scale as at the beginning, which a recovery asks for."""
        first = loss_scale.initial(self.config["LossScaleConfig"], self.config["ModelConfig"])
        return dataclasses.replace(state, loss_scale=first)

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """What makes a checkpoint one of this run and of no other, in words for a person."""
        fields = {
            f"{name}.{field}": repr(getattr(self.config[name], field))
            for name, names in IDENTITY.items()
            for field in names
        }
        data = [[one["name"], one["quota"], one["fingerprint"]] for one in self.mixture["sources"]]
        digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()
        tokenizer = self.mixture["tokenizer_sha256"]
        return {**fields, "tokenizer": tokenizer[:12], "data": digest[:12]}

    def checkpoints_of(self, run: RunFolder) -> Checkpoints:
        """The checkpoints of its folder, to be read."""
        return Checkpoints(run.checkpoints, None, self.identity)


def own_tokenizer(file: epath.Path, mixture: Mapping[str, Any]) -> AnyTokenizer:
    """Opens a tokenizer.

    Raises:
      InputError: it is not the one of the data.
    """
    tokenizer = open_tokenizer(file)
    if tokenizer.sha256 != mixture["tokenizer_sha256"]:
        raise InputError(
            f"{file} (sha256 {tokenizer.sha256[:12]}) is not the tokenizer of the data "
            f"({mixture['tokenizer_sha256'][:12]}); put that one there"
        )
    return tokenizer
