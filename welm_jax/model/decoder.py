"""The WeLM decoder: pre-LayerNorm blocks with rotary attention, as GPT-NeoX lays them out.

Equal to Hugging Face's GPTNeoXForCausalLM; with ModelConfig's defaults to the one that has
`use_parallel_residual=False` and rotary on the whole head. It knows nothing of losses, optimizers
or where batches come from, and runs under a mesh with explicit axes (`jax.set_mesh`), be it of one
device.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from welm_jax.model import attention, axes, rotary
from welm_jax.model.config import ModelConfig

LAYER_NORM_EPSILON = 1e-5

Remat = Literal["none", "dots", "full"]

# (queries, keys, values, this layer's state) -> (mixed values, this layer's next state)
Attend = Callable[[Array, Array, Array, PyTree], tuple[Array, PyTree]]


class Norm(nnx.Module):
    """LayerNorm over the model width, computed in float32 whatever it is given."""

    def __init__(self, name: str, width: int):
        self.name = name  # under PARAMETERS, as Linear's
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))

    def __call__(self, residual: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """The vectors with mean 0 and variance 1 each, times scale, plus bias; same type."""
        scale, bias = (
            axes.spread(f"{self.name}/{part}", getattr(self, part)[...], len(residual))
            for part in ("scale", "bias")
        )
        wide = residual.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
        return (normal * scale + bias).astype(residual.dtype)


class Linear(nnx.Module):
    """A matrix product over the last axes of its input, and a bias."""

    def __init__(self, name: str, inputs: tuple, outputs: tuple, deviation: float, rngs: nnx.Rngs):
        self.name, self.input_axes = name, len(inputs)
        shape = (*inputs, *outputs)
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, inputs: Float[Array, "B T ..."]) -> Float[Array, "B T ..."]:
        """The product plus bias, in the type of the inputs."""
        kernel = axes.in_use(f"{self.name}/kernel", self.kernel[...]).astype(inputs.dtype)
        names = axes.PARAMETERS[f"{self.name}/kernel"][self.input_axes :]
        summed = range(inputs.ndim - self.input_axes, inputs.ndim)
        product = jax.lax.dot_general(
            inputs,
            kernel,
            ((tuple(summed), tuple(range(self.input_axes))), ((), ())),
            out_sharding=axes.spec("batch", "length", *names),
        )
        bias = axes.spread(f"{self.name}/bias", self.bias[...], len(inputs))
        return product + bias.astype(inputs.dtype)


class Block(nnx.Module):
    """Attention, then a feed-forward network, each on a normalised copy of the residual stream."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width, heads = (config.d_model,), (config.num_heads, config.head_width)
        inner = (4 * config.d_model,)
        # GPT-NeoX's small_init and wang_init: the paper is silent, its code base used these.
        into = (2 / (5 * config.d_model)) ** 0.5
        out_of = 2 / (config.num_layers * config.d_model**0.5)
        self.is_parallel = config.parallel_residual
        self.ln1, self.ln2 = Norm("ln1", config.d_model), Norm("ln2", config.d_model)
        self.qkv = Linear("qkv", width, (3, *heads), into, rngs)
        self.out = Linear("out", heads, width, out_of, rngs)
        self.up = Linear("up", width, inner, into, rngs)
        self.down = Linear("down", inner, width, out_of, rngs)

    def queries_keys_values(
        self, residual: Float[Array, "B T D"], angles: Float[Array, "B T 1 pairs"]
    ) -> tuple[Float[Array, "B T N H"], Float[Array, "B T N H"], Float[Array, "B T N H"]]:
        """What attention works on, queries and keys rotated."""
        projected = self.qkv(self.ln1(residual))
        queries, keys, values = (projected[:, :, at] for at in range(3))
        return rotary.rotate(queries, angles), rotary.rotate(keys, angles), values

    def after_attention(
        self, residual: Float[Array, "B T D"], mixed: Float[Array, "B T N H"]
    ) -> Float[Array, "B T D"]:
        """The residual stream after the block, from what attention mixed."""
        after = residual + self.out(mixed)
        read = residual if self.is_parallel else after
        hidden = jax.nn.gelu(self.up(self.ln2(read)), approximate=False)
        return after + self.down(hidden)


