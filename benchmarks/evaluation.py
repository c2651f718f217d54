"""Fast scoring and decoding beside the plain forms of the same, on a small decoder.

    python -m benchmarks.evaluation

Scoring: four choices of four tokens after prompts of some 250, all in one row, beside a row for
each. Decoding: with a cache beside the whole forward pass for each token; 16 prompts at once beside
one by one. Each pair is alternated and compiled before it is timed; medians. Prints what each pair
gives, then one JSON line for each bar; the exit status is 0 if all hold.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import bars
from welm_jax.decode import rank
from welm_jax.decode.generate import generate
from welm_jax.model import loss
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Assembler
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.state import initial_parameters

MODEL = ModelConfig(
    num_layers=4, num_heads=4, d_model=256, vocab_size=8000, compute_dtype="float32"
)
ROUNDS = 5
QUESTIONS, CHOICES, CHOICE_TOKENS = 32, 4, 4
PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 16, 64, 32
NO_END = 0  # an id that greedy decoding of random weights does not come to


def alternated(*ways: Callable[[], object]) -> list[float]:
    """Median seconds of each way, taken in turns after each ran once."""
    spent: list[list[float]] = [[] for _ in ways]
    for round_ in range(ROUNDS + 1):
        for way, seconds in zip(ways, spent, strict=True):
            began = time.perf_counter()
            way()
            if round_:
                seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in spent]


def questions() -> list[rank.Question]:
    random = np.random.default_rng(0)

    def ids(count: int) -> list[int]:
        return random.integers(4, MODEL.vocab_size, count).tolist()

    return [
        rank.Question(
            prompt=ids(int(random.integers(225, 250))),
            candidates=[ids(CHOICE_TOKENS) for _ in range(CHOICES)],
        )
        for _ in range(QUESTIONS)
    ]


def scored(assemble: Assembler, parameters, asked: Sequence, row_tokens: int) -> dict:
    found = rank.log_likelihoods(
        assemble, parameters, asked, row_tokens=row_tokens, batch_tokens=4096
    )
    return dict(found)


@functools.partial(jax.jit, static_argnums=0)
def next_ids(assemble: Assembler, parameters, tokens, last):
    """The likeliest id after a place of each row, by the whole forward pass."""
    decoder = assemble(parameters)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden = decoder(tokens, positions)[:, last][:, None]
    return loss.logits(hidden, decoder.head_matrix(), MODEL.vocab_size)[:, 0].argmax(-1)


def uncached(assemble: Assembler, parameters, prompts: np.ndarray) -> np.ndarray:
    """Greedy continuations, everything computed again for each token."""
    tokens = np.pad(prompts, ((0, 0), (0, NEW_TOKENS)))
    for at in range(PROMPT_TOKENS, PROMPT_TOKENS + NEW_TOKENS):
        tokens[:, at] = next_ids(assemble, parameters, tokens, at - 1)
    return tokens[:, PROMPT_TOKENS:]


def cached(assemble: Assembler, parameters, prompts: np.ndarray) -> np.ndarray:
    found = generate(
        assemble, parameters, prompts.tolist(), max_new_tokens=NEW_TOKENS, eod_id=NO_END
    )
    return np.array([ids for _, ids in sorted(found)])


def main() -> int:
    """Measures, prints, judges."""
    assemble, asked = Assembler(MODEL), questions()
    prompts = np.random.default_rng(1).integers(4, MODEL.vocab_size, (PROMPTS, PROMPT_TOKENS))
    prompts = prompts.astype(np.int32)
    with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        parameters = initial_parameters(MODEL, 0)
        together, apart = (scored(assemble, parameters, asked, tokens) for tokens in (2048, 1))
        differs = max(
            float(np.abs(one - other).max())
            for number in together
            for one, other in zip(together[number], apart[number], strict=True)
        )
        same = cached(assemble, parameters, prompts) == uncached(assemble, parameters, prompts)
        shared, single = alternated(
            lambda: scored(assemble, parameters, asked, 2048),
            lambda: scored(assemble, parameters, asked, 1),
        )
        with_cache, without = alternated(
            lambda: cached(assemble, parameters, prompts),
            lambda: uncached(assemble, parameters, prompts),
        )
        batched, one_by_one = alternated(
            lambda: cached(assemble, parameters, prompts),
            lambda: [cached(assemble, parameters, prompts[at : at + 1]) for at in range(PROMPTS)],
        )
    print(f"choices in one row: {single / shared:.2f} times a row for each")
    print(f"cached decoding: {without / with_cache:.2f} times without a cache")
    print(f"{PROMPTS} prompts at once: {one_by_one / batched:.2f} times one by one")
    return bars.ended(
        [
            ("shared_over_separate_prompts", single / shared, ">= 3"),
            ("shared_differs_from_separate", differs, "<= 1e-5"),
            ("cached_ids_same_as_uncached", float(same.mean()), "== 1"),
            ("cached_over_uncached", without / with_cache, ">= 2"),
            ("batched_over_one_by_one", one_by_one / batched, ">= 2"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
