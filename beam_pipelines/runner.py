"""What the commands share: how a command line is read, and how Beam runs what it asks for.

Deliberately does not know what runs. Loads Beam only to open a pipeline, so that `--help` is quick.
"""

import argparse
import functools
import io
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any, TextIO
from urllib.parse import quote, unquote

from welm_jax import gin_files
from welm_jax.configurables import CORPUS
from welm_jax.failures import (
    ArgumentParser,
    Failure,
    InputError,
    Preempted,
    as_failure,
    failure_of_status,
)
from welm_jax.gin_files import GinConfig

BEAM_HELP = """  --NAME=VALUE         Beam's own options; several processes:
                       --direct_running_mode=multi_processing --direct_num_workers=8
"""

# A failure in one word, which survives any runner's quoting: `welm_failure:2:no%20such%20file`.
_SENT = re.compile(r"welm_failure:(\d+):(\S+)")
# What Beam's local runner raises when a process that it started is gone.
_WORKER_GONE = "Channel closed prematurely"
# The signals that `_interrupts_noted` noted while a pipeline ran.
_interrupts: list[int] = []


def read_command_line(
    prog: str,
    description: str,
    arguments: Sequence[str],
    config_classes: Sequence[str],
    flags: Mapping[str, Mapping[str, Any]],
) -> tuple[GinConfig, argparse.Namespace, list[str]]:
    """Reads the command line of a pipeline; `--help` prints what there is and exits.

    Args:
      prog: the module that runs as a command.
      description: its docstring, which opens the help.
      arguments: the command line.
      config_classes: the classes of CORPUS that gin builds.
      flags: flags of this command alone, as argparse takes them.

    Returns:
      The configurations by their classes, the values of `flags`, and what is left for Beam.

    Raises:
      InputError: a flag or a binding cannot be used.
    """
    files, bindings, rest = gin_files.split_arguments(arguments)
    parser = ArgumentParser(
        prog=f"python -m {prog}",
        usage="%(prog)s --gin_file FILE [--gin.NAME=VALUE]... [options]",
        description=description,
        epilog=gin_files.HELP + BEAM_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag, settings in flags.items():
        parser.add_argument(flag, **settings)
    options, beam_flags = parser.parse_known_args(rest)
    wanted = {name: CORPUS[name] for name in config_classes}
    return gin_files.load(files, bindings, wanted, CORPUS), options, beam_flags


def require_local(*paths: str) -> None:
    """Refuses the address of a bucket, which would be taken for a folder of that name."""
    for path in paths:
        if "://" in path:
            raise InputError(
                f"{path} is not a path: the pipelines need a local or a mounted folder"
            )


def open_pipeline(flags: Sequence[str]) -> Any:
    """Makes an apache_beam.Pipeline of Beam's own flags.

    With no `--runner` among them it is FnApiRunner: Beam's default first tries to download
    another, and so runs a different engine with and without a network.

    Raises:
      InputError: an argument that is not a flag of Beam, which it would pass over in silence, or a
        value that Beam refuses.
    """
    for flag in flags:
        if not re.match(r"--\w", flag):
            raise InputError(
                f"{flag} is not an option; options are written --NAME=VALUE, see --help"
            )
    # Beam warns at import that Google's client libraries, which nothing here uses, are missing.
    logging.disable(logging.WARNING)
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    if not any(flag.startswith("--runner") for flag in flags):
        flags = [*flags, "--runner=FnApiRunner"]
    usage = io.StringIO()
    try:
        with redirect_stderr(usage):
            options = PipelineOptions(list(flags))
            known = options.get_all_options()
            every = options.get_all_options(retain_unknown_options=True)
        if unknown := sorted(every.keys() - known.keys()):
            raise InputError(f"--{unknown[0]} is not a flag of this command or of Beam; see --help")
        return beam.Pipeline(options=options)
    except SystemExit:  # how argparse ends, after a page of usage
        raise InputError(usage.getvalue().splitlines()[-1].partition("error: ")[2]) from None
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(" ".join(str(error).split())) from error
    finally:
        logging.disable(logging.NOTSET)
        # What ends the pipeline is raised too; the door says it in a line, --debug with the rest.
        for part in ("common", "worker", "portability"):
            logging.getLogger(f"apache_beam.runners.{part}").setLevel(logging.CRITICAL)


def on_worker(step: Callable) -> Callable:
    """Makes a step of a pipeline whose failures reach the command from any worker.

    A runner passes on the text of an exception, and loses its class. It never answers if the text
    cannot be written in UTF-8, as the name of a file may be.
    """

    @functools.wraps(step)
    def run(*arguments):
        try:
            result = step(*arguments)
        except Exception as error:
            failure = as_failure(error)
            if failure is None:
                text = "".join(traceback.format_exception(error))
                writable = text.encode("utf-8", "backslashreplace").decode()
                if text == writable:
                    raise
                raise RuntimeError(writable) from None
            text = quote(str(failure), errors="surrogatepass")
            raise RuntimeError(f"welm_failure:{failure.status}:{text}") from None
        _end_if_interrupted()
        return result

    return run


def _end_if_interrupted() -> None:
    if _interrupts:
        raise KeyboardInterrupt


@contextmanager
def running(pipeline: Any) -> Iterator[None]:
    """Runs at its end what was laid out in it; a failure in a step comes out as itself.

    Raises:
      Failure: of a step that went through `on_worker`, or of a worker that was killed.
    """
    try:
        with _interrupts_noted(), _workers_kept_quiet(pipeline.runner), pipeline:
            yield
    except Exception as error:
        if failure := _as_failure(error):
            raise failure from error
        # In one process Beam's is chained to the step's own OSError or Control-C.
        if isinstance(error.__context__, OSError | KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _as_failure(error: Exception) -> Failure | None:
    """The failure that an exception of a runner stands for; None for one that nobody foresaw."""
    text = str(error)
    if sent := _SENT.search(text):
        return failure_of_status(int(sent[1]), unquote(sent[2], errors="surrogatepass"))
    if _WORKER_GONE in text:
        return Preempted(
            "a worker process was killed, or has too little memory; start again, with more memory "
            "or fewer workers if it happens again"
        )
    return None


@contextmanager
def _interrupts_noted() -> Iterator[None]:
    """Notes each Control-C, so that the step in hand ends even where a library loses the exception.

    NumPy clears any exception that is raised while it looks up an attribute.
    """

    def note(number, frame):
        _interrupts.append(number)
        signal.default_int_handler(number, frame)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        _interrupts.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _workers_kept_quiet(runner: Any) -> Iterator[None]:
    """Keeps what local workers write to standard error; shows it if an exception was not foreseen.

    Processes and threads of Beam's local runner report every start, and each exception four times.
    """
    if type(runner).__name__ != "FnApiRunner":
        yield
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as kept:
        try:
            with _standard_error_to(kept):
                yield
        except Exception as error:
            if not _as_failure(error):
                kept.seek(0)
                sys.stderr.write(kept.read())
            raise


@contextmanager
def _standard_error_to(file: TextIO) -> Iterator[None]:
    """Sends there what this process and those that it starts write to standard error."""
    sys.stderr.flush()
    shown = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        with redirect_stderr(file):
            yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
