"""The mixture: from rates to mixture.json, whose whole numbers of samples training executes.

Owns the quotas, how a block of samples is spread over the sources, and the file's content.
Deliberately knows neither rows (batches) nor where rates come from: gin, or a seqio Mixture of the
user's (tasks.pretraining). No TensorFlow.
"""

import difflib
import math
import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from welm_jax.data.token_dataset import read_metadata
from welm_jax.failures import InputError
from welm_jax.run_files import literal
from welm_jax.text.records import TokenMetadata
from welm_jax.text.sources import OURS, MixtureConfig, datasets_in, rates_in_force

MIXTURE_FORMAT = 1
BLOCK = 1_000  # samples


def quotas(rates: Mapping[str, float]) -> dict[str, int]:
    """Turns rates into whole samples per 1,000, once, by largest remainder.

    Args:
      rates: source -> relative rate, at least 0; need not add up to 1.

    Returns:
      source -> samples in a block, adding up to 1,000; sources of rate 0 are left out.

    Raises:
      InputError: a negative rate, none above 0, or one too small for a single sample in 1,000.
    """
    total = sum(rates.values())
    if min(rates.values(), default=0) < 0 or not 0 < total < math.inf:
        raise InputError(f"rates {dict(rates)}: each must be at least 0 and one above 0")
    exact = {name: BLOCK * rate / total for name, rate in rates.items() if rate}
    whole = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: BLOCK - sum(whole.values())]:
        whole[name] += 1
    for name, quota in whole.items():
        if quota == 0:
            raise InputError(
                f"rate {rates[name]} of {name} is less than one sample in {BLOCK}; raise it to "
                f"{total / BLOCK:g} or set it to 0"
            )
    return whole


def block_pattern(samples: list[int]) -> list[tuple[int, int]]:
    """Spreads the sources evenly over one block.

    grain's own mix cuts its weights to whole numbers, so that its shares drift (429 of 1,000
    became 430); here they are exact by construction.

    Args:
      samples: how many of a block each source has.

    Returns:
      For each place of a block: which source, and which of the source's samples in this block.
    """
    spread = sorted(
        (Fraction(2 * rank + 1, quota), source, rank)
        for source, quota in enumerate(samples)
        for rank in range(quota)
    )
    return [(source, rank) for _, source, rank in spread]


def compile_mixture(config: MixtureConfig) -> dict[str, Any]:
    """Returns the content of mixture.json.

    Args:
      config: the mixture, with the rates that are trained on.

    Returns:
      `format`, `mixture`, `rates` as declared, `seed`, `sequence_tokens`, `vocab_size`,
      `tokenizer_sha256`, `block` and, by name, `sources` of `name`, `folder`, `quota` (samples in
      a block), `rows` and `fingerprint` (sha256 of its token_metadata.json).

    Raises:
      InputError: rates that quotas refuses, a source without a token dataset, or two sources made
        by different tokenizers or with rows of different lengths; names both.
    """
    declared = config.rates
    if config.mixture == OURS:
        declared = rates_in_force(declared, datasets_in(config.tokens_dir))
    rates = {name: rate for name, rate in sorted(declared.items()) if rate}
    samples = quotas(rates)
    folders = {name: source_folder(config.tokens_dir, name) for name in samples}
    known = {name: read_metadata(folder) for name, folder in folders.items()}
    first = _agreed({name: metadata for name, (metadata, _) in known.items()})
    return {
        "format": MIXTURE_FORMAT,
        "mixture": config.mixture,
        "rates": rates,
        "seed": config.seed,
        "sequence_tokens": first.sequence_tokens,
        "vocab_size": first.vocab_size,
        "tokenizer_sha256": first.tokenizer_sha256,
        "block": BLOCK,
        "sources": [
            {
                "name": name,
                "folder": folders[name],
                "quota": quota,
                "rows": known[name][0].splits["train"].rows,
                "fingerprint": known[name][1],
            }
            for name, quota in samples.items()
        ],
    }


def source_folder(tokens_dir: str, source: str) -> str:
    """Returns the folder of a source's token dataset.

    Raises:
      InputError: it has none; names the sources that have one.
    """
    folder = literal(tokens_dir) / source
    if not folder.is_dir():
        known = datasets_in(tokens_dir)
        near = difflib.get_close_matches(source, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'};"
        raise InputError(
            f"source {source} has a rate but no token dataset in {tokens_dir}; {hint} "
            "set MixtureConfig.rates, or write it with python -m beam_pipelines.write_tokens"
        )
    return os.fspath(folder.resolve())


def _agreed(metadata: Mapping[str, TokenMetadata]) -> TokenMetadata:
    """The metadata that all sources share in what a model depends on."""
    (first_name, first), *others = metadata.items()
    for name, other in others:
        for field in ("tokenizer_sha256", "sequence_tokens"):
            if getattr(first, field) != getattr(other, field):
                raise InputError(
                    f"sources {first_name} and {name} do not go together: {field} is "
                    f"{getattr(first, field)} and {getattr(other, field)}; write both again with "
                    "one tokenizer and one sequence_tokens"
                )
    return first
