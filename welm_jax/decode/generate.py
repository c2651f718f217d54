"""Continues prompts: token ids in, token ids out. It knows no tokenizer and no text."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from welm_jax.decode import kv_cache, sampling
from welm_jax.decode.sampling import Sampling
from welm_jax.decode.shapes import bucket, most_rows, padded_rows
from welm_jax.failures import InputError
from welm_jax.model import axes
from welm_jax.model.decoder import Assembler

SHORTEST = 32  # slots for a prompt
BATCH_TOKENS = 16_384  # prompts and continuations that are computed together, about


def generate(
    assemble: Assembler,
    parameters: PyTree,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eod_id: int,
    how: Sampling = Sampling(),  # noqa: B008  (frozen)
    seed: int = 0,
    stops: np.ndarray | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[tuple[int, list[int]]]:
    """Continues each prompt until it ends its document, meets a stop, or is long enough.

    A continuation depends on its prompt, the seed and its place in the list, never on the other
    prompts. Call it under the mesh on which the parameters live. Prompts are filled up to lengths
    of which there are few, so that few programs are compiled.

    Args:
      assemble: makes the decoder; the same object every time, or it compiles again.
      parameters: the decoder's weights, sharded as in training.
      prompts: ids below vocab_size, at least one a prompt; a document's beginning is [eod_id].
      max_new_tokens: longest continuation, 1 or more.
      eod_id: the id that ends a document.
      how: an id is chosen.
      seed: of the sampling; the same seed gives the same ids.
      stops: [states, V] as text.stop_strings gives it: the ids that completed a stop are the last.
      batch_tokens: of prompts that are computed together, their continuations counted, about.

    Yields:
      The number of a prompt and its new ids, without the prompt and without eod_id, the shortest
      prompts first.

    Raises:
      InputError: an empty prompt, an id the vocabulary does not have, or max_new_tokens below 1.
    """
    _check(prompts, max_new_tokens, assemble.config.vocab_size)
    vocab_size = assemble.config.vocab_size
    stops = np.zeros((2, vocab_size), np.int32) if stops is None else stops
    waiting = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    while waiting:
        length = bucket(len(prompts[waiting[0]]), SHORTEST)
        most = most_rows(length + max_new_tokens, batch_tokens)
        batch = [number for number in waiting[:most] if len(prompts[number]) <= length]
        rows = padded_rows(len(batch), most)
        waiting = waiting[len(batch) :]
        continued = _continue(
            assemble,
            max_new_tokens,
            how.limits,
            parameters,
            *_left_padded([prompts[number] for number in batch], length, rows, eod_id),
            np.resize(np.array(batch, np.int32), rows),
            np.arange(rows) >= len(batch),
            jax.random.key(seed),
            np.float32(how.temperature),
            np.int32(eod_id),
            stops,
        )
        for number, row in zip(batch, np.asarray(continued).tolist(), strict=False):
            yield number, row[: row.index(eod_id)] if eod_id in row else row


def _check(prompts: Sequence[Sequence[int]], max_new_tokens: int, vocab_size: int) -> None:
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


def _left_padded(
    prompts: Sequence[Sequence[int]], length: int, rows: int, eod_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """The prompts as one [B, T] array whose rows end together, and the empty slots of each, [B]."""
    prompts = [*prompts, *[[eod_id]] * (rows - len(prompts))]
    filled = [[eod_id] * (length - len(prompt)) + list(prompt) for prompt in prompts]
    empty = [length - len(prompt) for prompt in prompts]
    return np.array(filled, np.int32), np.array(empty, np.int32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continue(
    assemble: Assembler,
    max_new_tokens: int,
    limits: sampling.Limits,
    parameters: PyTree,
    tokens: Int[Array, "B T"],
    empty: Int[Array, " B"],
    numbers: Int[Array, " B"],
    ended: Bool[Array, " B"],
    key: Key[Array, ""],
    temperature: Float[Array, ""],
    eod_id: Int[Array, ""],
    stops: Int[Array, "states V"],
) -> Int[Array, "B max_new_tokens"]:
    """New ids for each row, eod_id from where it ended; stops early once all rows have ended."""
    batch = axes.spec("batch")
    tokens, empty, numbers, ended = (
        jax.reshard(array, batch) for array in (tokens, empty, numbers, ended)
    )
    rows, length = tokens.shape
    keys, copy = sampling.row_keys(key, numbers), assemble.copied(parameters)
    stopped = stops.shape[0] - 1

    def advance(cache, fed, written, ended, state, step):
        decoder = assemble.with_copy(copy)
        hidden, cache = kv_cache.extend(decoder, cache, fed)
        scores = sampling.within(limits, sampling.scores_after(decoder, hidden), temperature)
        chosen = jnp.where(ended, eod_id, sampling.pick(scores, keys, step, temperature))
        written = jax.lax.dynamic_update_slice_in_dim(written, chosen[:, None], step, axis=1)
        state = stops.at[state, chosen].get(out_sharding=batch)
        ended = ended | (chosen == eod_id) | (state == stopped)
        return cache, chosen[:, None], written, ended, state, step + 1

    def goes_on(loop):
        *_, ended, _, step = loop
        return (step < max_new_tokens) & ~jnp.all(ended)

    # The last new token is never fed, so it needs no slot.
    cache = kv_cache.make_cache(assemble.config, length + max_new_tokens - 1, empty)
    written = jnp.full((rows, max_new_tokens), eod_id, out_sharding=axes.spec("batch", "step"))
    state = jnp.zeros_like(empty)
    prefilled = advance(cache, tokens, written, ended, state, jnp.int32(0))
    written = jax.lax.while_loop(goes_on, lambda loop: advance(*loop), prefilled)[2]
    return jax.reshard(written, jax.P())  # every host gets every row
