"""Continues prompts: token ids in, token ids out. It knows no tokenizer and no text."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from welm_jax.decode import kv_cache, sampling
from welm_jax.decode.prompt_batches import most_programs, prompt_batches, until_end
from welm_jax.decode.sampling import Sampling
from welm_jax.model import axes
from welm_jax.model.decoder import Assembler

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
    vocab_size = assemble.config.vocab_size
    stops = np.zeros((2, vocab_size), np.int32) if stops is None else stops
    for batch in prompt_batches(
        prompts,
        max_new_tokens=max_new_tokens,
        vocab_size=vocab_size,
        rows_each=1,
        batch_tokens=batch_tokens,
    ):
        continued = _continue(
            assemble,
            max_new_tokens,
            how.limits,
            how.processors,
            parameters,
            batch.tokens,
            batch.empty,
            np.resize(np.array(batch.numbers, np.int32), len(batch.tokens)),
            batch.is_filler,
            jax.random.key(seed),
            np.float32(how.temperature),
            np.int32(eod_id),
            stops,
        )
        for number, row in zip(batch.numbers, np.asarray(continued).tolist(), strict=False):
            yield number, until_end(row, eod_id)


def programs(longest: int, batch_tokens: int = BATCH_TOKENS) -> tuple[int, int]:
    """How many programs `generate` has compiled in this process, and prompt_batches' bound.

    Call it under the mesh on which the model lives, by which rows are counted.

    Args:
      longest: tokens of a prompt.
      batch_tokens: as in `generate`.
    """
    return _continue._cache_size(), most_programs(longest, batch_tokens)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _continue(
    assemble: Assembler,
    max_new_tokens: int,
    limits: sampling.Limits,
    processors: tuple[sampling.Processor, ...],
    parameters: PyTree,
    tokens: Int[Array, "B S"],
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
    tokens, empty, numbers, ended = jax.reshard((tokens, empty, numbers, ended), batch)
    length = tokens.shape[1] - max_new_tokens
    keys, copy = sampling.row_keys(key, numbers), assemble.copied(parameters)
    stopped = stops.shape[0] - 1

    def advance(cache, fed, tokens, ended, state, step):
        decoder = assemble.with_copy(copy)
        hidden, cache = kv_cache.extend(decoder, cache, fed)
        scores = sampling.scores_after(decoder, hidden)
        scores = sampling.processed(processors, scores, tokens, length + step)
        scores = sampling.within(limits, scores, temperature)
        chosen = jnp.where(ended, eod_id, sampling.pick(scores, keys, step, temperature))
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, chosen[:, None], length + step, axis=1)
        state = stops.at[state, chosen].get(out_sharding=batch)
        ended = ended | (chosen == eod_id) | (state == stopped)
        return cache, chosen[:, None], tokens, ended, state, step + 1

    def goes_on(loop):
        *_, ended, _, step = loop
        return (step < max_new_tokens) & ~jnp.all(ended)

    # The last new token is never fed, so it needs no slot.
    cache = kv_cache.make_cache(assemble.config, tokens.shape[1] - 1, empty)
    prompts = jnp.maximum(tokens[:, :length], 0)  # empty slots need an id, whichever
    prefilled = advance(cache, prompts, tokens, ended, jnp.zeros_like(empty), jnp.int32(0))
    tokens = jax.lax.while_loop(goes_on, lambda loop: advance(*loop), prefilled)[2]
    return jax.reshard(tokens[:, length:], jax.P())  # every host gets every row
