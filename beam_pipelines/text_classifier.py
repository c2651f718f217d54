"""A small classifier of texts, trained on labelled ones: fastText on characters.

What the clean classifier and the topic model share: how examples are read, balanced and kept out by
whole clusters of near duplicates, how a model is trained, written, opened and asked. Knows nothing
of what the labels mean.
"""

import argparse
import functools
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from beam_pipelines.characters import folded
from beam_pipelines.dedup import make_keys
from beam_pipelines.near_signatures import SIGNATURES
from welm_jax.failures import ArgumentParser, InputError

HELD_OUT = 5  # one cluster in so many
LEAST_OF_A_LABEL = 20
_MOST_CHARACTERS = 2000  # of a text that are looked at
_PREFIX = "__label__"
# Characters in place of words: fastText's own defaults know blanks only, and are at chance.
_TRAINING = {"wordNgrams": 2, "minn": 0, "maxn": 0, "dim": 32, "epoch": 10, "lr": 0.5}
_TRAINING |= {"bucket": 1 << 20, "thread": 1, "seed": 0, "verbose": 0}  # one thread: repeatable


class Example(NamedTuple):
    """A labelled text; near duplicates are of one cluster."""

    text: str
    label: str
    cluster: int


def load(path: str, module: str, field: str) -> Any:
    """Opens a model file; where there is none, says which module makes it and which field asks."""
    if not Path(path).is_file():
        raise InputError(
            f"no model at {path}; make it with `python -m beam_pipelines.{module} train`, or leave "
            f"FilterConfig.{field} empty"
        )
    return _load(path, Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _load(path: str, _changed: int) -> Any:
    import fasttext

    return fasttext.load_model(path)


def labels_of(model: Any) -> list[str]:
    """The labels that a model tells apart, in order."""
    return sorted(label.removeprefix(_PREFIX) for label in model.labels)


def probabilities(model: Any, texts: Sequence[str]) -> list[dict[str, float]]:
    """The probability of each label for each text."""
    if not texts:
        return []
    labels, chances = model.predict([_characters(text) for text in texts], k=len(model.labels))
    return [
        {name.removeprefix(_PREFIX): float(one) for name, one in zip(*pair, strict=True)}
        for pair in zip(labels, chances, strict=True)
    ]


def _characters(text: str) -> str:
    """Its folded characters with a blank between each two, which are words to fastText."""
    codes, _ = folded([text[:_MOST_CHARACTERS]])
    return " ".join(map(chr, codes))


def train(examples: Sequence[Example]) -> tuple[Any, list[Example]]:
    """Trains a model on all clusters but one in HELD_OUT; returns it and the examples of those."""
    import fasttext

    held = [one for one in examples if one.cluster % HELD_OUT == 0]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        lines.write_text(
            "".join(
                f"{_PREFIX}{one.label} {_characters(one.text)}\n"
                for one in examples
                if one.cluster % HELD_OUT
            ),
            encoding="utf-8",
        )
        return fasttext.train_supervised(input=str(lines), **_TRAINING), held


def write(model: Any, report: Mapping[str, Any], model_file: Path) -> None:
    """Writes a model, and its report beside it; each appears whole."""
    temporary = model_file.with_name(f".{model_file.name}")
    model.save_model(str(temporary))
    os.replace(temporary, model_file)
    model_file.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


def read_examples(path: Path, allowed: Collection[str], seed: int) -> list[Example]:
    """Reads labelled texts: as many of either label, drawn by the seed, in an order by chance.

    Args:
      path: JSONL of `text` and `label`.
      allowed: the labels that there may be; any words without blanks, if empty.
      seed: of the draw.

    Raises:
      InputError: a line is something else, or a label has too few.
    """
    by_label: dict[str, list[str]] = {label: [] for label in allowed}
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                one = json.loads(line)
                text, label = one["text"], one["label"]
                if not isinstance(text, str) or not _may_be(label, allowed):
                    words = f"one of {', '.join(allowed)}" if allowed else "a word without blanks"
                    raise ValueError(f"line {number}: the label is {words}")
                by_label.setdefault(label, []).append(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{path} cannot be used ({error}); each line is {{"text": ..., "label": ...}}'
        ) from error
    count = min(map(len, by_label.values()), default=0)
    if count < LEAST_OF_A_LABEL or len(by_label) < 2:
        counts = ", ".join(f"{len(mine)} {label}" for label, mine in by_label.items())
        raise InputError(
            f"there are {counts or 'none'}; {LEAST_OF_A_LABEL} of each of two labels are the least"
        )
    drawn = random.Random(seed)
    pairs = [
        (text, label) for label, mine in by_label.items() for text in drawn.sample(mine, count)
    ]
    drawn.shuffle(pairs)
    clusters = find_clusters([text for text, _ in pairs])
    if len({cluster % HELD_OUT == 0 for cluster in clusters}) == 1:
        raise InputError(f"{path} has too few texts that are no near duplicates of one another")
    return [Example(*pair, cluster) for pair, cluster in zip(pairs, clusters, strict=True)]


def _may_be(label: Any, allowed: Collection[str]) -> bool:
    if not isinstance(label, str):
        return False
    return label in allowed if allowed else bool(label) and not any(map(str.isspace, label))


def find_clusters(texts: Sequence[str]) -> list[int]:
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


def parse(prog: str, description: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of a module that trains such a model: `labelled`, `model`, `seed`."""
    parser = ArgumentParser(
        prog=f"python -m {prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["train"])
    parser.add_argument("labelled", type=Path, metavar="LABELLED.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    return parser.parse_args(arguments)
