"""The one door: `welm <verb>`. Imports a floor only when the verb needs it."""

import argparse
import ast
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from etils import epath

from welm_jax import gin_files, processes, standard_streams, stop_signals
from welm_jax.configurables import CORPUS, TRAINING
from welm_jax.failures import ArgumentParser, InputError, run_door
from welm_jax.flags import (
    CONVERT_FLAGS,
    EVALUATE_FLAGS,
    GENERATE_FLAGS,
    IMPORT,
    LADDER_FLAGS,
    PLAN_FLAGS,
    PROCESSES,
    PROMPT_DEFAULTS,
    RECOVER_ACTIONS,
    RUN_DIR,
    SHOWCASE_DEFAULTS,
)
from welm_jax.run_files import RunFolder, literal

# Settings of jax for other programs: types, random numbers and checks that ours decides itself.
NOT_OURS = {
    f"JAX_{name}"
    for name in (
        *("ENABLE_X64", "EXPLICIT_X64_DTYPES", "DEFAULT_DTYPE_BITS", "NUMPY_DTYPE_PROMOTION"),
        *("DEFAULT_PRNG_IMPL", "ENABLE_CUSTOM_PRNG", "LEGACY_PRNG_KEY", "RANDOM_SEED_OFFSET"),
        *("DEBUG_INFS", "DEBUG_NANS", "DISABLE_JIT", "NUMPY_RANK_PROMOTION"),
    )
}


def main() -> None:
    """Entry point of the `welm` command."""
    signal.signal(signal.SIGTERM, stop_signals.end_at_once)  # until a verb has its own
    standard_streams.make_lasting()
    _own_environment()
    sys.unraisablehook = _unless_from_a_closed_loop
    processes.end(run_door(dispatch, sys.argv[1:], "welm"))


def _own_environment() -> None:
    """Takes from jax's environment what would change the numbers of a run, or fit none."""
    for name in sorted(NOT_OURS & os.environ.keys()):
        value = os.environ.pop(name)
        print(f"welm: {name}={value} of the environment is not used", file=sys.stderr)


