"""The WeLM decoder: pre-LayerNorm blocks with rotary attention, as GPT-NeoX lays them out.

Equal to Hugging Face's GPTNeoXForCausalLM with `use_parallel_residual=False` and rotary on the
whole head. It knows nothing of losses, optimizers or where batches come from, and runs under a
mesh with explicit axes (`jax.set_mesh`), be it of one device.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from welm_jax.model import attention, axes, masks, rotary
from welm_jax.model.config import ModelConfig

LAYER_NORM_EPSILON = 1e-5

Remat = Literal["none", "dots", "full"]
REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

# (queries, keys, values, this layer's state) -> (mixed values, this layer's next state)
Attend = Callable[[Array, Array, Array, PyTree], tuple[Array, PyTree]]


class Block(nnx.Module):
    """Attention, then a feed-forward network, each on a normalised copy of the residual stream."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width, dtype = config.d_model, jnp.dtype(config.compute_dtype)
        heads = (config.num_heads, config.head_width)
        # GPT-NeoX's small_init and wang_init: the paper is silent, its code base used these.
        into = nnx.initializers.normal((2 / (5 * width)) ** 0.5)
        out_of = nnx.initializers.normal(2 / (config.num_layers * width**0.5))

        def norm():
            return nnx.LayerNorm(width, epsilon=LAYER_NORM_EPSILON, dtype=dtype, rngs=rngs)

        def linear(inputs, outputs, init, axis=-1):
            return nnx.LinearGeneral(
                inputs, outputs, axis=axis, kernel_init=init, dtype=dtype, rngs=rngs
            )

        self.ln1, self.ln2 = norm(), norm()
        self.qkv = linear(width, (3, *heads), into)
        self.out = linear(heads, width, out_of, axis=(-2, -1))
        self.up = linear(width, 4 * width, into)
        self.down = linear(4 * width, width, out_of)

    def __call__(
        self,
        residual: Float[Array, "B T D"],
        angles: Float[Array, "B T 1 pairs"],
        attend: Attend,
        state: PyTree,
    ) -> tuple[Float[Array, "B T D"], PyTree]:
        """One block; `state` is handed to `attend`, and what it gives back is returned."""
        stream = axes.spec("batch", "length", "width")
        queries, keys, values = jnp.moveaxis(self.qkv(self.ln1(residual)), 2, 0)
        queries, keys = rotary.rotate(queries, angles), rotary.rotate(keys, angles)
        mixed, state = attend(queries, keys, values, state)
        residual = residual + self.out(mixed, out_sharding=stream)
        hidden = jax.nn.gelu(self.up(self.ln2(residual)), approximate=False)
        return residual + self.down(hidden, out_sharding=stream), state


class Decoder(nnx.Module):
    """Token ids in, hidden vectors out; `head_matrix` turns those into logits."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.compute_dtype)

        def table():
            return nnx.Embed(
                config.padded_vocab_size,
                config.d_model,
                embedding_init=nnx.initializers.normal((2 / (5 * config.d_model)) ** 0.5),
                dtype=dtype,
                rngs=rngs,
            )

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stacked_blocks(rngs):
            return Block(config, rngs)

        self.embed = table()
        self.blocks = stacked_blocks(rngs)
        self.final_norm = nnx.LayerNorm(
            config.d_model, epsilon=LAYER_NORM_EPSILON, dtype=dtype, rngs=rngs
        )
        if not config.ties_embeddings:
            self.head = table()

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        segment_ids: Int[Array, "B T"],
        remat: Remat = "none",
    ) -> Float[Array, "B T D"]:
        """The hidden vectors of whole sequences, each token seeing itself and what is before.

        Args:
          tokens: ids below vocab_size; ids beyond are checked where the data is read, not here.
          positions: place of each token in its sequence, for rotary.
          segment_ids: tokens see only their own segment; all ones lets documents see each other.
          remat: what is recomputed in the backward pass: nothing, all but matrix products, all.
        """
        mask = masks.causal(segment_ids, segment_ids)

        def attend(queries, keys, values, state):
            return attention.attend(queries, keys, values, mask), state

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
          remat: as in __call__.

        Returns:
          Normalised hidden vectors, and the states that `attend` gave back.
        """
        angles = rotary.angles(positions, self.config.head_width)
        blocks, weights = nnx.split(self.blocks)

        def layer(residual, scanned):
            weights, state = scanned
            nnx.replace_by_pure_dict(weights, axes.gathered(nnx.to_pure_dict(weights)))
            return nnx.merge(blocks, weights)(residual, angles, attend, state)

        if remat != "none":
            layer = jax.checkpoint(layer, policy=REMAT_POLICIES[remat], prevent_cse=False)
        residual, states = jax.lax.scan(layer, self._embedded(tokens), (weights, states))
        return self.final_norm(residual), states

    def _embedded(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        # Looked up in float32 and cast after that: a frequent id's gradient is a sum over
        # thousands of tokens, and a sum in half precision soon stops growing.
        places = axes.spec("batch", "length", "width")
        rows = self._table("embed").at[tokens].get(out_sharding=places)
        return rows.astype(self.config.compute_dtype)

    def head_matrix(self) -> Float[Array, "V D"]:
        """The output projection, [V, D] in compute_dtype; rows past vocab_size mean nothing."""
        table = self._table("embed" if self.config.ties_embeddings else "head")
        return table.astype(self.config.compute_dtype)

    def _table(self, name: str) -> Float[Array, "V D"]:
        return axes.gathered_as(f"{name}/embedding", getattr(self, name).embedding[...])


class Assembler:
    """Puts parameters into a decoder: `Assembler(config)(parameters)` inside a jitted function.

    Holds the decoder's structure only, so a functional trainer needs no module object.
    """

    def __init__(self, config: ModelConfig):
        self.config = config
        self._structure, self._state = nnx.split(
            nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0)))
        )

    def __call__(self, parameters: PyTree) -> Decoder:
        """The decoder with these weights, laid out as nnx.to_pure_dict gives them."""
        state = jax.tree.map(lambda leaf: leaf, self._state)  # a copy: the next line writes
        nnx.replace_by_pure_dict(state, parameters)
        return nnx.merge(self._structure, state)
