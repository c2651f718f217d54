"""From raw text to a trained model, an honest figure and a report: the real commands, in order.

Every stage is a command that is printed as a user would type it and run as a process of its own;
nothing here knows how a stage does its work. What a stage finds finished from an earlier time it
does again or goes on with, as it would by hand.
"""

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from welm_jax import quickstart_corpus
from welm_jax.failures import Failure, InputError, StopAndLook

DEFAULT_FOLDER = "quickstart_run"
CORPUS_GIN, RUN_GIN = "corpus/quickstart.gin", "runs/quickstart.gin"
LAYOUT = "<corpus>/<source>/*.jsonl or *.txt, plain or .gz, with <source> in [a-z0-9_]"
SHORT = ("--gin.TRAIN_STEPS=30", "--gin.WARMUP_STEPS=5")
LEAST_RATE = 0.005  # of a source in a corpus of the user's: 5 of 1,000 sequences
TEMPERATURE = 0.7  # taking the likeliest, a model this small says one word for ever
PROMPTS = {
    "news": "本报北京１月１２日讯",
    "forums": "房间很干净，",
    "books": "却说曹操",
    "english_docs": 'The "with" statement',
}
OTHER_PROMPTS = {"Chinese": "今天", "English": "The "}


class StageFailed(Failure):
    """A command ended badly and has told why; its status is passed on."""

    def __init__(self, heading: str, status: int):
        how = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        super().__init__(f"{heading}: the command above {how}; see what it says, then start again")
        self.status = status if status > 0 else StopAndLook.status


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie; the gin files know the ones under DEFAULT_FOLDER by themselves.

    Attributes:
      folder: holds all that is made.
      corpus: the user's own RAW_DIR, or None for ours.
      run_name: name of the run folder; a short run is another run.
    """

    folder: Path
    corpus: Path | None
    run_name: str

    @property
    def raw(self) -> Path:
        """RAW_DIR."""
        return self.corpus or self.folder / "raw"

    @property
    def tokens(self) -> Path:
        """TOKENS_DIR."""
        return self.folder / "tokens"

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / self.run_name

    @property
    def sources(self) -> list[str]:
        """The folders of the raw corpus."""
        return sorted(one.name for one in self.raw.iterdir() if one.is_dir())

    def flags(self, *macros: str) -> list[str]:
        """The gin flags of those of the macros that are not what the gin files say."""
        values = {
            "RAW_DIR": self.raw,
            "CURATED_DIR": self.folder / "curated",
            "TOKENIZER": self.folder / "tokenizer.model",
            "TOKENS_DIR": self.tokens,
        }
        return [
            f"--gin.{macro}={values[macro]}"
            for macro in macros
            if Path(DEFAULT_FOLDER) not in values[macro].parents
        ]


def main(arguments: Sequence[str]) -> None:
    """Runs the whole path and sums it up."""
    options = _parse(arguments)
    places = Places(
        folder=Path(options.folder),
        corpus=options.corpus and Path(options.corpus),
        run_name="short_run" if options.short else "run",
    )
    console, times = Console(highlight=False), []
    for heading, command in stages(places, options.short):
        console.rule(f"[bold]{heading}", align="left")
        begin = time.monotonic()
        if command:
            _run(console, heading, command)
        elif places.corpus:
            check_layout(places.corpus)
            console.print(f"your own, from {places.corpus}", markup=False)
        else:
            built = quickstart_corpus.build(places.raw, places.folder / "downloads")
            for source, size in built.items():
                words = f"{size['documents']:,} documents, {size['characters']:,} characters"
                console.print(f"{source:14}{words}: {quickstart_corpus.ORIGINS[source]}")
        times.append((heading, time.monotonic() - begin))
        console.print(f"[dim]{times[-1][1]:.1f} s")
    _sum_up(console, places, times)


def stages(places: Places, short: bool) -> Iterator[tuple[str, list[str]]]:
    """Yields each stage's heading and command as typed; no command for the raw text itself.

    Lazily, for the mixture of a user's corpus follows from the tokens that were written.
    """
    corpus, run = ["--gin_file", CORPUS_GIN], ["--run_dir", str(places.run)]
    yield "Raw text", []
    curate = ["python", "-m", "beam_pipelines.curate", *corpus]
    yield "Curate", [*curate, *places.flags("RAW_DIR", "CURATED_DIR")]
    tokenizer = ["welm", "train_tokenizer", *corpus]
    yield "Train the tokenizer", [*tokenizer, *places.flags("CURATED_DIR", "TOKENIZER")]
    tokens = ["python", "-m", "beam_pipelines.write_tokens", *corpus]
    yield "Write tokens", [*tokens, *places.flags("CURATED_DIR", "TOKENIZER", "TOKENS_DIR")]
    train = ["welm", "train", "--gin_file", RUN_GIN, *places.flags("TOKENS_DIR")]
    train += [*_own_rates(places), *(SHORT if short else ())]
    yield "Train the model", [*train, *run]
    yield "Evaluate on held-out text", ["welm", "evaluate", *run]
    for kind, prompt in (OTHER_PROMPTS if places.corpus else PROMPTS).items():
        generate = ["welm", "generate", *run, "--temperature", str(TEMPERATURE)]
        yield f"Continue a text: {kind}", [*generate, "--prompt", prompt]
    yield "Report", ["welm", "report", *run]


def check_layout(corpus: Path) -> None:
    """Refuses a corpus without any file that curation would read.

    Raises:
      InputError: the folder is absent or holds no such file; says how it is laid out.
    """
    if not corpus.is_dir():
        raise InputError(f"--corpus {corpus} is no folder; lay it out as {LAYOUT}")
    if not any(re.search(r"\.(jsonl|txt)(\.gz)?$", file.name) for file in corpus.glob("*/*")):
        raise InputError(f"--corpus {corpus} holds no text; lay it out as {LAYOUT}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="welm quickstart", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--corpus", help=f"your own text instead of ours: {LAYOUT}")
    parser.add_argument(
        "--folder", default=DEFAULT_FOLDER, help=f"where all goes ({DEFAULT_FOLDER})"
    )
    parser.add_argument("--short", action="store_true", help="a few steps only, to see it work")
    return parser.parse_args(arguments)


def _run(console: Console, heading: str, command: Sequence[str]) -> None:
    console.print(f"$ {escape(shlex.join(command))}", style="cyan", soft_wrap=True)
    program, *rest = command
    door = ["-c", "from welm_jax.launch import main; main()"] if program == "welm" else []
    # Control-C reaches the command too, which saves what it has; we wait for it to end.
    former = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.run([sys.executable, *door, *rest]).returncode
    finally:
        signal.signal(signal.SIGINT, former)
    if status:
        raise StageFailed(heading, status)


def _own_rates(places: Places) -> list[str]:
    """The mixture of a user's corpus: by tokens, so that all sources are repeated alike."""
    if places.corpus is None:
        return []
    tokens = {
        source: split["tokens"]
        for source in places.sources
        if (split := _train_split(places.tokens / source))
    }
    shares = {name: count / sum(tokens.values()) for name, count in tokens.items()}
    rates = {name: max(round(share, 3), LEAST_RATE) for name, share in shares.items()}
    return [f"--gin.MixtureConfig.rates={rates}"]


