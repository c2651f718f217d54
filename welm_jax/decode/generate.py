"""Continues prompts: token ids in, token ids out. It knows no tokenizer and no text."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from welm_jax.decode import kv_cache, sampling, strides
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
      InputError: an empty prompt, an id the vocabulary does not have, max_new_tokens below 1, or a
        seed beyond 32 bits.
      StopAndLook: scores that ids would be chosen by are NaN or infinite.
    """
    sampling.require_seed(seed)
    vocab_size = assemble.config.vocab_size
    stops = np.zeros((2, vocab_size), np.int32) if stops is None else stops
    for batch in prompt_batches(
        prompts,
        max_new_tokens=max_new_tokens,
        vocab_size=vocab_size,
        rows_each=1,
        batch_tokens=batch_tokens,
    ):
        rules = _Rules(
            numbers=np.resize(np.array(batch.numbers, np.int32), len(batch.tokens)),
            key=jax.random.key(seed),
            temperature=np.float32(how.temperature),
            eod_id=np.int32(eod_id),
            stops=stops,
        )
        how_it_is = assemble, max_new_tokens, how.limits, how.processors, parameters, rules
        continued = strides.run(
            functools.partial(_begin, *how_it_is, batch.tokens, batch.empty, batch.is_filler),
            functools.partial(_advance, *how_it_is),
            most_steps=max_new_tokens,
            rows=len(batch.numbers),
        )
        for number, row in zip(batch.numbers, continued.tolist(), strict=False):
            yield number, until_end(row, eod_id)


def programs(longest: int, batch_tokens: int = BATCH_TOKENS) -> tuple[int, int]:
    """How many programs `generate` has compiled in this process, and prompt_batches' bound.

    There are two for each shape: one for the prompts, one for the ids after them.

    Call it under the mesh on which the model lives, by which rows are counted.

    Args:
      longest: tokens of a prompt.
      batch_tokens: as in `generate`.
    """
    compiled = _begin._cache_size() + _advance._cache_size()
    return compiled, 2 * most_programs(longest, batch_tokens)


class _Rules(NamedTuple):
    """How the next id of each row is chosen, and where rows end."""

    numbers: Int[Array, " B"]
    key: Key[Array, ""]
    temperature: Float[Array, ""]
    eod_id: Int[Array, ""]
    stops: Int[Array, "states V"]


class _Rows(NamedTuple):
    """Rows that are being continued: what was read, what is read next, and what was written."""

    cache: kv_cache.KVCache
    fed: Int[Array, "B T"]
    tokens: Int[Array, "B S"]
    ended: Bool[Array, " B"]
    stop_state: Int[Array, " B"]
    lost: Bool[Array, " B"]
    step: Int[Array, ""]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _begin(
    assemble: Assembler,
    max_new_tokens: int,
    limits: sampling.Limits,
    processors: tuple[sampling.Processor, ...],
    parameters: PyTree,
    rules: _Rules,
    tokens: Int[Array, "B S"],
    empty: Int[Array, " B"],
    ended: Bool[Array, " B"],
) -> strides.Stride:
    """Reads the prompts and chooses the first new id of each row."""
    tokens, empty, ended = jax.reshard((tokens, empty, ended), axes.spec("batch"))
    step = _one_step(assemble, max_new_tokens, limits, processors, parameters, rules)
    nothing = jnp.zeros_like(empty)
    rows = _Rows(
        # The last new token is never fed, so it needs no slot.
        cache=kv_cache.make_cache(assemble.config, tokens.shape[1] - 1, empty),
        fed=jnp.maximum(tokens[:, :-max_new_tokens], 0),  # empty slots need an id, whichever
        tokens=tokens,
        ended=ended,
        stop_state=nothing,
        lost=nothing > 0,
        step=jnp.int32(0),
    )
    return _told(step(rows), max_new_tokens)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnames="rows")
def _advance(
    assemble: Assembler,
    max_new_tokens: int,
    limits: sampling.Limits,
    processors: tuple[sampling.Processor, ...],
    parameters: PyTree,
    rules: _Rules,
    rows: _Rows,
    until: Int[Array, ""],
) -> strides.Stride:
    """Chooses ids until there are so many new ones, or all rows have ended."""
    step = _one_step(assemble, max_new_tokens, limits, processors, parameters, rules)

    def goes_on(rows):
        return (rows.step < until) & ~jnp.all(rows.ended) & ~jnp.any(rows.lost)

    return _told(jax.lax.while_loop(goes_on, step, rows), max_new_tokens)


def _one_step(
    assemble: Assembler,
    max_new_tokens: int,
    limits: sampling.Limits,
    processors: tuple[sampling.Processor, ...],
    parameters: PyTree,
    rules: _Rules,
) -> Callable[[_Rows], _Rows]:
    """A function that adds an id to each row: eod_id where it ended."""
    batch, stopped = axes.spec("batch"), rules.stops.shape[0] - 1
    keys = sampling.row_keys(rules.key, jax.reshard(rules.numbers, batch))
    copy = assemble.copied(parameters)

    def step(rows: _Rows) -> _Rows:
        decoder, at = assemble.with_copy(copy), rows.tokens.shape[1] - max_new_tokens + rows.step
        hidden, cache = kv_cache.extend(decoder, rows.cache, rows.fed)
        scores = sampling.scores_after(decoder, hidden)
        lost = rows.lost | (~rows.ended & ~sampling.are_numbers(scores))
        scores = sampling.processed(processors, scores, rows.tokens, at)
        scores = sampling.within(limits, scores, rules.temperature)
        chosen = sampling.pick(scores, keys, rows.step, rules.temperature)
        chosen = jnp.where(rows.ended, rules.eod_id, chosen)
        state = rules.stops.at[rows.stop_state, chosen].get(out_sharding=batch)
        return _Rows(
            cache=cache,
            fed=chosen[:, None],
            tokens=jax.lax.dynamic_update_slice_in_dim(rows.tokens, chosen[:, None], at, axis=1),
            ended=rows.ended | (chosen == rules.eod_id) | (state == stopped),
            stop_state=state,
            lost=lost,
            step=rows.step + 1,
        )

    return step


def _told(rows: _Rows, max_new_tokens: int) -> strides.Stride:
    written = jax.reshard(rows.tokens[:, -max_new_tokens:], jax.P())  # every host gets every row
    return rows, written, strides.status(rows.step, ~rows.ended, rows.lost)
