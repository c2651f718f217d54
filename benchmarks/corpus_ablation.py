"""Does careful cleaning make the model better? The same model on four corpora, cleaned ever more.

    python -m benchmarks.corpus_ablation --raw_dir DIR --folder ablation_run
        --clean news,books --noise web [--steps 400]

The corpora are those of gin_configs/corpus/ablation: raw, rules, + classifier, + dedup. All models
see as many tokens, in the proportions that their corpus has by itself, with one tokenizer, and are
asked about the same text: a part of the sources of --clean, which are trusted for where they come
from and not for what any filter says of them. What shares 17-grams with that text is in none of
the corpora. The classifier learns to tell the sources of --clean from those of --noise. Killed, the
same command goes on with what is not there yet. Ends with a table, FOLDER/ablation.json and .svg.
"""

import argparse
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipelines.document import Document, draw
from beam_pipelines.read_sources import RecordReader, list_inputs
from welm_jax.failures import ArgumentParser, Failure, InputError, run_door
from welm_jax.text.records import METADATA_FILE
from welm_jax.text.tokenizer import document_files, document_texts

ARMS = {"raw": "raw", "rules": "rules", "classifier": "+ classifier", "dedup": "+ dedup"}
HELD_OUT = "held_out"
SEEDS = 3
STUDENT = 4.303  # 97.5 % point of Student's t with two degrees of freedom, for three seeds
LABELLED = 3000  # texts of either label, at most
LEAST_SHARE = 0.002  # of a source in a corpus: fewer are no two sequences in a thousand
WELM = ("-c", "from welm_jax.launch import main; main()")


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    options = _parse(arguments)
    folder = options.folder
    once(folder / "options.json", lambda file: file.write_text(_told(options), encoding="utf-8"))
    if (folder / "options.json").read_text(encoding="utf-8") != _told(options):
        raise InputError(f"{folder} was begun with other options; give another --folder")
    every = sorted(one.name for one in options.raw_dir.iterdir() if one.is_dir())
    link_sources(options.raw_dir, every, folder / "all_raw")
    link_sources(options.raw_dir, options.clean, folder / "clean_raw")
    curate(folder, HELD_OUT)
    once(folder / "evaluation/held_out.jsonl", lambda file: write_held_out(folder, file))
    once(folder / "labelled.jsonl", lambda file: write_labels(options, file))
    classifier = ["train", str(folder / "labelled.jsonl"), "--model", str(folder / "clean.bin")]
    command(folder / "clean.bin", ["-m", "beam_pipelines.clean_classifier", *classifier])
    for arm in ARMS:
        curate(folder, arm)
    tokenizer = gin_flags(folder, "dedup", "CURATED_DIR", "TOKENIZER")
    command(folder / "tokenizer.model", [*WELM, "train_tokenizer", *tokenizer])
    for corpus in (HELD_OUT, *ARMS):
        tokens = gin_flags(folder, corpus, "CURATED_DIR", "TOKENIZER", "TOKENS_DIR")
        command(folder / corpus / "tokens", ["-m", "beam_pipelines.write_tokens", *tokens])
    for seed in range(SEEDS):
        for arm in ARMS:
            train(folder, arm, seed, options.steps)
    runs = {arm: [score(folder, arm, seed) for seed in range(SEEDS)] for arm in ARMS}
    results = {arm: summary(folder, arm, scores) for arm, scores in runs.items()}
    (folder / "ablation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "ablation.svg").write_text(figure(results), encoding="utf-8")
    Console().print(to_table(results))


def link_sources(raw_dir: Path, sources: Sequence[str], folder: Path) -> None:
    """Lays some sources of a corpus out as a corpus of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        link = folder / source
        if not link.is_symlink():
            link.symlink_to((raw_dir / source).resolve(), target_is_directory=True)


def once(file: Path, write: Any) -> None:
    """Has a file written that is not there yet; it appears whole."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}")
        write(temporary)
        temporary.replace(file)


