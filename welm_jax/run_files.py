"""The run folder: its layout and all reading and writing in it."""

import contextlib
import fcntl
import glob
import hashlib
import itertools
import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath
from etils.epath import gpath

from welm_jax.failures import InputError, StopAndLook

UNFINISHED = ".unfinished"  # end of the name of a file that is being written


class LiteralPath(gpath.PosixGPath):
    """A path whose own characters are no pattern, and that leaves a URI as it is.

    epath's own lists nothing below a folder that is named `[...]`, for it takes the whole path as
    a pattern, and resolves gs://bucket to a folder on the disk. Paths derived from one of these
    are of its kind too, also those that Orbax derives.
    """

    def glob(self, pattern: str) -> Iterator["LiteralPath"]:
        """The files that match a pattern below this path."""
        escaped = type(self)(glob.escape(os.fspath(self)))
        return super(LiteralPath, escaped).glob(pattern)

    def resolve(self, strict: bool = False) -> "LiteralPath":
        """The absolute path."""
        return self if in_bucket(self) else super().resolve(strict)


def literal(path: epath.PathLike) -> LiteralPath:
    """A path as a LiteralPath, unless it is one."""
    return path if isinstance(path, LiteralPath) else LiteralPath(path)


class RunFolder:
    """One run's folder: an attribute for each file and folder in it."""

    def __init__(self, path: epath.PathLike):
        self.path = literal(path)
        self.config = self.path / "config.gin"  # as given; it makes the folder a run's
        self.operative_config = self.path / "operative_config.gin"  # every parameter in force
        self.mixture = self.path / "mixture.json"  # the data that training executes
        self.tokenizer = self.path / "tokenizer.model"  # a copy, so that the folder is whole
        # Instead, of a model read from elsewhere: its own, and what names its special tokens.
        self.fast_tokenizer = self.path / "tokenizer.json"
        self.fast_tokenizer_settings = self.path / "tokenizer_config.json"
        self.model_info = self.path / "model_info.txt"  # each parameter and where it lies
        self.metrics = self.path / "metrics.jsonl"  # a line a step, and one an evaluation of tasks
        self.held_out = self.path / "held_out.json"  # the latest held-out evaluation
        self.evaluation = self.path / "evaluation"  # tasks scored, a folder for each step
        self.samples = self.path / "samples.jsonl"  # continuations that were generated
        self.showcase = self.path / "showcase"  # the figures' prompts, a folder for each step
        self.tensorboard = self.path / "tensorboard"
        self.goodput = self.path / "goodput"  # what the time of each life went to
        self.profile = self.path / "profile"  # of steps, where one was asked for
        self.compiled = self.path / "compiled"  # programs, so that a restart compiles nothing
        self.checkpoints = self.path / "checkpoints"
        self.journal = self.path / "recovery_journal"  # decided recoveries, a record each
        self.suspects = self.path / "suspects"  # the batches around each incident, a file each
        self.diagnosis = self.path / "diagnosis"  # what a person needs who was called
        self.incident = self.diagnosis / "incident.json"
        self.report = self.path / "report.html"

    def own_tokenizer(self) -> epath.Path:
        """The tokenizer's file, of either kind."""
        return self.fast_tokenizer if self.fast_tokenizer.exists() else self.tokenizer

    def suspects_of(self, event: int) -> epath.Path:
        """The suspect batches of a recovery."""
        return self.suspects / f"{event:06d}.json"

    def answer_of(self, event: int) -> epath.Path:
        """What `welm recover why` found out about a recovery."""
        return self.suspects / f"{event:06d}_why.json"

    def refuse_foreign(self) -> None:
        """Refuses a folder of something else, in which a run would mix with what is there.

        Raises:
          InputError: it holds files, and they are not those of a run that had just begun.
        """
        begun = [self.tokenizer, self.mixture, self.operative_config, self.model_info]
        begun.append(self.journal)  # a new run may be given the decisions of another
        if self.config.exists() or not self.path.exists():
            return
        foreign = sorted(
            file.name
            for file in self.path.iterdir()
            if file not in begun and not file.name.endswith(UNFINISHED)
        )
        if foreign:
            raise InputError(
                f"{self.path} holds {foreign[0]} and is no run folder; give --run_dir a new one"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this folder; the kernel unlocks it at our death.

        On a disk only: a bucket has no locks.

        Raises:
          InputError: another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if in_bucket(self.path):
            yield
            return
        told = "another process trains there; wait for it, stop it, or give another --run_dir"
        with locked(self.path, f"{self.path} is in use: {told}"):
            yield

    def iterations(self) -> Iterator[dict[str, Any]]:
        """The lines of `metrics` that are of iterations of training, and not of evaluations."""
        return (line for line in read_lines(self.metrics) if "loss" in line)

    def has_steps(self) -> bool:
        """Whether a step was made here, or a checkpoint lies here: then it is bound to its data."""
        saved = self.checkpoints.iterdir() if self.checkpoints.exists() else ()
        is_saved = any(entry.name.isdecimal() for entry in saved)
        return is_saved or next(self.iterations(), None) is not None

    def write_mixture(self, mixture: Mapping[str, Any]) -> None:
        """Writes mixture.json, with each source's way from here, should both move together."""
        sources = [dict(source) for source in mixture["sources"]]
        for source in sources:
            if not in_bucket(self.path) and not in_bucket(source["folder"]):
                source["folder_from_run"] = os.path.relpath(source["folder"], self.path)
        write_json(self.mixture, {**mixture, "sources": sources})

    def read_mixture(self, tokens_dir: str | None = None) -> dict[str, Any]:
        """The content of mixture.json, with each source's folder where it lies now.

        Args:
          tokens_dir: where to look besides, if a source neither lies where it did nor moved along
            with this folder.
        """
        mixture = read_json(self.mixture)
        for source in mixture["sources"]:
            places = [literal(source["folder"])]
            if "folder_from_run" in source:
                places.append((self.path / source["folder_from_run"]).resolve())
            if tokens_dir:
                places.append(literal(tokens_dir).resolve() / source["name"])
            for place in places:
                if _fingerprint(place) == source["fingerprint"]:
                    source["folder"] = os.fspath(place)
                    break
        return mixture

    def require(self) -> "RunFolder":
        """Returns itself if a run began here.

        Raises:
          InputError: it did not.
        """
        if not self.config.exists():
            raise InputError(
                f"{self.path} is not a run folder (it has no config.gin); "
                "give --run_dir the folder that `welm train` wrote"
            )
        return self


def _fingerprint(folder: epath.Path) -> str | None:
    """See token_dataset.read_metadata; None where there is no token dataset."""
    from welm_jax.text.records import METADATA_FILE  # not above: it loads numpy, `--help` does not

    try:
        return hashlib.sha256((folder / METADATA_FILE).read_bytes()).hexdigest()
    except OSError:
        return None


@contextlib.contextmanager
def locked(path: os.PathLike, told: str) -> Iterator[None]:
    """Keeps a folder, or a file that appears if need be, to us; the kernel unlocks it at our death.

    Raises:
      InputError: another process has it; says what is told.
    """
    flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT  # NFS wants to write
    opened = os.open(path, flags)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had it may have removed it meanwhile, and another made it anew.
        if not os.path.exists(path) or not os.path.samestat(os.fstat(opened), os.stat(path)):
            raise BlockingIOError
        yield
    except BlockingIOError as error:
        raise InputError(told) from error
    finally:
        os.close(opened)


def in_bucket(path: os.PathLike) -> bool:
    """Whether a path is of an object store, which has no locks, no append and no rename."""
    return "://" in os.fspath(path)


def read_json(file: epath.Path) -> Any:
    """The content of a JSON file that we wrote.

    Raises:
      StopAndLook: it does not parse: somebody or something damaged it.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StopAndLook(f"{file} is damaged ({error}); restore it from a copy") from error


def write_text(file: epath.Path, text: str) -> None:
    """Writes a file whole or not at all: readers see the old content or the new.

    Several processes may write the same file at once; one of their contents stays.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if in_bucket(file):  # which shows a file whole or not at all
        file.write_text(text, encoding="utf-8")
        return
    unfinished = file.parent / f".{file.name}.{secrets.token_hex(8)}{UNFINISHED}"
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(file: epath.Path, content: Any) -> None:
    """Writes JSON as write_text does; Chinese stays readable."""
    write_text(file, _json(content, indent=1) + "\n")


def _json(content: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: a number that is none becomes null."""

    def finite(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {name: finite(one) for name, one in value.items()}
        return [finite(one) for one in value] if isinstance(value, list | tuple) else value

    return json.dumps(finite(content), ensure_ascii=False, allow_nan=False, indent=indent)


def write_lines(file: epath.Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects, a line each, as write_text does."""
    write_text(file, _lines(records))


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(_json(one) + "\n" for one in records)


def write_lasting(file: epath.Path, text: str) -> None:
    """Writes a file that must outlive a loss of power: it and its folders are on disk on return.

    Readers may see it half written, unlike one of `write_text`; a bucket, which cannot rename,
    shows it whole or not at all.
    """
    with file.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        if in_bucket(file):
            return
        os.fsync(opened.fileno())
    for folder in (file.parent, file.parent.parent):
        opened = os.open(folder, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a JSON object with its `sha256` beside it, so that a change shows."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def unsealed(text: bytes) -> dict[str, Any]:
    """The JSON object that `sealed` gave, its sha256 included.

    Raises:
      ValueError: it is not what was sealed.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    again = sealed({key: value for key, value in found.items() if key != "sha256"})
    if found.get("sha256") != again["sha256"]:
        said, found_now = str(found.get("sha256")), again["sha256"]
        raise ValueError(f"its content has sha256 {found_now[:12]}, it says {said[:12]}")
    return found


def append_lines(file: epath.Path, records: Iterable[dict[str, Any]]) -> None:
    """Appends JSON objects, a line each; a line that a kill cut short is ended first.

    In a bucket each call that has any makes a file of its own, which `read_lines` puts after those
    before.
    """
    added = _lines(records)
    if in_bucket(file):
        if added:
            write_text(file.parent / f"{file.name}.{time.time_ns():020d}", added)
        return
    cut = False
    if file.exists() and file.stat().length:
        with file.open("rb") as before:
            before.seek(-1, os.SEEK_END)
            cut = before.read() != b"\n"
    with file.open("a", encoding="utf-8") as lines:
        lines.write("\n" * cut + added)


def read_lines(file: epath.Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file; a line cut short by a crash is left out."""
    lines = (part.read_text(encoding="utf-8").split("\n") for part in _parts(file))
    for line in itertools.chain.from_iterable(lines):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # cut by a kill in the middle of a write; the next life goes on below it


def remove_lines(file: epath.Path) -> None:
    """Removes a JSON lines file, all of its parts."""
    for part in _parts(file):
        part.unlink()


def _parts(file: epath.Path) -> list[epath.Path]:
    """The files that hold the lines: one on a disk, one a call of `append_lines` in a bucket."""
    if not file.parent.exists():
        return []
    return [file] * file.exists() + sorted(file.parent.glob(f"{file.name}.[0-9]*"))
