"""From raw text to a trained model, an honest figure and a report: the real commands, in order.

Every stage is a command that is printed as a user would type it and run as a process of its own;
nothing here knows how a stage does its work. What a stage finds finished from an earlier time it
does again or goes on with, as it would by hand.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from welm_jax import quickstart_corpus, recovery_report, run_files, subcommands
from welm_jax.failures import ArgumentParser, InputError
from welm_jax.run_files import RunFolder
from welm_jax.text.records import METADATA_FILE
from welm_jax.text.tokenizer import sample_texts

DEFAULT_FOLDER = "quickstart_run"
CORPUS_GIN, RUN_GIN, DRILL_GIN = "corpus/quickstart.gin", "runs/quickstart.gin", "runs/drill.gin"
KINDS = {
    "short": "a few steps only, to see it work",
    "drill": "a very small model and a planted loss spike: watch it found and undone",
}
LAYOUT = "<corpus>/<source>/*.jsonl or *.txt, plain or .gz, with <source> in [a-z0-9_]"
SHORT = ("--gin.TRAIN_STEPS=30", "--gin.WARMUP_STEPS=5")
CORPUS_RECORD = "corpus.json"  # in the folder: the corpus that its runs were made of
# The vocabulary of a user's corpus: 7 * sqrt(bytes), for the text has to fill it (measured on
# novels, news, reviews and English); the most makes it the 5,000 pieces of the gin files.
LEAST_BYTES, MOST_BYTES = 100_000, 510_205
COVERAGE = 0.98  # of characters: with more, single Han would take up a vocabulary so small
LEAST_RATE = 0.005  # of a source in a corpus of the user's: 5 of 1,000 sequences
TEMPERATURE = 0.7  # taking the likeliest, a model this small says one word for ever
PROMPTS = ("本报北京１月１２日讯", "房间很干净，", "却说曹操", 'The "with" statement')
OTHER_PROMPTS = ("今天", "The ")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie; the gin files know the ones under DEFAULT_FOLDER by themselves.

    Attributes:
      folder: holds all that is made.
      corpus: the user's own RAW_DIR, or None for ours.
      kind: of run, one of KINDS or None; each has a run folder of its own.
    """

    folder: Path
    corpus: Path | None
    kind: str | None

    @property
    def macros(self) -> dict[str, Path]:
        """The places that the gin files know, by the names of their macros."""
        return {
            "RAW_DIR": self.corpus or self.folder / "raw",
            "CURATED_DIR": self.folder / "curated",
            "TOKENIZER": self.folder / "tokenizer.model",
            "TOKENS_DIR": self.folder / "tokens",
        }

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / (f"{self.kind}_run" if self.kind else "run")

    def flags(self, *macros: str) -> list[str]:
        """The gin flags of those of the macros that are not what the gin files say."""
        default = replace(self, folder=Path(DEFAULT_FOLDER), corpus=None).macros
        return [
            f"--gin.{macro}={self.macros[macro]}"
            for macro in macros
            if self.macros[macro] != default[macro]
        ]


def main(arguments: Sequence[str]) -> None:
    """Runs the whole path and sums it up."""
    options = _parse(arguments)
    places = Places(
        folder=Path(options.folder),
        corpus=options.corpus and Path(options.corpus),
        kind=options.kind,
    )
    own = places.corpus and own_texts(places.corpus)
    claim(places.folder, own or quickstart_corpus.made_from())
    console, times = Console(highlight=False), []
    with subcommands.ended_by_sigterm():
        for heading, command in stages(places):
            console.rule(f"[bold]{heading}", align="left")
            begin = time.monotonic()
            if command:
                subcommands.run(console, heading, command)
            elif own:
                console.print(f"your own, {len(own)} files in {places.corpus}", markup=False)
            else:
                _build(console, places)
            times.append((heading, time.monotonic() - begin))
            console.print(f"[dim]{times[-1][1]:.1f} s")
    _sum_up(console, places, times)


