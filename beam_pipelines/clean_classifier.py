"""The paper's classifier: the probability that a text is clean, by fastText on characters.

    python -m beam_pipelines.clean_classifier train LABELLED.jsonl --model clean.bin

LABELLED.jsonl has lines {"text": ..., "label": "clean" or "noise"}. As many of either label are
trained on; a fifth is kept out, whole clusters of near duplicates at a time, and what the
probabilities are worth there is printed and written beside the model. Knows nothing of stages.
"""

import functools
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipelines.characters import folded
from beam_pipelines.dedup import make_keys
from beam_pipelines.near_signatures import SIGNATURES
from welm_jax.failures import ArgumentParser, InputError, run_door

LABELS = ("clean", "noise")
HELD_OUT = 5  # one cluster in so many
THRESHOLD = 0.9
_LEAST_OF_A_LABEL = 20
_MOST_CHARACTERS = 2000  # of a text that are looked at
# Characters in place of words: fastText's own defaults know blanks only, and are at chance.
_TRAINING = {"wordNgrams": 2, "minn": 0, "maxn": 0, "dim": 32, "epoch": 10, "lr": 0.5}
_TRAINING |= {"bucket": 1 << 20, "thread": 1, "seed": 0, "verbose": 0}  # one thread: repeatable


@functools.cache
def load(path: str) -> Any:
    """Opens a model.

    Raises:
      InputError: there is none, or it is not of this module's making.
    """
    import fasttext

    if not Path(path).is_file():
        raise InputError(
            f"no classifier at {path}; make it with `python -m beam_pipelines.clean_classifier "
            "train`, or leave FilterConfig.classifier empty"
        )
    model = fasttext.load_model(path)
    if sorted(model.labels) != [f"__label__{label}" for label in LABELS]:
        raise InputError(f"{path} tells {', '.join(model.labels)} apart, not clean from noise")
    return model


def clean_probabilities(model: Any, texts: Sequence[str]) -> list[float]:
    """The probability that each text is clean."""
    if not texts:
        return []
    labels, chances = model.predict([_characters(text) for text in texts], k=2)
    return [
        float(dict(zip(names, mine, strict=True)).get("__label__clean", 0.0))
        for names, mine in zip(labels, chances, strict=True)
    ]


def _characters(text: str) -> str:
    """Its folded characters with a blank between each two, which are words to fastText."""
    codes, _ = folded([text[:_MOST_CHARACTERS]])
    return " ".join(map(chr, codes))


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
    import fasttext

    examples = _balanced(_read(labelled), seed)
    held = [one for one in examples if one["cluster"] % HELD_OUT == 0]
    kept = [one for one in examples if one["cluster"] % HELD_OUT]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        lines.write_text(
            "".join(f"__label__{one['label']} {_characters(one['text'])}\n" for one in kept)
        )
        model = fasttext.train_supervised(input=str(lines), **_TRAINING)
    report = _measured(model, held) | {"examples": len(kept), "held_out": len(held)}
    temporary = model_file.with_name(f".{model_file.name}")
    model.save_model(str(temporary))
    os.replace(temporary, model_file)
    model_file.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _read(path: Path) -> list[dict[str, Any]]:
    examples = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                one = json.loads(line)
                if one["label"] not in LABELS or not isinstance(one["text"], str):
                    raise ValueError(f"line {number}: the label is one of {', '.join(LABELS)}")
                examples.append({"text": one["text"], "label": one["label"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{path} cannot be used ({error}); each line is {{"text": ..., "label": "clean" or '
            '"noise"}'
        ) from error
    return examples


def _balanced(examples: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """As many examples of either label, in an order by chance, each with its cluster's number."""
    drawn = random.Random(seed)
    by_label = {label: [one for one in examples if one["label"] == label] for label in LABELS}
    count = min(map(len, by_label.values()))
    if count < _LEAST_OF_A_LABEL:
        counts = ", ".join(f"{len(mine)} {label}" for label, mine in by_label.items())
        raise InputError(f"there are {counts}; {_LEAST_OF_A_LABEL} of either are the least")
    chosen = [one for mine in by_label.values() for one in drawn.sample(mine, count)]
    drawn.shuffle(chosen)
    clusters = _clusters([one["text"] for one in chosen])
    return [{**one, "cluster": cluster} for one, cluster in zip(chosen, clusters, strict=True)]


def _clusters(texts: Sequence[str]) -> list[int]:
    """A number for each text, the same for near duplicates, else as good as drawn."""
    names = [hashlib.md5(text.encode()).hexdigest() for text in texts]
    keys = make_keys(texts, names, 0, 0, SIGNATURES["minhash"])
    parent = list(range(len(texts)))

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    first: dict[tuple, int] = {}
    for at, key in enumerate(keys):
        bands = [(n, int(band)) for n, band in enumerate(key["bands"]) if band]
        for shared in (("exact", *key["exact"].tolist()), *bands):
            parent[root(at)] = root(first.setdefault(shared, at))
    return [int(names[root(at)][:8], 16) for at in range(len(texts))]


def _measured(model: Any, held: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chances = clean_probabilities(model, [one["text"] for one in held])
    truths = [one["label"] == "clean" for one in held]
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
    parser = ArgumentParser(prog="python -m beam_pipelines.clean_classifier", description=__doc__)
    parser.add_argument("action", choices=["train"])
    parser.add_argument("labelled", type=Path, metavar="LABELLED.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    options = parser.parse_args(arguments)
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
