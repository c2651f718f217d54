"""The paper's classifier: the probability that a text is clean.

    python -m beam_pipelines.clean_classifier train LABELLED.jsonl --model clean.bin

LABELLED.jsonl has lines {"text": ..., "label": "clean" or "noise"}. As many of either label are
trained on; a fifth is kept out, whole clusters of near duplicates at a time, and what the
probabilities are worth there is printed and written beside the model. Knows nothing of stages.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipelines import text_classifier
from beam_pipelines.text_classifier import Example
from welm_jax.failures import InputError, run_door

LABELS = ("clean", "noise")
THRESHOLD = 0.9


def load(path: str) -> Any:
    """Opens a model.

    Raises:
      InputError: there is none, or it tells other things apart.
    """
    model = text_classifier.load(path, "clean_classifier", "classifier")
    labels = text_classifier.labels_of(model)
    if labels != list(LABELS):
        raise InputError(f"{path} tells {', '.join(labels)} apart, not clean from noise")
    return model


def clean_probabilities(model: Any, texts: Sequence[str]) -> list[float]:
    """The probability that each text is clean."""
    return [chances["clean"] for chances in text_classifier.probabilities(model, texts)]


def train(labelled: Path, model_file: Path, seed: int) -> dict[str, Any]:
    """Trains a model and measures it.

    Args:
      labelled: the examples.
      model_file: what to write; `.json` beside it gets the report.
      seed: of the draw of either label's share.

    Returns:
      `examples`, `held_out` (counts); `accuracy`; `precision` and `recall` above 0.9; and
      `calibration`: for ten bins of the probability how many texts, its mean and the share clean.
    """
    examples = text_classifier.read_examples(labelled, LABELS, seed)
    model, held = text_classifier.train(examples)
    counts = {"examples": len(examples) - len(held), "held_out": len(held)}
    report = _measured(model, held) | counts
    text_classifier.write(model, report, model_file)
    return report


def _measured(model: Any, held: Sequence[Example]) -> dict[str, Any]:
    chances = clean_probabilities(model, [one.text for one in held])
    truths = [one.label == "clean" for one in held]
    pairs = list(zip(chances, truths, strict=True))
    kept = [truth for chance, truth in pairs if chance > THRESHOLD]
    bins = []
    for low in range(10):
        mine = [pair for pair in pairs if min(int(pair[0] * 10), 9) == low]
        mean, share = map(fmean, zip(*mine or [(0, 0)], strict=True))
        bins.append({"texts": len(mine), "probability": round(mean, 3), "clean": round(share, 3)})
    right = sum((chance > 0.5) == truth for chance, truth in pairs)
    return {
        "accuracy": round(right / max(len(pairs), 1), 4),
        "precision": round(sum(kept) / max(len(kept), 1), 4),
        "recall": round(sum(kept) / max(sum(truths), 1), 4),
        "calibration": bins,
    }


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    options = text_classifier.parse("beam_pipelines.clean_classifier", __doc__, arguments)
    report = train(options.labelled, options.model, options.seed)
    table = Table("probability", "texts", "said on average", "clean in truth")
    for low, one in enumerate(report["calibration"]):
        table.add_row(
            f"{low / 10:.1f}", f"{one['texts']}", f"{one['probability']}", f"{one['clean']}"
        )
    console = Console()
    console.print(table)
    console.print(
        f"of {report['held_out']} texts kept out: accuracy {report['accuracy']:.3f}; above "
        f"{THRESHOLD}: precision {report['precision']:.3f}, recall {report['recall']:.3f}"
    )
    console.print(f"{options.model}: trained on {report['examples']} texts")


if __name__ == "__main__":
    from beam_pipelines.clean_classifier import main as named_main

    sys.exit(run_door(named_main, sys.argv[1:], "clean_classifier"))
