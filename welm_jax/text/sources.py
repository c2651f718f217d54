"""Which text is trained on and how much of each source: Table 1 as data, and ours to choose.

Owns the paper's figures and what gin may say of a mixture. Deliberately does not know seqio, which
compiles it (tasks.pretraining), so that a run can read its own configuration without TensorFlow.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from welm_jax.run_files import literal
from welm_jax.text.records import METADATA_FILE


@dataclass(frozen=True, kw_only=True)
class PaperSource:
    """One row of Table 1.

    Attributes:
      filtered_percent: share of the raw source that curation removed, 0 to 100; the paper does
        not say of which unit.
      remaining_tokens: tokens left after curation.
      proportion: share of the sequences seen in pre-training; the five add up to 1.
    """

    filtered_percent: float
    remaining_tokens: float
    proportion: float


# Source: WeLM, Table 1.
TABLE_1: Mapping[str, PaperSource] = MappingProxyType(
    {
        "common_crawl": PaperSource(
            filtered_percent=92.0, remaining_tokens=198.5e9, proportion=0.506
        ),
        "books": PaperSource(filtered_percent=40.9, remaining_tokens=61.9e9, proportion=0.387),
        "news": PaperSource(filtered_percent=7.5, remaining_tokens=1.91e9, proportion=0.067),
        "forums": PaperSource(filtered_percent=6.7, remaining_tokens=1.0e9, proportion=0.035),
        "academic": PaperSource(filtered_percent=2.5, remaining_tokens=0.39e9, proportion=0.005),
    }
)

OURS = "welm_pretraining"


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Which sources are trained on, and how much of each.

    Attributes:
      tokens_dir: folder of token datasets, one a source, as beam_pipelines.write_tokens wrote it.
      mixture: a registered seqio Mixture; `welm_pretraining` is made from `rates`, any other must
        be registered by a module of `--import` and keeps the rates that it has.
      rates: source -> share of the sequences; need not add up to 1. Table 1's unless given. Where
        tokens_dir holds one dataset and no rate names it, that one is trained on alone.
      seed: orders the rows of each source.
    """

    tokens_dir: str
    mixture: str = OURS
    rates: Mapping[str, float] = field(
        default_factory=lambda: {name: source.proportion for name, source in TABLE_1.items()}
    )
    seed: int = 0


def datasets_in(tokens_dir: os.PathLike | str) -> list[str]:
    """The names of the token datasets in a folder."""
    folder = literal(tokens_dir)
    if not folder.is_dir():
        return []
    return sorted(one.name for one in folder.iterdir() if (one / METADATA_FILE).exists())


def rates_in_force(rates: Mapping[str, float], datasets: Collection[str]) -> Mapping[str, float]:
    """The rates as given, or the one dataset that there is alone, if no rate names it.

    So that a corpus of one source is trained on without a thought for rates.
    """
    if len(datasets) == 1 and not rates.keys() & {*datasets}:
        return dict.fromkeys(datasets, 1.0)
    return rates
