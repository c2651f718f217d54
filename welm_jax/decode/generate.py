"""Continues prompts: token ids in, token ids out. It knows no tokenizer and no text."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from welm_jax.decode import kv_cache, sampling
from welm_jax.failures import InputError
from welm_jax.model import axes
from welm_jax.model.decoder import Assembler


def generate(
    assemble: Assembler,
    parameters: PyTree,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    eod_id: int,
) -> list[list[int]]:
    """Continues each prompt until the model ends the document or max_new_tokens are reached.

    A row's continuation depends on its prompt, the seed and its place in the list, never on the
    other prompts. Call it under the mesh on which the parameters live. It compiles once for each
    assembler, number of prompts, longest prompt and max_new_tokens.

    Args:
      assemble: makes the decoder; the same object every time, or it compiles again.
      parameters: the decoder's weights, sharded as in training.
      prompts: ids below vocab_size, at least one a prompt; a document's beginning is [eod_id].
      max_new_tokens: longest continuation, 1 or more.
      temperature: 0 takes the likeliest id each time; 1 samples from the model's distribution.
      seed: of the sampling; the same seed gives the same ids.
      eod_id: the id that ends a document.

    Returns:
      The new ids of each prompt, without the prompt and without eod_id; fewer than
      max_new_tokens say that the document ended.

    Raises:
      InputError: an empty prompt, an id the vocabulary does not have, max_new_tokens below 1, or
        a temperature that is negative or not finite.
    """
    _check(prompts, max_new_tokens, temperature, assemble.config.vocab_size)
    if not prompts:
        return []
    tokens, empty = _left_padded(prompts, eod_id)
    continued = _continue(
        assemble,
        max_new_tokens,
        parameters,
        tokens,
        empty,
        np.arange(len(tokens)) >= len(prompts),
        jax.random.key(seed),
        np.float32(temperature),
        np.int32(eod_id),
    )
    rows = np.asarray(continued)[: len(prompts)].tolist()
    return [row[: row.index(eod_id)] if eod_id in row else row for row in rows]


def _check(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, vocab_size: int
) -> None:
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise InputError(
                f"prompt {number} is empty; give it a token (eod_id begins a document)"
            )
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            wrong = next(token for token in prompt if not 0 <= token < vocab_size)
            raise InputError(
                f"prompt {number} holds id {wrong}, but the model knows ids 0 to {vocab_size - 1}; "
                "use the tokenizer the model was trained with"
            )
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens = {max_new_tokens}; it must be 1 or more")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InputError(
            f"temperature = {temperature}; it must be 0 (likeliest) or a finite number above"
        )


def _left_padded(prompts: Sequence[Sequence[int]], eod_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The prompts as one [B, T] array whose rows end together, and the empty slots of each, [B].

    Rows are added until the mesh divides them.
    """
    mesh_shape = jax.sharding.get_abstract_mesh().shape
    ways = math.prod(mesh_shape[axis] for axis in axes.RULES["batch"])
    prompts = [*prompts, *[[eod_id]] * (-len(prompts) % ways)]
    length = max(map(len, prompts))
    rows = [[eod_id] * (length - len(prompt)) + list(prompt) for prompt in prompts]
    empty = [length - len(prompt) for prompt in prompts]
    return np.array(rows, np.int32), np.array(empty, np.int32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _continue(
    assemble: Assembler,
    max_new_tokens: int,
    parameters: PyTree,
    tokens: Int[Array, "B T"],
    empty: Int[Array, " B"],
    ended: Bool[Array, " B"],
    key: Key[Array, ""],
    temperature: Float[Array, ""],
    eod_id: Int[Array, ""],
) -> Int[Array, "B max_new_tokens"]:
    """New ids for each row, eod_id from where it ended; stops early once all rows have ended."""
    batch = axes.spec("batch")
    tokens, empty, ended = (jax.reshard(array, batch) for array in (tokens, empty, ended))
    rows, length = tokens.shape
    keys, copy = sampling.row_keys(key, rows), assemble.copied(parameters)

    def advance(cache, fed, written, ended, step):
        decoder = assemble.with_copy(copy)
        hidden, cache = kv_cache.extend(decoder, cache, fed)
        scores = sampling.scores_after(decoder, hidden)
        chosen = jnp.where(ended, eod_id, sampling.pick(scores, keys, step, temperature))
        written = jax.lax.dynamic_update_slice_in_dim(written, chosen[:, None], step, axis=1)
        return cache, chosen[:, None], written, ended | (chosen == eod_id), step + 1

    def goes_on(loop):
        *_, ended, step = loop
        return (step < max_new_tokens) & ~jnp.all(ended)

    # The last new token is never fed, so it needs no slot.
    cache = kv_cache.make_cache(assemble.config, length + max_new_tokens - 1, empty)
    written = jnp.full((rows, max_new_tokens), eod_id, out_sharding=axes.spec("batch", "step"))
    prefilled = advance(cache, tokens, written, ended, jnp.int32(0))
    written = jax.lax.while_loop(goes_on, lambda loop: advance(*loop), prefilled)[2]
    return jax.reshard(written, jax.P())  # every host gets every row
