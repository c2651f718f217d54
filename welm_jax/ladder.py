"""The scale ladder: sizes or learning rates, trained one after another, in one plot.

A rung is an ordinary run folder, trained by `welm train` as a process of its own; the plot and the
table are read from what the runs wrote. Knows nothing of how training is done, and never asks for
devices: they are the rungs'.

Source: WeLM section 3.2, Fig. 3a.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from etils import epath
from rich.console import Console
from rich.table import Table

from welm_jax import gin_files, pages, recovery_report, run_beginning, run_files, subcommands
from welm_jax.configurables import TRAINING
from welm_jax.failures import InputError
from welm_jax.plots import Line, draw, smoothed, unit
from welm_jax.recovery_report import Logged
from welm_jax.run_files import RunFolder
from welm_jax.train.recovery import Journal

DRAWING = "ladder.svg"  # in the ladder's folder, beside the folders of its rungs
HEIGHT = 340
COLOURS = 6  # that ladder.svg.j2 knows; the lines after them are dashed


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One run of a ladder.

    Attributes:
      name: of its folder and of its line.
      run: the folder.
      parameters: of its model.
      command: that trains it, or goes on.
    """

    name: str
    run: RunFolder
    parameters: int
    command: Sequence[str]

    def steps(self) -> list[Logged]:
        """The steps that led to its newest model, without those that a rollback discarded."""
        lines = self.run.iterations()
        journal = Journal(self.run.journal).records()
        return recovery_report.kept_and_discarded(lines, journal)[0]


def read_rungs(
    texts: Sequence[str],
    folder: epath.Path,
    files: Sequence[str],
    bindings: Sequence[str],
    imports: Sequence[str],
) -> list[Rung]:
    """Lays each rung over what all have in common, and checks the configuration that comes of it.

    Args:
      texts: `NAME: WORD ...`, a rung each. Words are parted as by a shell; each is a binding, as
        `gin_files.load` takes them, or a gin file.
      folder: of the ladder.
      files: gin files of all rungs; those of a rung follow them.
      bindings: of all rungs, which win over all files; those of a rung win over them.
      imports: modules that register seqio Tasks and Mixtures.

    Raises:
      InputError: a rung has no name or that of another, or a word of it, its configuration or its
        folder is refused; names the rung.
    """
    rungs: dict[str, Rung] = {}
    for text in texts:
        name, colon, words = text.partition(":")
        if not (colon and re.fullmatch(r"\w[\w.-]*", name)):
            raise InputError(
                f"--rung {text!r} has no name that a folder could have; write 'NAME: WORD ...' "
                "with a NAME of letters, digits, _, - and ."
            )
        if name == DRAWING:
            raise InputError(f"--rung {text!r} has the name of the drawing; give it another")
        if name in rungs:
            raise InputError(f"rung {name} is given twice; give each a name of its own")
        try:
            own_files, own_bindings = _split(words)
            own_files, own_bindings = [*files, *own_files], [*bindings, *own_bindings]
            config = gin_files.load(own_files, own_bindings, TRAINING)
            run = RunFolder(folder / name)
            run_beginning.changes_of(run, config)  # refuses the folder of another run
        except InputError as error:
            raise InputError(f"rung {name}: {error}") from error
        flags = [word for file in own_files for word in ("--gin_file", file)]
        flags += [f"--gin.{binding}" for binding in own_bindings]
        flags += [word for module in imports for word in ("--import", module)]
        rungs[name] = Rung(
            name=name,
            run=run,
            parameters=config["ModelConfig"].num_parameters,
            command=["welm", "train", *flags, "--run_dir", str(run.path)],
        )
    return list(rungs.values())


def _split(words: str) -> tuple[list[str], list[str]]:
    """The gin files and the bindings of a rung."""
    try:
        split = shlex.split(words)
    except ValueError as error:
        raise InputError(f"{words.strip()!r}: {error}; quote as in a shell") from error
    files = [word for word in split if word.endswith(".gin")]
    bindings = [word for word in split if not word.endswith(".gin")]
    for word in bindings:
        if "=" not in word:
            raise InputError(f"{word!r} is no gin file; a binding is NAME=VALUE, without blanks")
    return files, bindings


def climb(folder: epath.Path, rungs: Sequence[Rung]) -> None:
    """Trains the rungs in their order; draws and tabulates what there is whenever one ends.

    One that is done stays as it is and one that was stopped goes on: `welm train` sees to that.

    Raises:
      Preempted: a rung was stopped.
      CommandFailed: a rung failed; those after it are not begun.
    """
    console = Console(highlight=False)
    with subcommands.ended_by_sigterm():
        for rung in rungs:
            console.rule(f"[bold]Rung {rung.name}", align="left")
            try:
                subcommands.run(console, f"rung {rung.name}", rung.command)
            finally:
                _show(console, folder / DRAWING, rungs)


def _show(console: Console, file: epath.Path, rungs: Sequence[Rung]) -> None:
    logged = [rung.steps() for rung in rungs]
    console.print(table(rungs, logged))
    if any(len(steps) > 1 for steps in logged):
        run_files.write_text(file, drawing(rungs, logged))
        console.print(f"{file}", markup=False, soft_wrap=True)


def table(rungs: Sequence[Rung], logged: Sequence[Sequence[Logged]]) -> Table:
    """How far each rung came; a cell is empty where a figure is not known.

    Args:
      rungs: in the order of their rows.
      logged: the steps of each.
    """
    shown = Table("rung", title="Smoothed training loss; held-out bits per character")
    for column in ("parameters", "tokens", "loss", "bits", "tokens/s"):
        shown.add_column(column, justify="right")
    for rung, steps in zip(rungs, logged, strict=True):
        cells = [f"{rung.parameters:,}"]
        if steps:
            last, loss = steps[-1], smoothed([line["loss"] for line in steps])[-1]
            speeds = [line["tokens_per_second"] for line in steps if line["tokens_per_second"]]
            cells += [f"{last['tokens']:,}", f"{loss:.3f}", _bits(rung.run, last["step"])]
            cells += [f"{median(speeds):,.0f}"] if speeds else []
        shown.add_row(rung.name, *cells)
    return shown


def _bits(run: RunFolder, step: int) -> str:
    """What `welm evaluate` measured, unless the run has gone on since."""
    held_out = run_files.read_json(run.held_out) if run.held_out.exists() else {"step": None}
    return f"{held_out['all']['bits_per_character']:.3f}" if held_out["step"] == step else ""


def drawing(rungs: Sequence[Rung], logged: Sequence[Sequence[Logged]]) -> str:
    """The overlay as an SVG that stands alone: smoothed training loss over tokens, a line a rung.

    Args:
      rungs: in the order of their colours.
      logged: the steps of each; at least one has two, and those that have fewer get no line.
    """
    most = max(steps[-1]["tokens"] for steps in logged if steps)
    divisor, word = unit(most)
    lines, legend = [], []
    for place, (rung, steps) in enumerate(zip(rungs, logged, strict=True)):
        if len(steps) > 1:
            kind = f"colour-{place % COLOURS}" + " dashed" * (place >= COLOURS)
            tokens = [line["tokens"] / divisor for line in steps]
            losses = smoothed([line["loss"] for line in steps])
            lines.append(Line(kind=kind, steps=tokens, values=losses))
            legend.append((kind, rung.name, rung.parameters))
    curve = draw("training loss, nats per token, smoothed", lines, height=HEIGHT)
    content = {"curve": curve, "legend": legend, "x_title": f"{word}tokens trained on"}
    return pages.render("ladder.svg.j2", content)
