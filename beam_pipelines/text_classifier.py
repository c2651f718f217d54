"""A small classifier of texts, trained on labelled ones: fastText on characters.

What the clean classifier and the topic model share: how examples are read, balanced and kept out by
whole clusters of near duplicates, how a model is trained, written, opened and asked. Knows nothing
of what the labels mean.
"""

import argparse
import functools
import hashlib
import itertools
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines.characters import folded
from beam_pipelines.dedup import make_keys
from beam_pipelines.near_signatures import SIGNATURES
from beam_pipelines.text_files import json_values
from welm_jax.failures import ArgumentParser, InputError

HELD_OUT = 5  # one cluster in so many
LEAST_OF_A_LABEL = 20
_MOST_CHARACTERS = 2000  # of a text, blanks and marks aside, that are looked at
_PIECE = 3000  # folded at a time: most texts have as many as are looked at in their first piece
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
    """Its first folded characters with a blank between each two, which are words to fastText."""
    codes, _ = folded([text[:_PIECE]])
    for begin in range(_PIECE, len(text), _PIECE):
        if len(codes) >= _MOST_CHARACTERS:
            break
        codes = np.concatenate([codes, folded([text[begin : begin + _PIECE]])[0]])
    return " ".join(codes[:_MOST_CHARACTERS].tobytes().decode("utf-32-le"))


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
    model_file.with_suffix(".json").write_text(
        json.dumps(report, indent=1) + "\n", encoding="utf-8"
    )


def read_examples(path: Path, allowed: Collection[str], seed: int) -> list[Example]:
    """Reads labelled texts: as many of either label, drawn by the seed, in an order by chance.

    Args:
      path: JSONL of `text` and `label`.
      allowed: the labels that there may be; any words without blanks, if empty.
      seed: of the draw.

    Raises:
      InputError: a line is something else, or a label has too few, or too few that differ.
    """
    by_label: dict[str, list[str]] = {label: [] for label in allowed}
    for line, one in json_values(path, _unrepeated):
        try:
            label, text = _label_and_text(one, allowed)
        except ValueError as error:
            raise InputError(
                f'{path} cannot be used (line {line}: {error}); each line is {{"text": ..., '
                '"label": ...}'
            ) from error
        by_label.setdefault(label, []).append(text)
    count = min(map(len, by_label.values()), default=0)
    if count < LEAST_OF_A_LABEL or len(by_label) < 2:
        counts = ", ".join(f"{len(mine)} {label}" for label, mine in by_label.items())
        raise InputError(
            f"{path}: there are {counts or 'none'}; {LEAST_OF_A_LABEL} of each of two labels are "
            "the least"
        )
    drawn = random.Random(seed)
    pairs = [
        (text, label) for label, mine in by_label.items() for text in drawn.sample(mine, count)
    ]
    drawn.shuffle(pairs)
    clusters = find_clusters([text for text, _ in pairs])
    examples = [Example(*pair, cluster) for pair, cluster in zip(pairs, clusters, strict=True)]
    _require_both(examples, path)
    return examples


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object with None for a key that occurs twice, which is wrong only where it is read."""
    counts = Counter(name for name, _ in pairs)
    return {name: value if counts[name] == 1 else None for name, value in pairs}


def _label_and_text(one: Any, allowed: Collection[str]) -> tuple[str, str]:
    """The label and the text of an example; a ValueError says what is wrong with it."""
    label, text = (one.get(name) if isinstance(one, dict) else None for name in ("label", "text"))
    if not isinstance(text, str):
        raise ValueError("text is a string, given once")
    if allowed and label not in allowed:
        raise ValueError(f"the label is one of {', '.join(allowed)}")
    # fastText ends a label at a blank or a control character.
    if not isinstance(label, str) or " " in label or not (label and label.isprintable()):
        raise ValueError("the label is a word without blanks")
    return label, text


def _require_both(examples: Sequence[Example], path: Path) -> None:
    """Refuses a label that would have nothing to learn from, or nothing to be measured on."""
    there = {(one.label, one.cluster % HELD_OUT == 0) for one in examples}
    names = {True: "kept out to measure on", False: "left to train on"}
    for label, is_held in itertools.product(sorted({one.label for one in examples}), names):
        if (label, is_held) not in there:
            groups = len({one.cluster for one in examples if one.label == label})
            raise InputError(
                f"{path}: of the texts of {label} none is {names[is_held]} (groups of near "
                f"duplicates, which stay together: {groups}); add texts of {label} that differ"
            )


def find_clusters(texts: Sequence[str]) -> list[int]:
    """A number for each text, the same for near duplicates, else as good as drawn."""
    names = [hashlib.md5(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
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