def command(output: Path, rest: Sequence[str]) -> None:
    """Runs a command of the project, printed first, unless its output is there already."""
    if output.exists():
        return
    door = ["welm", *rest[2:]] if rest[:2] == list(WELM) else ["python", *rest]
    Console().print(f"$ {shlex.join(door)}", style="cyan", soft_wrap=True, markup=False)
    status = subprocess.run([sys.executable, *rest]).returncode
    if status:
        raise Failure(f"the command above ended with status {status}; see what it says")


def write_labels(options: argparse.Namespace, file: Path) -> None:
    """Writes texts of the trusted sources as clean and of the others as noise; none held out."""
    held_out, lines = set(held_out_texts(options.folder)), []
    for label in ("clean", "noise"):
        documents = [
            record.outcome
            for raw in list_inputs(str(options.raw_dir), {})
            if raw.source in getattr(options, label)
            for record in RecordReader(raw)
            if isinstance(record.outcome, Document) and record.outcome.text not in held_out
        ]
        documents.sort(key=lambda one: draw(one.doc_id, "labelled"))
        lines += [{"text": one.text, "label": label} for one in documents[:LABELLED]]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file.write_text(text, encoding="utf-8")


def write_held_out(folder: Path, file: Path) -> None:
    """Writes the held-out text as evaluation text, which decontamination keeps out of all arms."""
    texts = held_out_texts(folder)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def held_out_texts(folder: Path) -> list[str]:
    """The text that all models are asked about."""
    parts = document_files(folder / HELD_OUT / "curated", "heldout").values()
    return [text for files in parts for one in files for text in document_texts(one)]


def gin_flags(folder: Path, corpus: str, *macros: str) -> list[str]:
    """The gin file of a corpus, and those of its places that a command asks for.

    What is held out is cleaned by rules and freed of duplicates, but not by the classifier, which
    is on trial; and it has no evaluation text to avoid.
    """
    places = {
        "RAW_DIR": folder / ("clean_raw" if corpus == HELD_OUT else "all_raw"),
        "CLASSIFIER": folder / "clean.bin" if corpus in ("classifier", "dedup") else "",
        "EVALUATION_DIR": "" if corpus == HELD_OUT else folder / "evaluation",
        "CURATED_DIR": folder / corpus / "curated",
        "TOKENIZER": folder / "tokenizer.model",
        "TOKENS_DIR": folder / corpus / "tokens",
    }
    file = f"corpus/ablation/{'dedup' if corpus == HELD_OUT else corpus}.gin"
    return ["--gin_file", file, *(f"--gin.{macro}={places[macro]}" for macro in macros)]


def curate(folder: Path, corpus: str) -> None:
    """Curates one of the corpora."""
    gin = gin_flags(folder, corpus, "RAW_DIR", "CURATED_DIR", "CLASSIFIER", "EVALUATION_DIR")
    command(folder / corpus / "curated", ["-m", "beam_pipelines.curate", *gin])


def rates(folder: Path, arm: str) -> dict[str, float]:
    """The shares that the sources of a corpus have of its tokens by themselves."""
    files = sorted((folder / arm / "tokens").glob(f"*/{METADATA_FILE}"))
    tokens = {
        file.parent.name: json.loads(file.read_text(encoding="utf-8"))["splits"]["train"]["tokens"]
        for file in files
    }
    shares = {source: count / sum(tokens.values()) for source, count in tokens.items()}
    return {source: round(share, 4) for source, share in shares.items() if share >= LEAST_SHARE}


def train(folder: Path, arm: str, seed: int, steps: int) -> None:
    """Trains one model; the seed orders the rows and draws the first weights."""
    run = folder / arm / f"run_{seed}"
    bindings = {
        "TOKENS_DIR": folder / arm / "tokens",
        "TRAIN_STEPS": steps,
        "MixtureConfig.rates": rates(folder, arm),
        "MixtureConfig.seed": seed,
        "LoopConfig.seed": seed,
        "LoopConfig.log_every_steps": 100,
        "LoopConfig.evaluate_every_steps": steps,
        "SpikeConfig.action": "'stop'",
    }
    gin = [f"--gin.{name}={value}" for name, value in bindings.items()]
    ended = run / "checkpoints" / str(steps)
    command(
        ended, [*WELM, "train", "--gin_file", "runs/quickstart.gin", *gin, "--run_dir", str(run)]
    )


