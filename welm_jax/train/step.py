"""One optimizer step, jitted: the part of training that runs on devices."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from welm_jax.failures import InputError, require_positive
from welm_jax.model import axes, loss
from welm_jax.model.decoder import Assembler, Remat
from welm_jax.train import optimizer
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.state import TrainState

Batch = Mapping[str, Array]  # seqio's names, each [B, T]


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How one batch is worked through.

    Attributes:
      batch_size: sequences per optimizer step, over all devices.
      microbatches: parts of the batch whose activations exist one after the other.
      loss_chunks: parts of the sequence whose logits exist one after the other.
      remat: what the backward pass recomputes: nothing, all but matrix products, everything.
      masks_documents: whether packed documents are hidden from each other; Megatron's and so our
        default is that they are not.
    """

    batch_size: int
    microbatches: int = 1
    loss_chunks: int = 1
    remat: Literal["none", "dots", "full"] = "none"
    masks_documents: bool = False

    def __post_init__(self):
        require_positive(self, "batch_size", "microbatches", "loss_chunks")

    def check(self, mesh: jax.sharding.Mesh, sequence_tokens: int) -> None:
        """Refuses a batch that the mesh or the parts do not divide.

        Raises:
          InputError: names both numbers and the nearest batch that fits.
        """
        ways = mesh.shape["data"] * mesh.shape["fsdp"] * self.microbatches
        if self.batch_size % ways:
            below = self.batch_size // ways * ways
            fitting = f"{below} or {below + ways}" if below else f"{ways}"
            raise InputError(
                f"batch of {self.batch_size} sequences does not divide into data "
                f"{mesh.shape['data']} x fsdp {mesh.shape['fsdp']} x {self.microbatches} "
                f"microbatches; set StepConfig.batch_size to {fitting}"
            )
        if sequence_tokens % self.loss_chunks:
            raise InputError(
                f"StepConfig.loss_chunks = {self.loss_chunks} does not divide sequences of "
                f"{sequence_tokens} tokens; use a divisor of {sequence_tokens}"
            )


def make_train_step(
    assemble: Assembler, optimizer_config: OptimizerConfig, config: StepConfig
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Float[Array, ""]]]]:
    """The jitted step; it consumes the state it is given.

    Returns:
      A function of state and batch that gives the next state and float32 scalars: loss (nats per
      counted token), gradient_norm (before clipping), learning_rate, tokens (counted).
    """
    adam = optimizer.make_adam(optimizer_config)
    schedule = optimizer.make_schedule(optimizer_config)

    def train_step(state: TrainState, batch: Batch):
        tokens = jnp.sum(batch["decoder_loss_weights"])
        summed, gradients = _accumulated(assemble, config, state.parameters, batch)
        gradients = jax.tree.map(lambda gradient: gradient / tokens, gradients)
        norm = optax.tree.norm(gradients)
        clip = jnp.minimum(1.0, optimizer_config.clip_norm / (norm + optimizer.EPSILON))
        gradients = jax.tree.map(lambda gradient: gradient * clip, gradients)
        directions, moments = adam.update(gradients, state.adam)
        learning_rate = schedule(state.step)

        def updated(weight, direction, decays):
            decay = optimizer_config.weight_decay * decays
            return weight - learning_rate * (direction + decay * weight)

        parameters = jax.tree.map(
            updated, state.parameters, directions, optimizer.decays(state.parameters)
        )
        metrics = {
            "loss": summed / tokens,
            "gradient_norm": norm,
            "learning_rate": jnp.float32(learning_rate),
            "tokens": tokens,
        }
        return TrainState(step=state.step + 1, parameters=parameters, adam=moments), metrics

    return jax.jit(train_step, donate_argnums=0)


def on_mesh(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> Batch:
    """Puts a batch of the host onto a mesh, its rows spread over data and fsdp."""
    return jax.device_put(dict(batch), jax.NamedSharding(mesh, axes.spec("batch", "length")))


def summed_loss(
    assemble: Assembler, parameters: PyTree, batch: Batch, *, remat: Remat, chunks: int
) -> Float[Array, ""]:
    """The weighted sum of a batch's token losses in nats; see Decoder and loss.summed_loss."""
    decoder = assemble(parameters)
    hidden = decoder(
        batch["decoder_input_tokens"],
        batch["decoder_positions"],
        batch["decoder_segment_ids"],
        remat,
    )
    return loss.summed_loss(
        hidden,
        decoder.head_matrix(),
        batch["decoder_target_tokens"],
        batch["decoder_loss_weights"],
        vocab_size=assemble.config.vocab_size,
        chunks=chunks,
    )


def _accumulated(
    assemble: Assembler, config: StepConfig, parameters: PyTree, batch: Batch
) -> tuple[Float[Array, ""], PyTree]:
    """Loss and gradients summed, not averaged, over the microbatches.

    Sums add up exactly however unevenly padding is spread; a mean of means would not.
    """

    def part(array):
        # Every microbatch takes rows from all devices, so that splitting moves no data.
        batch_size, length = array.shape
        split = jax.lax.reshape(
            array,
            (batch_size // config.microbatches, config.microbatches, length),
            out_sharding=axes.spec("batch", "microbatch", "length"),
        )
        return jnp.moveaxis(split, 1, 0)

    loss_of = functools.partial(
        summed_loss, assemble, remat=config.remat, chunks=config.loss_chunks
    )

    def add(total, microbatch):
        found = jax.value_and_grad(loss_of)(parameters, microbatch)
        return jax.tree.map(jnp.add, total, found), None

    nothing = (jnp.float32(0), jax.tree.map(jnp.zeros_like, parameters))
    return jax.lax.scan(add, nothing, jax.tree.map(part, dict(batch)))[0]
