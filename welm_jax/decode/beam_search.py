"""Continues prompts by the continuation that is likeliest as a whole, as far as beams see.

Token ids in, token ids out, as `generate` does it. The search itself, `grown`, takes scores: it
knows of no decoder and, run for the rows of one device, of no mesh.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from welm_jax.decode import kv_cache, sampling, strides
from welm_jax.decode.generate import BATCH_TOKENS
from welm_jax.decode.prompt_batches import NO_TOKEN, prompt_batches, until_end
from welm_jax.decode.sampling import NEVER
from welm_jax.failures import InputError
from welm_jax.model import axes
from welm_jax.model.decoder import Assembler


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """How far is searched, and for what; a program is compiled for each.

    A hypothesis ends with eod_id, with a stop, or when it is long enough, if it is then among the
    `beams` likeliest of its prompt. Its score is its log-probability / length ** length_penalty,
    the id that ended it counted, as in Hugging Face. The search of a prompt ends when so many
    hypotheses as there are beams have ended, or when none that goes on can still beat the best of
    those: not even if all its further ids, to the greatest length, had probability 1.

    Attributes:
      beams: hypotheses of a prompt that go on; 1 is greedy decoding.
      length_penalty: 0 compares probabilities; the more, the longer.
      processors: change log-probabilities (and never to above 0); what they forbid is not shared
        out among other ids.
    """

    beams: int = 4
    length_penalty: float = 1.0
    processors: tuple[sampling.Processor, ...] = ()

    def __post_init__(self):
        if self.beams < 1:
            raise InputError(f"beams = {self.beams}; it must be 1 (greedy) or more")
        if not (math.isfinite(self.length_penalty) and self.length_penalty >= 0):
            raise InputError(
                f"length_penalty = {self.length_penalty}; it must be 0 (none) or a finite number "
                "above"
            )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Hypotheses:
    """What a search holds of each prompt: K hypotheses that go on, and the best that has ended.

    Attributes:
      tokens: prompts and ids of those that go on, the likeliest first; -1 elsewhere.
      sums: their log-probabilities, float32; -1e30 where there are not so many.
      states: where each is in the table of stops.
      ended: how many have ended.
      best: prompt and ids of the best of those, likewise.
      best_score: its score, float32; -1e30 before there is one.
    """

    tokens: Int[Array, "B K S"]
    sums: Float[Array, "B K"]
    states: Int[Array, "B K"]
    ended: Int[Array, " B"]
    best: Int[Array, "B S"]
    best_score: Float[Array, " B"]


def search(
    assemble: Assembler,
    parameters: PyTree,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eod_id: int,
    how: BeamSearch = BeamSearch(),  # noqa: B008  (frozen)
    stops: np.ndarray | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[tuple[int, list[int]]]:
    """Finds a likely continuation of each prompt, whatever the other prompts are.

    Call it under the mesh on which the parameters live. It compiles as few programs as `generate`
    does: see prompt_batches.most_programs, with batch_tokens / beams.

    Args:
      assemble: makes the decoder; the same object every time, or it compiles again.
      parameters: the decoder's weights, sharded as in training.
      prompts: ids below vocab_size, at least one a prompt; a document's beginning is [eod_id].
      max_new_tokens: longest continuation, 1 or more.
      eod_id: the id that ends a document.
      how: far it is searched.
      stops: [states, V] as text.stop_strings gives it: the ids that completed a stop are the last.
      batch_tokens: of hypotheses that are computed together, their prompts counted, about.

    Yields:
      The number of a prompt and the new ids of its best hypothesis, without the prompt and without
      eod_id, the shortest prompts first.

    Raises:
      InputError: an empty prompt, an id the vocabulary does not have, or max_new_tokens below 1.
      StopAndLook: scores that ids would be chosen by are NaN or infinite.
    """
    vocab_size = assemble.config.vocab_size
    stops = np.zeros((2, vocab_size), np.int32) if stops is None else stops
    for batch in prompt_batches(
        prompts,
        max_new_tokens=max_new_tokens,
        vocab_size=vocab_size,
        rows_each=how.beams,
        batch_tokens=batch_tokens,
    ):
        how_it_is = assemble, max_new_tokens, how, parameters, np.int32(eod_id), stops
        found = strides.run(
            functools.partial(_begin, *how_it_is, batch.tokens, batch.empty, batch.is_filler),
            functools.partial(_advance, *how_it_is),
            most_steps=max_new_tokens,
            rows=len(batch.numbers),
        )
        for number, row in zip(batch.numbers, found.tolist(), strict=False):
            yield number, until_end(row, eod_id)


class _Searched(NamedTuple):
    """A search that goes on: what was read, what is read next, and what was found."""

    cache: kv_cache.KVCache
    fed: Int[Array, "rows 1"]
    held: Hypotheses
    lost: Bool[Array, " B"]
    step: Int[Array, ""]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(
    assemble: Assembler,
    max_new_tokens: int,
    how: BeamSearch,
    parameters: PyTree,
    eod_id: Int[Array, ""],
    stops: Int[Array, "states V"],
    tokens: Int[Array, "B S"],
    empty: Int[Array, " B"],
    is_filler: Bool[Array, " B"],
) -> strides.Stride:
    """Reads the prompts, each once, and begins a search of each."""
    tokens, empty, is_filler = jax.reshard((tokens, empty, is_filler), axes.spec("batch"))
    decoder = assemble(parameters)
    # The last new token is never fed, so it needs no slot.
    cache = kv_cache.make_cache(assemble.config, tokens.shape[1] - 1, empty)
    prompts = jnp.maximum(tokens[:, :-max_new_tokens], 0)  # empty slots need an id, whichever
    hidden, cache = kv_cache.extend(decoder, cache, prompts)
    scores = sampling.scores_after(decoder, hidden)

    def own(of_rows, *whole):
        tokens, is_filler, scores = of_rows
        held, scores = begun(how, tokens, is_filler), scores.repeat(how.beams, axis=0)
        return grown(how, max_new_tokens, held, scores, *whole)

    held, _, fed = axes.per_device(own, (tokens, is_filler, scores), jnp.int32(0), eod_id, stops)
    searched = _Searched(
        cache=kv_cache.repeated(cache, how.beams),
        fed=fed,
        held=held,
        lost=~is_filler & ~sampling.are_numbers(scores),
        step=jnp.int32(1),
    )
    return _told(how, max_new_tokens, searched)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnames="searched")
def _advance(
    assemble: Assembler,
    max_new_tokens: int,
    how: BeamSearch,
    parameters: PyTree,
    eod_id: Int[Array, ""],
    stops: Int[Array, "states V"],
    searched: _Searched,
    until: Int[Array, ""],
) -> strides.Stride:
    """Adds ids until there are so many new ones, or all searches are done."""
    copy = assemble.copied(parameters)
    length = searched.held.best.shape[1] - max_new_tokens

    def own(of_rows, *whole):
        return grown(how, max_new_tokens, *of_rows, *whole)

    def advance(now: _Searched) -> _Searched:
        decoder = assemble.with_copy(copy)
        hidden, cache = kv_cache.extend(decoder, now.cache, now.fed)
        scores = sampling.scores_after(decoder, hidden)
        are_numbers = sampling.are_numbers(scores).reshape(-1, how.beams).all(axis=1)
        goes_on = ~is_done(how, max_new_tokens, now.held)
        held, parents, fed = axes.per_device(own, (now.held, scores), now.step, eod_id, stops)
        cache = kv_cache.reordered(cache, parents, length)
        lost = now.lost | (goes_on & ~are_numbers)
        return _Searched(cache=cache, fed=fed, held=held, lost=lost, step=now.step + 1)

    def goes_on(now: _Searched) -> Bool[Array, ""]:
        are_done = jnp.all(is_done(how, max_new_tokens, now.held))
        return (now.step < until) & ~are_done & ~jnp.any(now.lost)

    return _told(how, max_new_tokens, jax.lax.while_loop(goes_on, advance, searched))


def _told(how: BeamSearch, max_new_tokens: int, searched: _Searched) -> strides.Stride:
    """The new ids of each prompt's best hypothesis are -1 from where it ended."""
    written = jax.reshard(searched.held.best[:, -max_new_tokens:], jax.P())  # for every host
    goes_on = ~is_done(how, max_new_tokens, searched.held)
    return searched, written, strides.status(searched.step, goes_on, searched.lost)