class Decoder(nnx.Module):
    """Token ids in, hidden vectors out; `head_matrix` turns those into logits."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config

        def table():
            return nnx.Embed(
                config.padded_vocab_size,
                config.d_model,
                embedding_init=nnx.initializers.normal((2 / (5 * config.d_model)) ** 0.5),
                rngs=rngs,
            )

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stacked_blocks(rngs):
            return Block(config, rngs)

        self.embed = table()
        self.blocks = stacked_blocks(rngs)
        self.final_norm = Norm("final_norm", config.d_model)
        if not config.ties_embeddings:
            self.head = table()

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        segment_ids: Int[Array, "B T"] | None = None,
        remat: Remat = "none",
    ) -> Float[Array, "B T D"]:
        """The hidden vectors of whole sequences, each token seeing itself and what is before.

        Args:
          tokens: ids below vocab_size; ids beyond are checked where the data is read, not here.
          positions: place of each token in its sequence, for rotary.
          segment_ids: tokens see only their own segment; None lets documents see each other.
          remat: as in `run`.
        """

        def attend(queries, keys, values, state):
            keeps_scores = remat != "dots"  # full computes all of the layer again anyway
            return attention.causal(queries, keys, values, segment_ids, keeps_scores), state

        hidden, _ = self.run(tokens, positions, attend, None, remat)
        return hidden

    def run(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        attend: Attend,
        states: PyTree,
        remat: Remat = "none",
    ) -> tuple[Float[Array, "B T D"], PyTree]:
        """Runs the blocks with any way to attend; decoding passes a cached one.

        Args:
          tokens: ids, as in __call__.
          positions: as in __call__.
          attend: mixes values; sees one layer's state at a time.
          states: a tree whose leaves have a leading layer axis, or None.
          remat: what the backward pass recomputes: nothing ("none"); what is cheap, keeping the
            matrix products and what attention gave and took ("dots"); each block whole ("full").

        Returns:
          Normalised hidden vectors, and the states that `attend` gave back.
        """
        angles = rotary.angles(positions, self.config.rotary_width)
        structure, weights = nnx.split(self.blocks)

        def layer(residual, scanned):
            weights, state = scanned
            block = nnx.merge(structure, weights)
            before, after = block.queries_keys_values, block.after_attention
            if remat == "dots":  # attention is no dot: inside, it would be computed twice
                before, after = (_recomputed(half, KEEPS_DOTS) for half in (before, after))
            mixed, state = attend(*before(residual, angles), state)
            return after(residual, mixed), state

        if remat == "full":
            layer = _recomputed(layer, None)
        residual, states = jax.lax.scan(layer, self._embedded(tokens), (weights, states))
        return self.final_norm(residual), states

    def _embedded(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        # Looked up in float32 and cast after that: a frequent id's gradient is a sum over
        # thousands of tokens, and a sum in half precision soon stops growing.
        places = axes.spec("batch", "length", "width")
        rows = self._table("embed").at[tokens].get(out_sharding=places)
        return rows.astype(self.config.compute_dtype)

    def head_matrix(self) -> Float[Array, "V D"]:
        """The output projection; rows past vocab_size mean nothing."""
        return self._table("embed" if self.config.ties_embeddings else "head")

    def _table(self, name: str) -> Float[Array, "V D"]:
        return axes.in_use(f"{name}/embedding", getattr(self, name).embedding[...])


KEEPS_DOTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def _recomputed(function: Callable, policy: Callable | None) -> Callable:
    return jax.checkpoint(function, policy=policy, prevent_cse=False)


class Assembler:
    """Puts parameters into a decoder: `Assembler(config)(parameters)` inside a jitted function.

    Holds the decoder's structure only, so a functional trainer needs no module object.
    """

    def __init__(self, config: ModelConfig):
        self.config = config
        self._structure, self._state = nnx.split(
            nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0)))
        )

    def copied(self, parameters: PyTree) -> PyTree:
        """The parameters as a step works with them: whole along data, matrices in compute_dtype.

        Float32 stay the embedding and all vectors, whose gradients are sums over many tokens.

        Args:
          parameters: float32, laid out as nnx.to_pure_dict gives them, at rest.
        """

        def copy(path, weight):
            is_matrix = path.endswith("kernel") or path == "head/embedding"
            dtype = self.config.compute_dtype if is_matrix else weight.dtype
            return jax.reshard(weight.astype(dtype), axes.in_step(path))

        return axes.mapped(copy, parameters)

    def __call__(self, parameters: PyTree) -> Decoder:
        """The decoder of parameters at rest."""
        return self.with_copy(self.copied(parameters))

    def with_copy(self, copy: PyTree) -> Decoder:
        """The decoder of what `copied` gave."""
        state = jax.tree.map(lambda leaf: leaf, self._state)  # a copy: the next line writes
        nnx.replace_by_pure_dict(state, copy)
        return nnx.merge(self._structure, state)
