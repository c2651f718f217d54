"""Table 1 of the paper as data: its text sources, what remained of each, its share of training.

Owns the paper's figures. Deliberately does not know our corpora: their rates come from gin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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
        "forum": PaperSource(filtered_percent=6.7, remaining_tokens=1.0e9, proportion=0.035),
        "academic": PaperSource(filtered_percent=2.5, remaining_tokens=0.39e9, proportion=0.005),
    }
)
