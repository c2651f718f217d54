"""A decoder small enough to compile in a second, and what the tests feed it.

Every weight is random, biases and LayerNorms too: at their initial values many faults are silent.
"""

import functools

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.state import initial_parameters

TINY = ModelConfig(num_layers=2, num_heads=4, d_model=32, vocab_size=120, compute_dtype="float32")
UNTIED = ModelConfig(
    num_layers=2,
    num_heads=4,
    d_model=32,
    vocab_size=120,
    compute_dtype="float32",
    ties_embeddings=False,
)


def mesh_of(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """A mesh of the first data x fsdp x tensor devices."""
    config = MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
    return make_mesh(config, jax.devices()[: data * fsdp * tensor])


@functools.cache
def shapes_of(config: ModelConfig) -> dict:
    with jax.set_mesh(mesh_of()):
        return jax.eval_shape(lambda: initial_parameters(config, 0))


def random_parameters(config: ModelConfig, seed: int = 0) -> dict:
    """Numpy weights whose logits spread by about 1, so that no softmax is flat."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return random.normal(centre, 0.2, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(config))


def placed(parameters: dict, mesh: Mesh) -> dict:
    """The weights where training keeps them."""

    def put(path, array):
        return jax.device_put(array, NamedSharding(mesh, axes.at_rest(path, array.shape)))

    with jax.set_mesh(mesh):
        return axes.mapped(put, parameters)


def random_batch(rows: int, length: int, vocab_size: int, seed: int = 0) -> dict:
    """A batch whose padding lies unevenly over the rows, as numpy arrays."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, vocab_size, (rows, length + 1)).astype(np.int32)
    counted = np.arange(length) < random.integers(1, length + 1, (rows, 1))
    return {
        "decoder_input_tokens": tokens[:, :-1],
        "decoder_target_tokens": tokens[:, 1:],
        "decoder_segment_ids": np.ones((rows, length), np.int32),
        "decoder_positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "decoder_loss_weights": counted.astype(np.float32),
    }


def placed_batch(batch: dict, mesh: Mesh) -> dict:
    """The batch with its rows spread over the mesh."""
    sharding = NamedSharding(mesh, axes.spec("batch", "length"))
    return {name: jax.device_put(array, sharding) for name, array in batch.items()}
