"""One optimizer step, jitted: the part of training that runs on devices.

An update that is not finite is refused here, on device, whatever the type of the products; what
that means for the run is for the host to judge, from the same numbers.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PyTree

from welm_jax.failures import InputError, require_positive
from welm_jax.model import axes, loss
from welm_jax.model.decoder import Assembler, Decoder, Remat
from welm_jax.train import loss_scale, optimizer
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.state import TrainState

Batch = Mapping[str, Array]  # seqio's names, each [B, T]
TrainStep = Callable[
    [TrainState, Batch, Float[Array, ""]], tuple[TrainState, dict[str, Float[Array, ""]]]
]


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How one batch is worked through.

    Attributes:
      batch_size: sequences per optimizer step, over all devices.
      microbatches: parts of the batch whose activations exist one after the other.
      loss_chunks: parts of the sequence whose logits exist one after the other.
      remat: what the backward pass recomputes: nothing, what is cheap (all but matrix products
        and attention), everything.
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
    assemble: Assembler,
    optimizer_config: OptimizerConfig,
    config: StepConfig,
    scale_config: LossScaleConfig,
) -> TrainStep:
    """The jitted step; it consumes the state it is given.

    Where the loss or the norm of all gradients is not finite, nothing is learnt: parameters,
    moments, Adam's count and the step stay as they are, bit for bit.

    Returns:
      A function of state, batch and the factor on the scheduled learning rate (float32 scalar)
      that gives the next state and float32 scalars: loss (nats per counted token), gradient_norm
      (before clipping; like the loss not scaled), learning_rate (the factor in it), tokens
      (counted), and with float16 loss_scale (the one that was used). isfinite of the first two
      says whether the update was made.
    """
    adam = optimizer.make_adam(optimizer_config)
    schedule = optimizer.make_schedule(optimizer_config)
    scales_loss = loss_scale.is_needed(assemble.config)

    def train_step(state: TrainState, batch: Batch, lr_multiplier: Float[Array, ""]):
        tokens = jnp.sum(batch["decoder_loss_weights"])
        mean_loss, gradients = _means(assemble, config, state, batch, tokens)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(mean_loss) & jnp.isfinite(norm)
        clip = jnp.minimum(1.0, optimizer_config.clip_norm / (norm + optimizer.EPSILON))
        clipped = jax.tree.map(lambda gradient: gradient * clip, gradients)
        _, moments = adam.update(clipped, state.adam)
        # Chosen before they are used: nothing reads the old moments after this, so they are
        # overwritten where they lie. Chosen last, they would be copied first.
        step, moments = selected(finite, (state.step + 1, moments), (state.step, state.adam))
        learning_rate = jnp.float32(schedule(state.step) * lr_multiplier)

        def moved(weight, direction, decays):
            decay = optimizer_config.weight_decay * decays
            return weight - learning_rate * (direction + decay * weight)

        directions = _directions(moments, optimizer_config)
        decays = optimizer.decays(state.parameters)
        parameters = jax.tree.map(moved, state.parameters, directions, decays)
        parameters = selected(finite, parameters, state.parameters)
        metrics = {
            "loss": mean_loss,
            "gradient_norm": norm,
            "learning_rate": learning_rate,
            "tokens": tokens,
        }
        scale = state.loss_scale
        if scales_loss:
            metrics["loss_scale"] = scale.scale
            scale = loss_scale.adjusted(scale, finite, scale_config)
        return TrainState(step=step, parameters=parameters, adam=moments, loss_scale=scale), metrics

    return jax.jit(train_step, donate_argnums=0)


def selected(finite: Bool[Array, ""], updated: PyTree, kept: PyTree) -> PyTree:
    """The updated tree if all was finite, else the one to keep, leaf by leaf.

    A choice, not a product with 0 or 1: 0 x inf is NaN.
    """
    return jax.tree.map(functools.partial(jnp.where, finite), updated, kept)


def _directions(moments: optax.ScaleByAdamState, config: OptimizerConfig) -> PyTree:
    """What Adam takes the learning rate times: the means over the root of the mean squares."""
    means = optax.tree.bias_correction(moments.mu, config.beta1, moments.count)
    squares = optax.tree.bias_correction(moments.nu, config.beta2, moments.count)
    return jax.tree.map(
        lambda mean, square: mean / (jnp.sqrt(square) + optimizer.EPSILON), means, squares
    )


def own_rows(batch_size: int, mesh: jax.sharding.Mesh) -> list[int]:
    """The rows of a batch that the devices of this process work on, in order."""
    sharding = jax.NamedSharding(mesh, axes.spec("batch"))
    slices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for (rows,) in slices for row in range(batch_size)[rows]})


def on_mesh(
    batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh, batch_size: int | None = None
) -> Batch:
    """Puts a batch of the host onto a mesh, its rows spread over data and fsdp.

    Args:
      batch: the whole of it, or the rows of this process, in order.
      mesh: where it goes.
      batch_size: rows of the whole batch; those given unless it is.
    """
    sharding = jax.NamedSharding(mesh, axes.spec("batch", "length"))

    def put(array):
        shape = (batch_size or len(array), array.shape[1])
        return jax.make_array_from_process_local_data(sharding, array, shape)

    return jax.tree.map(put, dict(batch))


def abstract_batch(
    batch_size: int, sequence_tokens: int, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
    """Shapes, types and shardings of a batch on a mesh, without any array."""
    sharding = jax.NamedSharding(mesh, axes.spec("batch", "length"))
    types = dict.fromkeys(
        ("input_tokens", "target_tokens", "segment_ids", "positions"), jnp.int32
    ) | {"loss_weights": jnp.float32}
    shape = (batch_size, sequence_tokens)
    return {
        f"decoder_{name}": jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, dtype in types.items()
    }


def summed_loss(
    decoder: Decoder,
    batch: Batch,
    *,
    remat: Remat,
    chunks: int,
    masks_documents: bool = False,
    weight: Float[Array, ""] | float = 1.0,
) -> Float[Array, ""]:
    """The sum of a batch's token losses in nats, each times its own weight and the one given.

    See Decoder, StepConfig and loss.summed_loss.
    """
    hidden = decoder(
        batch["decoder_input_tokens"],
        batch["decoder_positions"],
        batch["decoder_segment_ids"] if masks_documents else None,
        remat,
    )
    return loss.summed_loss(
        hidden,
        decoder.head_matrix(),
        batch["decoder_target_tokens"],
        batch["decoder_loss_weights"] * weight,
        vocab_size=decoder.config.vocab_size,
        chunks=chunks,
    )


def _means(
    assemble: Assembler,
    config: StepConfig,
    state: TrainState,
    batch: Batch,
    tokens: Float[Array, ""],
) -> tuple[Float[Array, ""], PyTree]:
    """Loss and gradients of a token, float32; what scaling overflowed comes out inf or NaN.

    Each backward pass is scaled as if its loss were the mean of one microbatch, so that the range
    which float16 needs depends neither on the number of tokens nor on that of microbatches.
    """
    enlarged = state.loss_scale.scale * config.microbatches
    scaled, gradients = _accumulated(
        assemble, config, assemble.copied(state.parameters), batch, enlarged / tokens
    )

    def mean(path, total):  # here, once a step, the devices exchange what they have summed
        whole = total.astype(jnp.float32)  # half precision would round each device's share
        return jax.reshard(whole, axes.at_rest(path, whole.shape)) / enlarged

    return scaled / enlarged, axes.mapped(mean, gradients)


def _accumulated(
    assemble: Assembler,
    config: StepConfig,
    copy: PyTree,
    batch: Batch,
    token_weight: Float[Array, ""],
) -> tuple[Float[Array, ""], PyTree]:
    """The loss times token_weight, and its gradients, summed over the microbatches in float32.

    Sums add up exactly however unevenly padding is spread; a mean of means would not. Those of
    the gradients are each device's own, as axes.gradient_sums says.
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

    def weighted_loss(copy, microbatch):
        return summed_loss(
            assemble.with_copy(copy),
            microbatch,
            remat=config.remat,
            chunks=config.loss_chunks,
            masks_documents=config.masks_documents,
            weight=token_weight,
        )

    def add(sums, microbatch):
        found = jax.value_and_grad(weighted_loss)(copy, microbatch)
        return jax.tree.map(lambda total, one: total + one.astype(total.dtype), sums, found), None

    if config.microbatches == 1:  # nothing to add up, so no room for sums
        return jax.value_and_grad(weighted_loss)(copy, batch)
    zeros = axes.mapped(
        lambda path, weight: jax.reshard(jnp.zeros(weight.shape), axes.gradient_sums(path)), copy
    )
    return jax.lax.scan(add, (jnp.float32(0), zeros), jax.tree.map(part, dict(batch)))[0]
