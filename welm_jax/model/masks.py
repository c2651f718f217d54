"""Who may look at whom."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def causal(
    query_segments: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    first_query: Int[Array, ""] | int = 0,
) -> Bool[Array, "B 1 T S"]:
    """True where a query may see a key: not later than itself, and in its own segment.

    Args:
      query_segments: segment of each query; one number throughout where documents may see
        each other (the default, Megatron's behaviour).
      key_segments: segment of each key slot. A slot without a key yet bears another number.
      first_query: key slot in which the first query's own key lies.
    """
    slots = jnp.arange(key_segments.shape[1])
    own_slots = first_query + jnp.arange(query_segments.shape[1])
    not_later = slots[None, :] <= own_slots[:, None]
    same_segment = query_segments[:, :, None] == key_segments[:, None, :]
    return (not_later[None] & same_segment)[:, None]


def shared_prompt(segments: Int[Array, "B T"]) -> Bool[Array, "B 1 T T"]:
    """True where a token may see another of a row in which several continue one prompt.

    Args:
      segments: 0 for the prompt, whom all may see; other numbers see themselves besides.
    """
    slots = jnp.arange(segments.shape[1])
    not_later = slots[None, :] <= slots[:, None]
    own = segments[:, :, None] == segments[:, None, :]
    return (not_later[None] & (own | (segments[:, None, :] == 0)))[:, None]