def _unless_from_a_closed_loop(told: "sys.UnraisableHookArgs") -> None:
    """Tells of an exception that nobody can catch, but for the many that follow a failed save."""
    if str(told.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(told)


def dispatch(arguments: Sequence[str]) -> None:
    """Finds the verb and hands it the rest of the command line."""
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        print("usage: welm VERB [options]; welm VERB --help tells more\n")
        for name, run in VERBS.items():
            print(f"  {name:16} {_help_of(run).splitlines()[0]}")
        print(gin_files.HELP, end="")
        return
    if verb not in VERBS:
        raise InputError(f"{verb} is no verb; known are {', '.join(VERBS)}")
    trains = VERBS[verb] in (quickstart, train, ladder)  # and so saves before a signal ends it
    with standard_streams.outliving_terminal() if trains else stop_signals.ending_commands():
        VERBS[verb](rest)


def quickstart(arguments: Sequence[str]) -> None:
    """Real text to a trained model in one command, on a laptop.

    welm quickstart
    welm quickstart --drill
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

    tokenizer.refuse_other_size(config)
    print(f"training {config.vocab_size} pieces on at most {config.sample_bytes:,} bytes")
    texts = tokenizer.sample_texts(config.curated_dir, config.sample_bytes)
    trained = tokenizer.train_tokenizer(texts, config.model_file, config)
    print(f"{config.model_file}: {trained.vocab_size} pieces, sha256 {trained.sha256}")
    scripts = tokenizer.pieces_by_script(trained.pieces()).items()
    print(f"pieces by script: {', '.join(f'{name} {count:,}' for name, count in scripts)}")


def train(arguments: Sequence[str]) -> None:
    """Trains the model of a run folder, or goes on where it stopped.

    welm train --gin_file runs/quickstart.gin --run_dir quickstart_run/run
    welm train --gin_file runs/welm_10b.gin --gin.TOKENS_DIR=/data/tokens --run_dir /data/run
    srun welm train --processes auto --gin_file runs/welm_10b.gin --run_dir /shared/run
    """
    began = time.perf_counter()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until a profile can be made
    files, bindings, rest = gin_files.split_arguments(arguments)
    options = _options(train, rest, RUN_DIR, IMPORT, PROCESSES)
    if options.processes:
        these = processes.parsed(options.processes)
        processes.supervised()
    config = gin_files.load(files, bindings, TRAINING)

    from welm_jax import runs

    with contextlib.ExitStack() as of_several:
        if options.processes:
            of_several.enter_context(processes.joined(these))
        runs.train(RunFolder(options.run_dir), config, options.imports, began)


def ladder(arguments: Sequence[str]) -> None:
    r"""Trains several sizes or learning rates in turn, and draws their losses in one plot.

    welm ladder --gin_file runs/quickstart.gin --ladder_dir my_ladder \
      --rung "narrow: ModelConfig.d_model=64 MAX_LEARNING_RATE=4e-3" --rung "wide:"
    """
    files, bindings, rest = gin_files.split_arguments(arguments)
    options = _options(ladder, rest, *LADDER_FLAGS, IMPORT)

    from welm_jax.ladder import climb, read_rungs

    folder = epath.Path(options.ladder_dir)
    climb(folder, read_rungs(options.rung, folder, files, bindings, options.imports))


def evaluate(arguments: Sequence[str]) -> None:
    """Measures a run's newest checkpoint: on held-out text, or on the tasks of Tables 3 and 5.

    welm evaluate --run_dir quickstart_run/run
    welm evaluate --run_dir RUN --data_dir DATA --limit 100
    welm evaluate --run_dir RUN --data_dir DATA --task cmrc2018_1shot --task welm_table5
    """
    options = _options(evaluate, arguments, RUN_DIR, *EVALUATE_FLAGS, IMPORT)
    run = RunFolder(options.run_dir).require()
    if not options.data_dir and (options.task or options.limit or options.imports):
        raise InputError(
            "--task, --limit and --import need --data_dir, which holds the tasks' data"
        )
    for flag in ("limit", "window"):
        if getattr(options, flag) is not None and getattr(options, flag) < 1:
            raise InputError(f"--{flag} {getattr(options, flag)}; it must be 1 or more")

    from welm_jax import loaded_run

    if not options.data_dir:
        loaded_run.evaluate(run)
        return
    names = options.task or ["welm_table3", "welm_table5"]
    data_dir = literal(options.data_dir)
    loaded_run.evaluate_tasks(run, data_dir, names, options.limit, options.window, options.imports)


def generate(arguments: Sequence[str]) -> None:
    """Continues texts with a run's newest checkpoint: given ones, or the prompts of figures.

    welm generate --run_dir quickstart_run/run --prompt 中国经济 --prompt 却说 --temperature 0.7
    welm generate --run_dir quickstart_run/run --prompt 却说 --beams 4
    welm generate --run_dir quickstart_run/run --showcase
    """
    options = vars(_options(generate, arguments, RUN_DIR, *GENERATE_FLAGS))
    run = RunFolder(options["run_dir"]).require()
    is_showcase = options["showcase"] is not None
    if is_showcase == (options["prompt"] is not None):
        raise InputError("give --prompt and a text to continue, or --showcase: one of the two")
    usual = SHOWCASE_DEFAULTS if is_showcase else PROMPT_DEFAULTS
    given = usual | {name: value for name, value in options.items() if value is not None}

    from welm_jax import loaded_run
    from welm_jax.decode.beam_search import BeamSearch
    from welm_jax.decode.sampling import Limits, Sampling, require_seed
    from welm_jax.evaluate import showcase

    limits = Limits(top_k=given["top_k"], top_p=given["top_p"])
    how = Sampling(temperature=given["temperature"], limits=limits)
    require_seed(given["seed"])
    if given["beams"] is not None:
        if is_showcase or how != Sampling():
            raise InputError(
                "--beams searches for the likeliest text, and draws none: it goes with --prompt, "
                "without --temperature, --top_k, --top_p and --showcase"
            )
        how = BeamSearch(beams=given["beams"])
    if not is_showcase:
        loaded_run.generate(run, given["prompt"], given["tokens"], how, given["seed"])
        return
    folder = showcase.PROMPTS if given["showcase"] is True else literal(given["showcase"])
    loaded_run.generate_showcase(run, folder, given["tokens"], how, given["seed"])


def convert(arguments: Sequence[str]) -> None:
    """Writes a run's newest checkpoint for Hugging Face's tools, or reads a GPT-NeoX from there.

    welm convert --run_dir quickstart_run/run --to_hf my_model
    welm convert --from_hf pythia-160m --run_dir pythia_run
    """
    options = _options(convert, arguments, RUN_DIR, *CONVERT_FLAGS)
    if (options.to_hf is None) == (options.from_hf is None):
        raise InputError(
            "give --to_hf and a new folder, or --from_hf and a model's: one of the two"
        )
    run = RunFolder(options.run_dir)
    if options.to_hf:
        run.require()

    from welm_jax import convert_gpt_neox

    if options.to_hf:
        convert_gpt_neox.export(run, epath.Path(options.to_hf))
    else:
        convert_gpt_neox.import_model(epath.Path(options.from_hf), run)


def plan(arguments: Sequence[str]) -> None:
    """Says whether a run fits its devices and how long it takes; needs none of them.

    welm plan --gin_file models/welm_10b.gin --target a100-40gb --devices 128
    welm plan --gin_file models/welm_1b3.gin --target tpu-v5e --devices 16 --batch_size 1024
    """
    files, bindings, rest = gin_files.split_arguments(arguments)
    options = vars(_options(plan, rest, *PLAN_FLAGS))
    try:
        model = gin_files.load(files, bindings, {"ModelConfig": TRAINING["ModelConfig"]}, TRAINING)
    except InputError as error:
        raise InputError(
            f"{error} (plan takes a model's file alone, such as models/welm_10b.gin; flags say the "
            "rest)"
        ) from error
    os.environ["JAX_PLATFORMS"] = "cpu"  # before jax: the devices are not here
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA has much to say of what it tries

    from welm_jax import plan as planning

    compile_top = options.pop("compile_top")
    planning.plan(planning.Question(model=model["ModelConfig"], **options), compile_top)


def report(arguments: Sequence[str]) -> None:
    """Writes a run's report: one page with curves, data card, held-out figures and samples.

    welm report --run_dir quickstart_run/run
    """
    run = RunFolder(_options(report, arguments, RUN_DIR).run_dir).require()

    from welm_jax.report import write_report

    write_report(run)
    print(f"{run.report}")


def recover(arguments: Sequence[str]) -> None:
    """Loss spikes: what was decided, what would be, why one came, and a decision by hand.

    welm recover status --run_dir quickstart_run/run
    welm recover why 1 --run_dir quickstart_run/run
    welm recover roll-back --to 1500 --skip 200 --lr-factor 0.8 --run_dir quickstart_run/run
    welm recover replay curve.csv --gin.SpikeConfig.outlier_rise=0.2
    """
    files, bindings, rest = gin_files.split_arguments(arguments)
    parser = _parser(recover)
    choices = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (summary, flags) in RECOVER_ACTIONS.items():
        action = choices.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        for flag, settings in flags:
            action.add_argument(flag, **settings)
    options = parser.parse_args(rest)
    bound = ("SpikeConfig", "CheckpointConfig") if options.action == "replay" else ()
    wanted = {name: TRAINING[name] for name in bound}
    config = gin_files.load(files, bindings, wanted, TRAINING)
    run = RunFolder(options.run_dir).require() if "run_dir" in options else None
    if options.action != "why":  # the accelerators may be training
        os.environ["JAX_PLATFORMS"] = "cpu"

    from welm_jax import recover as actions

    match options.action:
        case "status":
            actions.status(run)
        case "why":
            from welm_jax import recovery_words, why

            answer = why.why(run, options.event)
            print(recovery_words.answered(vars(answer)))
        case "roll-back":
            actions.roll_back(run, options.to, options.skip, options.lr_factor)
        case "replay":
            every_steps = config["CheckpointConfig"].every_steps
            actions.replay(Path(options.curve), config["SpikeConfig"], every_steps)


VERBS = {
    verb.__name__: verb
    for verb in (
        quickstart,
        train_tokenizer,
        plan,
        train,
        ladder,
        evaluate,
        generate,
        convert,
        report,
        recover,
    )
}


def _help_of(verb: Callable) -> str:
    """A verb's docstring; from the source, where Python was asked to drop it (-OO)."""
    if verb.__doc__:
        return verb.__doc__
    body = ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    [source] = [node for node in body if getattr(node, "name", "") == verb.__name__]
    return ast.get_docstring(source, clean=False)


def _options(verb: Callable, arguments: Sequence[str], *flags: tuple) -> argparse.Namespace:
    """Parses a verb's own flags."""
    parser = _parser(verb)
    for name, settings in flags:
        parser.add_argument(name, **settings)
    return parser.parse_args(arguments)


def _parser(verb: Callable) -> ArgumentParser:
    """A verb's docstring is its help: a sentence, then examples."""
    summary, _, examples = _help_of(verb).partition("\n\n")
    lines = ["examples:", *(f"  {line.strip()}" for line in examples.strip().splitlines())]
    return ArgumentParser(
        prog=f"welm {verb.__name__}",
        description=summary,
        epilog="\n".join(lines) + "\n" + (gin_files.HELP if "--gin" in examples else ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


if __name__ == "__main__":
    main()
