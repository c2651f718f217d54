"""The keys and values of the tokens so far, and the decoder run on top of them.

The same function takes a whole prompt in one stride and new tokens one at a time. It knows nothing
of sampling or of when to stop.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from welm_jax.model import attention, axes, masks
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Decoder


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class KVCache:
    """What attention remembers. Slot s of every row is filled in the same step.

    Rows end together: a shorter prompt begins with empty slots, so that all rows write the same
    slot next. S is fixed when the cache is made, hence one compilation for all steps.

    Attributes:
      keys: rotated keys, compute_dtype; slots not yet filled hold zeros.
      values: values, compute_dtype, likewise.
      empty: slots at the start of each row that hold no token, int32.
      filled: slots written so far, the same for all rows, int32.
    """

    keys: Float[Array, "L B S N H"]
    values: Float[Array, "L B S N H"]
    empty: Int[Array, " B"]
    filled: Int[Array, ""]


def make_cache(config: ModelConfig, slots: int, empty: Int[Array, " B"]) -> KVCache:
    """A cache with nothing in it, split over the mesh as queries are.

    Args:
      config: the decoder's.
      slots: tokens a row can hold, the empty slots before its prompt included.
      empty: those empty slots, for each row.
    """
    shape = (config.num_layers, *empty.shape, slots, config.num_heads, config.head_width)
    nothing = jnp.zeros(shape, config.compute_dtype, out_sharding=_places())
    return KVCache(keys=nothing, values=nothing, empty=empty, filled=jnp.int32(0))


def repeated(cache: KVCache, times: int) -> KVCache:
    """Each row so many times, one after another: for hypotheses that continue the same prompt."""

    def own(keys, values, empty):
        return (
            *(jnp.repeat(array, times, axis=1) for array in (keys, values)),
            empty.repeat(times),
        )

    specs = (_places(), _places(), axes.spec("batch"))
    run = jax.shard_map(own, in_specs=specs, out_specs=specs, check_vma=False)
    keys, values, empty = run(cache.keys, cache.values, cache.empty)
    return KVCache(keys=keys, values=values, empty=empty, filled=cache.filled)


def reordered(cache: KVCache, parents: Int[Array, "B K"], first: int) -> KVCache:
    """Of each prompt's K rows, row k becomes what row parents[k] was.

    Args:
      cache: of B x K rows, a prompt's one after another.
      parents: 0 to K - 1.
      first: slot from which rows differ; those before are a prompt's and stay where they are.
    """

    def own(keys, values, parents):
        begins = jnp.arange(len(parents)) * parents.shape[1]
        rows = (begins[:, None] + parents).ravel()
        return tuple(array.at[:, :, first:].set(array[:, rows, first:]) for array in (keys, values))

    specs = (_places(), _places())
    run = jax.shard_map(
        own, in_specs=(*specs, axes.spec("batch")), out_specs=specs, check_vma=False
    )
    keys, values = run(cache.keys, cache.values, parents)
    return KVCache(keys=keys, values=values, empty=cache.empty, filled=cache.filled)


def _places() -> jax.P:
    return axes.spec("layers", "batch", "slot", "heads", "head_width")


def extend(
    decoder: Decoder, cache: KVCache, tokens: Int[Array, "B T"]
) -> tuple[Float[Array, "B T D"], KVCache]:
    """Runs the decoder over the next T tokens of each row, which see all tokens before them.

    Args:
      decoder: the model.
      cache: what came before; must have T slots left. One slot too few would overwrite the last
        one silently, so the caller counts.
      tokens: ids below vocab_size; any id in a row's empty slots.

    Returns:
      The hidden vectors of these tokens (those of empty slots mean nothing), and the cache with
      them in it.
    """
    own_slots = cache.filled + jnp.arange(tokens.shape[1])
    slots = jnp.arange(cache.keys.shape[2])
    holds_token = (slots[None] >= cache.empty[:, None]).astype(jnp.int32)
    # An empty slot sees the empty slots before it, not nothing: softmax over nothing is NaN.
    query_holds_token = (own_slots[None] >= cache.empty[:, None]).astype(jnp.int32)
    mask = masks.causal(query_holds_token, holds_token, cache.filled)

    def attend(queries, new_keys, new_values, layer):
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, new, cache.filled, axis=1)
            for old, new in zip(layer, (new_keys, new_values), strict=True)
        )
        return attention.masked(queries, keys, values, mask), (keys, values)

    positions = jnp.maximum(own_slots[None] - cache.empty[:, None], 0)
    hidden, (keys, values) = decoder.run(tokens, positions, attend, (cache.keys, cache.values))
    filled = cache.filled + tokens.shape[1]
    return hidden, KVCache(keys=keys, values=values, empty=cache.empty, filled=filled)