def _train_split(dataset: Path) -> dict | None:
    """What a token dataset says of its train split; None if curation left nothing to write."""
    file = dataset / "token_metadata.json"
    return json.loads(file.read_text())["splits"].get("train") if file.exists() else None


def _sum_up(console: Console, places: Places, times: Sequence[tuple[str, float]]) -> None:
    console.rule("[bold]Done", align="left")
    spent = Table("stage", title="Time")
    spent.add_column("seconds", justify="right")
    for heading, seconds in times:
        spent.add_row(heading, f"{seconds:.1f}")
    spent.add_row("all", f"{sum(seconds for _, seconds in times):.1f}", style="bold")
    console.print(spent)
    console.print(_figures(places))
    run = places.run
    console.print(
        f"""
What to do next
  open {run}/report.html: curves, data card, figures, samples
  welm generate --run_dir {run} --prompt 春天来了 --temperature 0.7
  tensorboard --logdir {run}/tensorboard   (what training wrote as it went)
  welm quickstart --corpus DIR --folder my_run   (your own text; --help shows the layout)
  read gin_configs/{CORPUS_GIN} and {RUN_GIN}: a pod runs the same commands with others""",
        markup=False,
        soft_wrap=True,
    )


def _figures(places: Places) -> Table:
    """Documents and tokens of each source, and the decoder beside the best count model."""
    held_out = json.loads((places.run / "held_out.json").read_text())
    table = Table("source", title="Training text, and bits per character of held-out text")
    for column in ("documents", "tokens", "this model", "best count model"):
        table.add_column(column, justify="right")
    splits = {name: _train_split(places.tokens / name) for name in held_out["sources"]}
    totals = {
        unit: sum(split[unit] for split in splits.values()) for unit in ("documents", "tokens")
    }
    scores = {**held_out["sources"], "all": held_out["all"]}
    for name, split in {**splits, "all": totals}.items():
        others = [bits[name] for bits in held_out["count_models"].values()]
        table.add_row(
            name,
            f"{split['documents']:,}",
            f"{split['tokens']:,}",
            f"{scores[name]['bits_per_character']:.3f}",
            f"{min(others):.3f}" if others else "too large to count",
        )
    return table
