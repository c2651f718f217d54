"""The golden run: the real commands on a small corpus of ours, and their figures as committed.

    python -m tests.golden_run                 compares; ends with 1 if a figure differs
    python -m tests.golden_run --write "WHY"   writes the figures, and WHY into CHANGES.md

Curates, trains a tokenizer, writes tokens, trains over bad batches so that the run goes back once,
and evaluates: a minute on two cores. Each minor version of jax has figures of its own, for another
compiler rounds otherwise. Numbers with a fraction may differ by 1e-5, nothing else may differ.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden"
CHANGES = GOLDEN / "CHANGES.md"
TOLERANCE = 1e-5  # absolute up to 1, relative beyond
LOSSES, PLACE = 20, ("attempt", "step", "cursor")
ANSWER_BEGINS = 8  # characters, of an answer that a near tie may change anywhere
PIECES, SEQUENCE_TOKENS, WINDOW = 900, 32, 256
TASKS = ("c3_0shot", "cmrc2018_0shot")
WELM = ("-c", "from welm_jax.launch import main; main()")
ABSENT = object()  # where one side has no figure of a name
WHAT_TO_DO = """If your change is meant to have this effect, write the figures anew, on each Python:
    python -m tests.golden_run --write "WHAT CHANGED THEM, AND WHY THAT IS RIGHT"
and commit them with the line in tests/golden/CHANGES.md. If it is not, find the fault."""


def commands(folder: Path) -> Iterator[list[str]]:
    """Yields what Python is to run, in order; all that it makes goes to the folder."""
    corpus = ["--gin_file", "corpus/quickstart.gin"]
    curated, tokenizer = f"--gin.CURATED_DIR={folder}/curated", f"--gin.TOKENIZER={folder}/model"
    tokens, run = f"--gin.TOKENS_DIR={folder}/tokens", ["--run_dir", f"{folder}/run"]
    yield [
        *("-m", "beam_pipelines.curate", *corpus, f"--gin.RAW_DIR={GOLDEN}/corpus", curated),
        f"--gin.CurationConfig.evaluation_dir={GOLDEN}/evaluation",
        f"--gin.FilterConfig.offensive_words={GOLDEN}/offensive_words.txt",
        "--gin.CurationConfig.held_out_fraction=0.1",
        "--gin.CurationConfig.max_dead_letters=0.02",
    ]
    sizes = {"vocab_size": PIECES, "character_coverage": 0.98}
    sizes = [f"--gin.TokenizerConfig.{name}={value}" for name, value in sizes.items()]
    yield [*WELM, "train_tokenizer", *corpus, curated, tokenizer, *sizes]
    length = f"--gin.WriteTokensConfig.sequence_tokens={SEQUENCE_TOKENS}"
    yield ["-m", "beam_pipelines.write_tokens", *corpus, curated, tokenizer, tokens, length]
    yield [*WELM, "train", "--gin_file", f"{GOLDEN}/run.gin", *run, tokens]
    yield [*WELM, "evaluate", *run]
    tasks = [f"--task={name}" for name in TASKS]
    sets = ["--data_dir", f"{GOLDEN}/evaluation", "--window", f"{WINDOW}"]
    yield [*WELM, "evaluate", *run, *sets, *tasks]


def figures(folder: Path) -> dict[str, Any]:
    """Runs the commands; returns their figures, which know no machine, path or time."""
    apart = ("XLA_", "JAX_", "LIBTPU_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    for command in commands(folder):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{done.stdout}\nstatus {done.returncode} of python {' '.join(command)}")
    return {
        "curation": _of_curation(folder / "curated"),
        "tokens": _of_tokens(folder / "tokens"),
        "losses": _losses(folder / "run/metrics.jsonl"),
        "recovery_journal": [
            _read(file) for file in sorted((folder / "run/recovery_journal").iterdir())
        ],
        "held_out": _read(folder / "run/held_out.json"),
        "table": {name: _of_task(folder / "run", name) for name in TASKS},
    }


def _of_curation(curated: Path) -> dict[str, Any]:
    """The ledger's digest, and the documents by their fate: they say what a digest cannot."""
    ledger = _read(curated / "ledger.json")
    fates = {
        f"{source}, {stage}, {verdict}": counts["documents"]
        for source, stages in ledger["sources"].items()
        for stage, verdicts in stages.items()
        if stage != "totals"
        for verdict, counts in verdicts.items()
        if verdict != "passed"
    }
    return {"ledger_digest": ledger["digest"], "documents": fates}


