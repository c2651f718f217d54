"""Writes the data card of a corpus: data_card.json and data_card.html, beside its token datasets.

    python -m beam_pipelines.data_card --gin_file gin_configs/corpus/quickstart.gin

Table 1 of your own corpus with the epochs that a plan implies, lengths, topics, what each stage
took, and texts to read; `welm report` shows the same for what a run was fed. Before there are
tokens, give the folder of the curated documents as TOKENS_DIR. welm_jax.corpus_card makes the card.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beam_pipelines.runner import read_command_line
from welm_jax import corpus_card, pages, run_files
from welm_jax.failures import InputError, run_door
from welm_jax.text.records import LEDGER_FILE
from welm_jax.text.sources import TABLE_1, datasets_in, rates_in_force


@dataclass(frozen=True, kw_only=True)
class DataCardConfig:
    """Which corpus, and how it is to be fed.

    Attributes:
      tokens_dir: folder of the token datasets.
      rates: dataset -> share of the sequences; the paper's unless given.
      planned_tokens: that will be trained on. The paper: "over 300B".
      max_epochs: of a dataset; more call for a warning.
    """

    tokens_dir: str
    rates: Mapping[str, float] = field(
        default_factory=lambda: {name: source.proportion for name, source in TABLE_1.items()}
    )
    planned_tokens: int | float = 300e9
    max_epochs: int | float = corpus_card.MAX_EPOCHS


def write_data_card(config: DataCardConfig) -> corpus_card.Card:
    """Writes the card; returns its content.

    Raises:
      InputError: the folder holds no ledger.
    """
    folder = Path(config.tokens_dir)
    rates = rates_in_force(config.rates, datasets_in(folder))  # as training takes them
    card = corpus_card.content(folder, rates, config.planned_tokens, config.max_epochs)
    if card is None:
        raise InputError(
            f"{folder} holds no {LEDGER_FILE}: give the folder that write_tokens or curate wrote"
        )
    run_files.write_json(folder / "data_card.json", card)
    page = pages.render("data_card_page.html.j2", {"data_card": corpus_card.drawn(card)})
    run_files.write_text(folder / "data_card.html", page)
    return card


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    configs, _, beam_flags = read_command_line(
        "beam_pipelines.data_card", __doc__, arguments, ("DataCardConfig",), {}
    )
    if beam_flags:
        raise InputError(f"{beam_flags[0]} is no option of this command; see --help")
    config = configs["DataCardConfig"]
    for warning in write_data_card(config)["warnings"]:
        print(warning, file=sys.stderr)
    print(f"{config.tokens_dir}: data_card.json and data_card.html")


if __name__ == "__main__":
    sys.exit(run_door(main, sys.argv[1:], "data_card"))
