"""Held-out bits per character: how well a decoder predicts text that it was not trained on.

The convention is count_models': every end mark is predicted and charged, the denominator is the
characters of the text. A document is read as training reads it, in packed rows that a row's end
cuts and in which it sees the document before, unless the run masks documents.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree
from rich.table import Table
from rich.text import Text

from welm_jax.data.batches import batch_of_rows
from welm_jax.data.token_dataset import TokenDataset, open_source, read_metadata
from welm_jax.failures import InputError
from welm_jax.model.decoder import Assembler
from welm_jax.train import step

ROWS_PER_DEVICE = 8
MOST_CHUNKS = 16  # of a row, whose logits exist one after the other
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class HeldOutScore:
    """What the held-out text of a source costs the decoder.

    Attributes:
      source: its name, or "all" for the text of all sources as one.
      bits_per_character: bits of all tokens, end marks too, over the characters.
      tokens: targets scored, end marks too.
      characters: of their text; where only some rows were scored, the split's characters times
        the share of its tokens that were.
      loss: nats per token.
    """

    source: str
    bits_per_character: float
    tokens: int
    characters: float
    loss: float


def bits_per_character(
    assemble: Assembler,
    parameters: PyTree,
    mixture: Mapping[str, Any],
    masks_documents: bool,
    max_rows: int | None = None,
) -> list[HeldOutScore]:
    """Scores the held-out split of each source of a mixture, under the mesh that is set.

    Args:
      assemble: puts the parameters into a decoder; pass the same object each time, for the
        compiled step is kept by it.
      parameters: float32 weights, on the mesh.
      mixture: the content of mixture.json.
      masks_documents: see StepConfig; as the parameters were trained.
      max_rows: rows of each split to score, the first ones; all of them unless given. Documents
        lie in random order, so that the first rows are a fair sample; "all" then weighs the
        sources by the rows scored.

    Returns:
      A score for each source that has held-out text, and last the one of all.

    Raises:
      InputError: no source has any.
    """
    scores, nats = [], []
    for source in sources_with_text(mixture):
        dataset = open_source(source, "heldout")
        rows = len(dataset) if max_rows is None else min(max_rows, len(dataset))
        source_nats, tokens = _nats_and_tokens(assemble, parameters, dataset, rows, masks_documents)
        split = dataset.metadata.splits["heldout"]
        characters = split.characters * tokens / split.tokens
        scores.append(_score(source["name"], source_nats, tokens, characters))
        nats.append(source_nats)
    if not scores:
        raise InputError("no source has held-out text; curate with a larger held_out_fraction")
    tokens, characters = (
        sum(getattr(score, name) for score in scores) for name in ("tokens", "characters")
    )
    return [*scores, _score(ALL, sum(nats), tokens, characters)]


def sources_with_text(mixture: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sources that have a held-out split: one of a single document has nothing to hold out."""
    return [
        source
        for source in mixture["sources"]
        if "heldout" in read_metadata(source["folder"])[0].splits
    ]


def table(result: Mapping[str, Any]) -> Table:
    """The content of held_out.json: a row a model, a column a source, the best in bold."""
    decoder = {name: one["bits_per_character"] for name, one in result["sources"].items()}
    decoder[ALL] = result["all"]["bits_per_character"]
    models = {**result["count_models"], f"this model, step {result['step']}": decoder}
    shown = Table("bits per character", title="Held-out text; lower is better")
    for source in decoder:
        shown.add_column(source, justify="right")
    best = {source: min(bits[source] for bits in models.values()) for source in decoder}

    def cell(bits: float, source: str) -> Text:
        return Text(f"{bits:.3f}", "bold" if bits == best[source] else "")

    for name, bits in models.items():
        shown.add_row(name, *(cell(bits[source], source) for source in decoder))
    return shown


def _score(source: str, nats: float, tokens: int, characters: float) -> HeldOutScore:
    return HeldOutScore(
        source=source,
        bits_per_character=nats / math.log(2) / characters,
        tokens=tokens,
        characters=characters,
        loss=nats / tokens,
    )


def _nats_and_tokens(
    assemble: Assembler,
    parameters: PyTree,
    dataset: TokenDataset,
    rows: int,
    masks_documents: bool,
) -> tuple[float, int]:
    """What the first rows of a dataset cost, and how many targets they hold."""
    mesh, metadata = jax.sharding.get_mesh(), dataset.metadata
    batch_size = ROWS_PER_DEVICE * mesh.shape["data"] * mesh.shape["fsdp"]
    chunks = math.gcd(metadata.sequence_tokens, MOST_CHUNKS)
    nats, tokens = 0.0, 0
    for first in range(0, rows, batch_size):
        read = dataset.__getitems__(range(first, min(first + batch_size, rows)))
        missing = batch_size - len(read)  # one compiled step serves all batches
        full = np.pad(read, ((0, missing), (0, 0)), constant_values=metadata.pad_id)
        batch = batch_of_rows(full, metadata.pad_id, metadata.eod_id, masks_documents)
        tokens += int(batch["decoder_loss_weights"].sum())
        placed = step.on_mesh(batch, mesh)
        nats += float(_summed_loss(assemble, parameters, placed, chunks, masks_documents))
    return nats, tokens


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _summed_loss(
    assemble: Assembler, parameters: PyTree, batch: step.Batch, chunks: int, masks_documents: bool
) -> Float[Array, ""]:
    how = {"remat": "none", "chunks": chunks, "masks_documents": masks_documents}
    return step.summed_loss(assemble(parameters), batch, **how)