def stages(places: Places) -> Iterator[tuple[str, list[str]]]:
    """Yields each stage's heading and command; no command for the raw text itself.

    Lazily, for what a user's corpus needs of its own follows from what earlier stages left of it.
    """
    corpus, run = ["--gin_file", CORPUS_GIN], ["--run_dir", str(places.run)]
    yield "Raw text", []
    curate = ["python", "-m", "beam_pipelines.curate", *corpus]
    yield "Curate", [*curate, *places.flags("RAW_DIR", "CURATED_DIR")]
    tokenizer = ["welm", "train_tokenizer", *corpus, *places.flags("CURATED_DIR", "TOKENIZER")]
    run_gin = DRILL_GIN if places.kind == "drill" else RUN_GIN
    train = ["welm", "train", "--gin_file", run_gin, *places.flags("TOKENS_DIR")]
    if places.corpus:
        pieces = own_vocabulary(places)
        own = {"vocab_size": pieces, "character_coverage": COVERAGE}
        tokenizer += [f"--gin.TokenizerConfig.{field}={value}" for field, value in own.items()]
        train += [f"--gin.ModelConfig.vocab_size={pieces}"]
    yield "Train the tokenizer", tokenizer
    tokens = ["python", "-m", "beam_pipelines.write_tokens", *corpus]
    yield "Write tokens", [*tokens, *places.flags("CURATED_DIR", "TOKENIZER", "TOKENS_DIR")]
    if places.corpus:
        train += [f"--gin.MixtureConfig.rates={own_rates(places)}"]
    train += [*(SHORT if places.kind == "short" else ()), *run]
    if places.kind == "drill":
        recover = ["welm", "recover"]
        yield "Train over bad data: the loss jumps, the run goes back and around it", train
        yield "What was decided, and the checkpoints there are", [*recover, "status", *run]
        if RunFolder(places.run).journal.exists():  # on another corpus the drill may not bite
            why = [*recover, "why", "1", *run]
            yield "Data or state? The bad batches again, from two states", why
        yield "Report: the curve, and what was discarded of it", ["welm", "report", *run]
        return
    yield "Train the model", train
    yield "Evaluate on held-out text", ["welm", "evaluate", *run]
    generate = ["welm", "generate", *run, "--temperature", str(TEMPERATURE)]
    for prompt in OTHER_PROMPTS if places.corpus else PROMPTS:
        generate += ["--prompt", prompt]
    yield "Continue texts", generate
    yield "Report", ["welm", "report", *run]


def own_texts(corpus: Path) -> dict[str, str]:
    """Gives the digest of each file of a user's corpus that curation would read, by its name.

    Raises:
      InputError: the folder is absent or holds no such file; says how it is laid out.
    """
    if not corpus.is_dir():
        raise InputError(f"--corpus {corpus} is no folder; lay it out as {LAYOUT}")
    digests = {
        f"{file.parent.name}/{file.name}": quickstart_corpus.sha256(file)
        for file in sorted(corpus.glob("*/*"))
        if file.is_file() and re.fullmatch(r"[^.].*\.(jsonl|txt)(\.gz)?", file.name)
    }
    if not digests:
        raise InputError(f"--corpus {corpus} holds no text; lay it out as {LAYOUT}")
    return digests


def claim(folder: Path, made_from: Mapping[str, int | str]) -> None:
    """Records which corpus a folder is for, before any stage replaces what is in it.

    Raises:
      InputError: a run in it was made of another corpus, and needs the tokens of that one.
    """
    record = folder / CORPUS_RECORD
    if any(folder.glob("*/config.gin")) and not (
        record.exists() and run_files.read_json(record) == made_from
    ):
        raise InputError(f"{folder} holds a run made of another corpus; give another --folder")
    run_files.write_json(record, made_from)


