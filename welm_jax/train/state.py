"""What training changes: parameters, moments, step, loss scale. A plain pytree, born sharded."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Decoder
from welm_jax.train import loss_scale
from welm_jax.train.loss_scale import LossScale, LossScaleConfig


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The state between two optimizer steps.

    Attributes:
      step: optimizer updates made, int32.
      parameters: float32 weights under plain names.
      adam: moments, float32, laid out as the parameters.
      loss_scale: what the next loss is multiplied with; 1 but for float16.
    """

    step: Int[Array, ""]
    parameters: PyTree[Float[Array, "..."]]
    adam: optax.ScaleByAdamState
    loss_scale: LossScale

    def as_tree(self) -> dict[str, Any]:
        """Plain dicts and arrays with stable names: what lies on disk."""
        return {
            "step": self.step,
            "parameters": self.parameters,
            "adam": self.adam._asdict(),
            "loss_scale": dict(vars(self.loss_scale)),
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "TrainState":
        """The inverse of as_tree."""
        return cls(
            step=tree["step"],
            parameters=tree["parameters"],
            adam=optax.ScaleByAdamState(**tree["adam"]),
            loss_scale=LossScale(**tree["loss_scale"]),
        )


def initial_parameters(config: ModelConfig, seed: int) -> PyTree:
    """Fresh parameters, each created where it will live; needs the mesh to be set."""

    def create():
        parameters = nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(seed))))
        return axes.mapped(
            lambda path, weight: jax.reshard(weight, axes.at_rest(path, weight.shape)), parameters
        )

    return jax.jit(create)()


def initial_state(
    config: ModelConfig,
    adam: optax.GradientTransformation,
    seed: int,
    scale_config: LossScaleConfig,
) -> TrainState:
    """The state before the first step, sharded over the mesh that is set.

    Args:
      config: the decoder's.
      adam: whose moments it holds.
      seed: of the parameters.
      scale_config: names the first loss scale.
    """
    parameters = initial_parameters(config, seed)
    return untrained_state(parameters, adam, loss_scale.initial(scale_config, config))


def untrained_state(
    parameters: PyTree, adam: optax.GradientTransformation, first_scale: LossScale
) -> TrainState:
    """The same of parameters that are there, on the mesh that is set."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        adam=jax.jit(adam.init)(parameters),
        loss_scale=first_scale,
    )


def abstract_tree(
    config: ModelConfig, adam: optax.GradientTransformation, mesh: Mesh
) -> dict[str, Any]:
    """Shapes, types and shardings of `TrainState.as_tree` on a mesh, without any array."""
    with jax.set_mesh(mesh):
        tree = jax.eval_shape(lambda: initial_state(config, adam, 0, LossScaleConfig()).as_tree())

    def placed(leaf):
        sharding = NamedSharding(mesh, leaf.sharding.spec if leaf.sharding else PartitionSpec())
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, tree)