def score(folder: Path, arm: str, seed: int) -> dict[str, float]:
    """Bits per character of the held-out text, by source and of all."""
    import jax

    from welm_jax import loaded_run
    from welm_jax.data.token_dataset import read_metadata
    from welm_jax.evaluate import held_out
    from welm_jax.run_files import RunFolder

    loaded = loaded_run.load(RunFolder(folder / arm / f"run_{seed}"))
    files = sorted((folder / HELD_OUT / "tokens").glob(f"*/{METADATA_FILE}"))
    sources = [
        {
            "name": file.parent.name,
            "folder": str(file.parent),
            "fingerprint": read_metadata(file.parent)[1],
        }
        for file in files
    ]
    with jax.set_mesh(loaded.mesh):
        scores = held_out.bits_per_character(
            loaded.assemble,
            loaded.parameters,
            {**loaded.mixture, "sources": sources},
            loaded.masks_documents,
        )
    return {one.source: one.bits_per_character for one in scores}


def summary(folder: Path, arm: str, scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean and 95 % interval over the seeds, with what the corpus had."""
    bits = [one["all"] for one in scores]
    ledger = json.loads((folder / arm / "curated/ledger.json").read_text(encoding="utf-8"))
    kept = [source["totals"]["kept"]["characters"] for source in ledger["sources"].values()]
    return {
        "bits_per_character": round(fmean(bits), 4),
        "half_interval": round(STUDENT * stdev(bits) / math.sqrt(len(bits)), 4),
        "seeds": [round(one, 4) for one in bits],
        "characters_kept": sum(kept),
        "sources": {name: round(fmean(one[name] for one in scores), 4) for name in scores[0]},
    }


def to_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """The figures for the console; ablation.json has them by source too."""
    columns = ("characters kept", "bits per character", "95 % of three seeds")
    table = Table("corpus", *columns, title="Held-out text; lower is better")
    for arm, one in results.items():
        bits, half = f"{one['bits_per_character']:.3f}", f"± {one['half_interval']:.3f}"
        table.add_row(ARMS[arm], f"{one['characters_kept']:,}", bits, half)
    return table


def figure(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A dot and an interval for each corpus, and a small dot for each seed, as SVG."""
    ends = [
        one["bits_per_character"] + sign * one["half_interval"]
        for one in results.values()
        for sign in (-1, 1)
    ]
    low, high = min(ends), max(ends)

    def x(bits: float) -> float:
        return round(140 + 400 * (bits - low) / ((high - low) or 1), 1)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 230" font-family="sans-serif" '
        'font-size="14"><rect width="640" height="230" fill="#fff"/>'
        '<text x="20" y="24">held-out bits per character, mean and 95 % of three seeds</text>'
    ]
    for row, (arm, one) in enumerate(results.items()):
        y, bits, half = 62 + 40 * row, one["bits_per_character"], one["half_interval"]
        dots = "".join(f'<circle cx="{x(b)}" cy="{y + 9}" r="2"/>' for b in one["seeds"])
        parts.append(
            f'<text x="20" y="{y + 5}">{ARMS[arm]}</text>'
            f'<path d="M{x(bits - half)} {y}H{x(bits + half)}" stroke="#2f5d8a" stroke-width="3"/>'
            f'<circle cx="{x(bits)}" cy="{y}" r="6" fill="#b3372b"/>'
            f'<g fill="#667085">{dots}</g><text x="570" y="{y + 5}">{bits:.3f}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _told(options: argparse.Namespace) -> str:
    return json.dumps({name: str(value) for name, value in vars(options).items()})


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.corpus_ablation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter

    def names(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("--raw_dir", type=Path, required=True, help="as curation reads it")
    parser.add_argument("--folder", type=Path, required=True, help="where all goes")
    parser.add_argument("--clean", type=names, required=True, help="trusted sources, by commas")
    parser.add_argument("--noise", type=names, required=True, help="sources that are not")
    parser.add_argument("--steps", type=int, default=400, help="of training, 1,024 tokens each")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_door(main, sys.argv[1:], "corpus_ablation"))