def begun(how: BeamSearch, tokens: Int[Array, "B S"], is_filler: Bool[Array, " B"]) -> Hypotheses:
    """A search in which nothing is written: of K equal hypotheses the first alone counts."""
    rows, beams = len(tokens), how.beams
    return Hypotheses(
        tokens=jnp.repeat(tokens[:, None], beams, axis=1),
        sums=jnp.full((rows, beams), NEVER).at[:, 0].set(0),
        states=jnp.zeros((rows, beams), jnp.int32),
        ended=jnp.where(is_filler, beams, 0),
        best=jnp.full_like(tokens, NO_TOKEN),
        best_score=jnp.full(rows, NEVER),
    )


def is_done(how: BeamSearch, max_new_tokens: int, held: Hypotheses) -> Bool[Array, " B"]:
    """True for prompts whose best hypothesis stands, by the rule in BeamSearch."""
    reachable = held.sums[:, 0] / max_new_tokens**how.length_penalty
    return (held.ended >= how.beams) | (reachable <= held.best_score)


def grown(
    how: BeamSearch,
    max_new_tokens: int,
    held: Hypotheses,
    scores: Float[Array, "rows V"],
    step: Int[Array, ""],
    eod_id: Int[Array, ""],
    stops: Int[Array, "states known"],
) -> tuple[Hypotheses, Int[Array, "B K"], Int[Array, "rows 1"]]:
    """A search after one more id.

    Args:
      how: far it is searched.
      max_new_tokens: longest continuation; the slots of `held` end with so many.
      held: the search so far.
      scores: float32 of the next id, of each hypothesis that goes on, B x K of them.
      step: number of the id, from 0.
      eod_id: the id that ends a document.
      stops: as in `search`; ids beyond it are padding of the vocabulary.

    Returns:
      The search; for each hypothesis that goes on, which of its prompt's it continues; its id.
    """
    (prompts, beams, slots), vocab_size = held.tokens.shape, stops.shape[1]
    at = slots - max_new_tokens + step
    logs = sampling.applied(
        how.processors, jax.nn.log_softmax(scores), held.tokens.reshape(-1, slots), at
    )
    sums = held.sums[:, :, None] + logs[:, :vocab_size].reshape(prompts, beams, vocab_size)
    states = stops[held.states]
    ends = (states == stops.shape[0] - 1) | (jnp.arange(vocab_size) == eod_id)
    ends = (ends | (step + 1 == max_new_tokens)).reshape(prompts, -1)
    written = functools.partial(_written, held.tokens, at, vocab_size)

    likeliest, places = jax.lax.top_k(sums.reshape(prompts, -1), beams)
    ending = jnp.take_along_axis(ends, places, axis=1) & (likeliest > NEVER / 2)
    ending &= ~is_done(how, max_new_tokens, held)[:, None]
    found = jnp.where(ending, likeliest / (step + 1.0) ** how.length_penalty, NEVER)
    first = jnp.argmax(found, axis=1, keepdims=True)
    score = jnp.max(found, axis=1)
    better = score > held.best_score
    candidate = written(jnp.take_along_axis(places, first, axis=1))[:, 0]

    # Chosen apart, so that as many go on however many ids there are that end a hypothesis.
    going, places = jax.lax.top_k(jnp.where(ends, NEVER, sums.reshape(prompts, -1)), beams)
    held = Hypotheses(
        tokens=written(places),
        sums=going,
        states=jnp.take_along_axis(states.reshape(prompts, -1), places, axis=1),
        ended=held.ended + jnp.sum(ending, axis=1),
        best=jnp.where(better[:, None], candidate, held.best),
        best_score=jnp.where(better, score, held.best_score),
    )
    return held, places // vocab_size, (places % vocab_size).reshape(-1, 1)


def _written(
    tokens: Int[Array, "B K S"], at: Int[Array, ""], vocab_size: int, places: Int[Array, "B n"]
) -> Int[Array, "B n S"]:
    """The hypotheses that the places name, which count through ids and then through parents."""
    parents = jnp.take_along_axis(tokens, places[:, :, None] // vocab_size, axis=1)
    ids = places[:, :, None] % vocab_size
    return jax.lax.dynamic_update_slice_in_dim(parents, ids, at, axis=2)
