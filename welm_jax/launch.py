"""The one door: `welm <verb>`. Imports a floor only when the verb needs it."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from welm_jax import gin_files
from welm_jax.configurables import CORPUS, TRAINING
from welm_jax.failures import ArgumentParser, InputError, Preempted, run_door
from welm_jax.run_files import RunFolder


def main() -> None:
    """Entry point of the `welm` command."""
    signal.signal(signal.SIGTERM, _preempted)  # until training, which saves first
    sys.exit(run_door(dispatch, sys.argv[1:], "welm"))


def _preempted(*_) -> NoReturn:
    raise Preempted("ended by SIGTERM; start the same command again")


def dispatch(arguments: Sequence[str]) -> None:
    """Finds the verb and hands it the rest of the command line."""
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        print("usage: welm VERB [options]; welm VERB --help tells more\n")
        for name, run in VERBS.items():
            print(f"  {name:16} {run.__doc__.splitlines()[0]}")
        print(gin_files.HELP, end="")
        return
    if verb not in VERBS:
        raise InputError(f"{verb} is no verb; known are {', '.join(VERBS)}")
    VERBS[verb](rest)


def quickstart(arguments: Sequence[str]) -> None:
    """Real text to a trained model in one command, on a laptop.

    welm quickstart
    welm quickstart --corpus my_texts --folder my_run
    """
    from welm_jax import quickstart

    quickstart.main(arguments)


def train_tokenizer(arguments: Sequence[str]) -> None:
    """Trains the SentencePiece tokenizer on curated documents.

    welm train_tokenizer --gin_file corpus/quickstart.gin
    """
    files, bindings, rest = gin_files.split_arguments(arguments)
    _options(train_tokenizer, rest)
    wanted = {"TokenizerConfig": CORPUS["TokenizerConfig"]}
    config = gin_files.load(files, bindings, wanted, CORPUS)["TokenizerConfig"]

    from welm_jax.text import tokenizer

    print(f"training {config.vocab_size} pieces on at most {config.sample_bytes:,} bytes")
    texts = tokenizer.sample_texts(config.curated_dir, config.sample_bytes)
    trained = tokenizer.train_tokenizer(texts, config.model_file, config)
    print(f"{config.model_file}: {trained.vocab_size} pieces, sha256 {trained.sha256}")


def train(arguments: Sequence[str]) -> None:
    """Trains the model of a run folder, or goes on where it stopped.

    welm train --gin_file runs/quickstart.gin --run_dir quickstart_run/run
    welm train --gin_file runs/welm_10b.gin --gin.TOKENS_DIR=/data/tokens --run_dir /data/run
    """
    files, bindings, rest = gin_files.split_arguments(arguments)
    options = _options(train, rest, RUN_DIR, IMPORT)
    config = gin_files.load(files, bindings, TRAINING)

    from welm_jax import runs

    runs.train(RunFolder(options.run_dir), config, options.imports)


def evaluate(arguments: Sequence[str]) -> None:
    """Measures held-out bits per character of a run's newest checkpoint, per source.

    welm evaluate --run_dir quickstart_run/run
    """
    run = RunFolder(_options(evaluate, arguments, RUN_DIR).run_dir).require()

    from welm_jax import runs

    runs.evaluate(run)


def generate(arguments: Sequence[str]) -> None:
    """Continues a text with a run's newest checkpoint.

    welm generate --run_dir quickstart_run/run --prompt 中国经济 --prompt 却说 --temperature 0.7
    """
    options = _options(generate, arguments, RUN_DIR, *GENERATE_FLAGS)
    run = RunFolder(options.run_dir).require()

    from welm_jax import runs

    runs.generate(run, options.prompt, options.tokens, options.temperature, options.seed)


def report(arguments: Sequence[str]) -> None:
    """Writes a run's report: one page with curves, data card, held-out figures and samples.

    welm report --run_dir quickstart_run/run
    """
    run = RunFolder(_options(report, arguments, RUN_DIR).run_dir).require()

    from welm_jax.report import write_report

    write_report(run)
    print(f"{run.report}")


VERBS = {
    verb.__name__: verb for verb in (quickstart, train_tokenizer, train, evaluate, generate, report)
}

RUN_DIR = ("--run_dir", {"required": True, "help": "the run folder"})
IMPORT = (
    "--import",
    {
        "dest": "imports",
        "action": "append",
        "default": [],
        "metavar": "MODULE",
        "help": "a module of yours that registers seqio Tasks and Mixtures",
    },
)
GENERATE_FLAGS = (
    (
        "--prompt",
        {
            "required": True,
            "action": "append",
            "help": "a text to continue; may be given several times",
        },
    ),
    ("--tokens", {"type": int, "default": 64, "help": "most tokens to add (64)"}),
    ("--temperature", {"type": float, "default": 0.0, "help": "0 takes the likeliest (default)"}),
    ("--seed", {"type": int, "default": 0, "help": "of the sampling (0)"}),
)


def _options(verb: Callable, arguments: Sequence[str], *flags: tuple) -> argparse.Namespace:
    """Parses a verb's own flags; its docstring is its help: a sentence, then examples."""
    summary, _, examples = verb.__doc__.partition("\n\n")
    lines = ["examples:", *(f"  {line.strip()}" for line in examples.strip().splitlines())]
    parser = ArgumentParser(
        prog=f"welm {verb.__name__}",
        description=summary,
        epilog="\n".join(lines) + "\n" + (gin_files.HELP if "gin_file" in examples else ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, settings in flags:
        parser.add_argument(name, **settings)
    return parser.parse_args(arguments)