def _of_tokens(tokens: Path) -> dict[str, Any]:
    """Digests of the tokenizer and of every file of token rows."""
    digests = {"tokenizer": hashlib.sha256((tokens / "tokenizer.model").read_bytes()).hexdigest()}
    for metadata in sorted(tokens.glob("*/token_metadata.json")):
        for split, content in _read(metadata)["splits"].items():
            [shard] = content["shards"]
            names = ("rows", "sha256", "documents_sha256")
            digests[f"{metadata.parent.name}, {split}"] = {name: shard[name] for name in names}
    return digests


def _losses(metrics: Path) -> dict[str, float | None]:
    """Losses of the first iterations, by their place; null where the loss was not a number."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()[:LOSSES]]
    places = [", ".join(f"{name} {line[name]}" for name in PLACE) for line in lines]
    return {
        f"{number}, {place}": line["loss"]
        for number, (place, line) in enumerate(zip(places, lines, strict=True), start=1)
    }


def _of_task(run: Path, name: str) -> dict[str, Any]:
    """A row of the table, and what it rests on: losses of the choices, or how answers begin."""
    [folder] = (run / "evaluation").iterdir()
    summary = _read(folder / f"{name}.json")
    del summary["weights"]  # the digest of their last bits, which a machine rounds as it likes
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    outcomes = [json.loads(line) for line in lines]
    rests_on = {
        one["id"]: one["losses"]["sum"] if "losses" in one else one["answer"][:ANSWER_BEGINS]
        for one in outcomes
    }
    return {**summary, "rests_on": rests_on}


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def differences(expected: Any, got: Any) -> list[str]:
    """A line for each figure that differs, by its name, with what was expected and what came."""
    ours, theirs = dict(_flat(expected)), dict(_flat(got))
    pairs = {name: (ours.get(name, ABSENT), theirs.get(name, ABSENT)) for name in ours | theirs}
    return [
        f"{name}: expected {_shown(one)}, got {_shown(other)}"
        for name, (one, other) in pairs.items()
        if not _same(one, other)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The figures in a JSON value, each with the names that lead to it."""
    if not isinstance(value, dict | list):
        yield name, value
        return
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for part, one in parts:
        yield from _flat(one, f"{name} / {part}" if name else str(part))


def _shown(figure: Any) -> str:
    return "nothing" if figure is ABSENT else json.dumps(figure, ensure_ascii=False)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
    return type(one) is type(other) and one == other


def figures_file(jax: str) -> Path:
    """The committed figures of a version of jax."""
    return GOLDEN / f"run_jax_{'.'.join(jax.split('.')[:2])}.json"


def changes_line(file: Path, why: str) -> str:
    """The line of CHANGES.md about what is in a file of figures now."""
    return f"- `{file.name}` {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}: {why}\n"


def write(got: Mapping[str, Any], why: str, file: Path, changes: Path) -> None:
    """Writes the figures, and the line that says why they are others than before."""
    file.write_text(json.dumps(got, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with changes.open("a", encoding="utf-8") as lines:
        lines.write(changes_line(file, why))


def main() -> None:
    """The command line; see the top of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", metavar="WHY", help="writes the figures; one line on why")
    parser.add_argument("--folder", help="a new folder, to keep what the commands make")
    options = parser.parse_args()
    if options.write is not None and (not options.write.strip() or "\n" in options.write):
        parser.error("--write takes one line that says what changed the figures, and why")
    with tempfile.TemporaryDirectory(prefix="welm_golden_run_") as temporary:
        got = figures(Path(options.folder or temporary).absolute())
    file = figures_file(version("jax"))
    if not file.exists() and options.write is None:
        sys.exit(f"golden run: there are no figures in {file}\n{WHAT_TO_DO}")
    found = differences(_read(file) if file.exists() else {}, got)
    count = f"{len(found)} figure{'s' * (len(found) != 1)}"
    if not found:
        print(f"golden run: all {len(dict(_flat(got)))} figures are those of {file.name}")
    elif options.write is not None:
        write(got, options.write, file, CHANGES)
        print(f"golden run: {count} written to {file}, and why to {CHANGES}")
    else:
        print(*found, sep="\n")
        differ = "differs" if len(found) == 1 else "differ"
        sys.exit(f"golden run: {count} {differ} from {file.name}\n{WHAT_TO_DO}")


if __name__ == "__main__":
    main()
