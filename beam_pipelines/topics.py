"""What a corpus is about: a small model that names the topic of each text, for the data card.

    python -m beam_pipelines.topics train LABELLED.jsonl --model topics.bin

LABELLED.jsonl has lines {"text": ..., "label": "finance"}, with labels of your own, twenty texts of
each or more; titles will do. How often it is right is measured on a fifth that it has not seen.
Drops nothing: FilterConfig.topics names the model, and curation counts.

Source: WeLM Fig. 2b, whose topic models are not public.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipelines import text_classifier
from welm_jax.failures import run_door


def load(path: str) -> Any:
    """Opens a model; refuses a path where there is none."""
    return text_classifier.load(path, "topics", "topics")


def name_topics(model: Any, texts: Sequence[str]) -> list[str]:
    """The likeliest topic of each text."""
    return [max(one, key=one.get) for one in text_classifier.probabilities(model, texts)]


def train(labelled: Path, model_file: Path, seed: int) -> dict[str, Any]:
    """Trains a model and measures it.

    Args:
      labelled: the examples.
      model_file: what to write; `.json` beside it gets the report.
      seed: of the draw of each label's share.

    Returns:
      `examples`, `held_out` (counts), `accuracy`, and `topics`: of each `precision` and `recall`.
    """
    examples = text_classifier.read_examples(labelled, (), seed)
    model, held = text_classifier.train(examples)
    named = name_topics(model, [one.text for one in held])
    pairs = [(name, one.label) for name, one in zip(named, held, strict=True)]
    topics = {}
    for topic in text_classifier.labels_of(model):
        right = pairs.count((topic, topic))
        topics[topic] = {
            "precision": round(right / max(named.count(topic), 1), 4),
            "recall": round(right / max(sum(truth == topic for _, truth in pairs), 1), 4),
        }
    report = {
        "accuracy": round(sum(name == truth for name, truth in pairs) / max(len(pairs), 1), 4),
        "topics": topics,
        "examples": len(examples) - len(held),
        "held_out": len(held),
    }
    text_classifier.write(model, report, model_file)
    return report


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    options = text_classifier.parse("beam_pipelines.topics", __doc__, arguments)
    report = train(options.labelled, options.model, options.seed)
    table = Table("topic", "precision", "recall")
    for topic, one in report["topics"].items():
        table.add_row(topic, f"{one['precision']:.3f}", f"{one['recall']:.3f}")
    console = Console()
    console.print(table)
    console.print(f"of {report['held_out']} texts kept out: accuracy {report['accuracy']:.3f}")
    console.print(f"{options.model}: trained on {report['examples']} texts")


if __name__ == "__main__":
    from beam_pipelines.topics import main as named_main

    sys.exit(run_door(named_main, sys.argv[1:], "topics"))