def own_vocabulary(places: Places) -> int:
    """The number of pieces that fits the curated training text of a user's corpus.

    Raises:
      InputError: there is too little of it.
    """
    texts = sample_texts(places.macros["CURATED_DIR"], MOST_BYTES)
    size = sum(len(text.encode()) for text in texts)
    if size < LEAST_BYTES:
        raise InputError(
            f"curation left {size:,} bytes of {places.corpus} to train on; "
            f"give a --corpus that leaves {LEAST_BYTES:,} or more"
        )
    return int(7 * math.sqrt(min(size, MOST_BYTES)))


def own_rates(places: Places) -> dict[str, float]:
    """The mixture of a user's corpus: by tokens, so that all sources are repeated alike.

    A source of which curation left nothing has no token dataset, and no rate.
    """
    tokens = {
        source: json.loads(metadata.read_text(encoding="utf-8"))["splits"]["train"]["tokens"]
        for source in sorted(one.name for one in places.corpus.iterdir())
        if (metadata := places.macros["TOKENS_DIR"] / source / METADATA_FILE).exists()
    }
    shares = {source: count / sum(tokens.values()) for source, count in tokens.items()}
    return {source: max(round(share, 3), LEAST_RATE) for source, share in shares.items()}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="welm quickstart", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--corpus", help=f"your own text instead of ours: {LAYOUT}")
    parser.add_argument(
        "--folder", default=DEFAULT_FOLDER, help=f"where all goes ({DEFAULT_FOLDER})"
    )
    kind = parser.add_mutually_exclusive_group()
    for name, words in KINDS.items():
        kind.add_argument(f"--{name}", action="store_const", const=name, dest="kind", help=words)
    return parser.parse_args(arguments)


def _build(console: Console, places: Places) -> None:
    built = quickstart_corpus.build(places.macros["RAW_DIR"], places.folder / "downloads")
    for source, size in built.items():
        words = f"{size['documents']:,} documents, {size['characters']:,} characters"
        console.print(f"{source:14}{words}: {quickstart_corpus.ORIGINS[source]}")


def _sum_up(console: Console, places: Places, times: Sequence[tuple[str, float]]) -> None:
    console.rule("[bold]Done", align="left")
    for heading, seconds in (*times, ("All", sum(seconds for _, seconds in times))):
        console.print(f"{seconds:8.1f} s  {heading}")
    run, programs = places.run, subcommands.folder_to_type()
    if places.kind == "drill":
        told = recovery_report.told(RunFolder(run))
        told += [f"The bad data was planted by FaultConfig in gin_configs/{DRILL_GIN}."]
        page = "the curve and what was discarded of it, the suspect batches"
        other = "recover --help   (the decisions of any run, and one of your own)"
    else:
        told = [_figure(json.loads((run / "held_out.json").read_text(encoding="utf-8")))]
        page = "curves, data card, figures, samples"
        other = "quickstart --drill   (plants a loss spike: watch it found and undone)"
    console.print("", *told, sep="\n", markup=False, soft_wrap=True)
    console.print(
        f"""
What to do next
  open {run}/report.html: {page}
  {programs}welm generate --run_dir {run} --prompt 春天来了 --temperature 0.7
  {programs}welm {other}
  {programs}tensorboard --logdir {run}/tensorboard   (what training wrote as it went)
  {programs}welm quickstart --corpus DIR --folder my_run   (your own text; --help shows the layout)
  read gin_configs/{CORPUS_GIN} and {RUN_GIN}: larger runs are the same commands with others""",
        markup=False,
        soft_wrap=True,
    )


def _figure(held_out: Mapping) -> str:
    """How good the decoder is on all held-out text, beside the best count model."""
    figure = f"{held_out['all']['bits_per_character']:.3f} bits per character of held-out text"
    others = {name: bits["all"] for name, bits in held_out["count_models"].items()}
    if not others:  # the text was too large to count
        return figure
    best = min(others, key=others.get)
    return f"{figure}; best count model {others[best]:.3f} ({best})"
