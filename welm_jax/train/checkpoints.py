"""Checkpoints: the train state as Orbax arrays, and what the host knows of it as JSON.

Owns what lies in the folder: saving in the background and seeing how it ended, telling a sound
checkpoint from a damaged one, deleting old ones. Whether a checkpoint belongs to the run's lineage
it does not know: that is the journal's rule, which callers bring along.
"""

import ast
import contextlib
import itertools
import json
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

from welm_jax import run_files
from welm_jax.failures import (
    Failure,
    InputError,
    Preempted,
    StopAndLook,
    may_pass,
    require_positive,
)
from welm_jax.train import digests, faults, hosts
from welm_jax.train.lineage import FROM_SEED, Saved
from welm_jax.train.spikes import History
from welm_jax.train.state import TrainState

STATE, HOST = "state", "host"  # a step's two items
# Of an identity, what older versions did not write down because there was one way only.
ADDED_LATER = {
    "ModelConfig.parallel_residual": "False",
    "ModelConfig.rotary_fraction": "1.0",
}
HOST_FILE = f"{HOST}/metadata"  # the name Orbax gives to an item of JSON

# Orbax tells of each failure in hundreds of lines; here it is told in one.
logging.getLogger("absl").addFilter(
    lambda record: record.levelno < logging.ERROR or "orbax" not in record.pathname
)

IsValid = Callable[[int, int], bool]  # of a checkpoint's step and attempt


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to save and what to keep.

    A rollback by 100 steps finds its checkpoint if the newest ones span 100 steps, the time until a
    spike is seen, and one interval; 600 steps were enough for 99 in 100.

    Attributes:
      every_steps: optimizer steps between two checkpoints.
      keep: newest checkpoints that stay; two at least, should one be damaged. What is saved
        between two of `every_steps`, for a run that was stopped, does not count.
      keep_every_steps: checkpoints of steps that this divides stay for good.
    """

    every_steps: int = 50
    keep: int = 12
    keep_every_steps: int = 1000

    def __post_init__(self):
        require_positive(self, "every_steps", "keep_every_steps")
        if self.keep < 2:
            raise InputError(
                f"CheckpointConfig.keep = {self.keep}; it must be 2 or more, for one may be damaged"
            )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is; the part of a checkpoint that lives on the host.

    Attributes:
      step: optimizer updates made.
      cursor: batches of the stream that are behind us; the next one to train on.
      guarded: iterations whose update was refused because it was not finite.
      tokens: target tokens trained on.
      attempt: highest recovery of the journal that this lineage has applied; 0 for none.
      history: what the spike detector remembers.
    """

    step: int = 0
    cursor: int = 0
    guarded: int = 0
    tokens: int = 0
    attempt: int = 0
    history: History = History()

    @property
    def iteration(self) -> int:
        """Train-step calls of this lineage."""
        return self.step + self.guarded


class _Host(NamedTuple):
    """What the JSON of a checkpoint says: see Checkpoints.save."""

    progress: Progress
    leaves: dict[str, Any]
    in_turn: bool


class _Unusable(Exception):
    """Why a checkpoint cannot be gone on from; there may be an older one that can."""


class Checkpoints:
    """Saves in the background and restores onto any mesh; a context manager that waits at its end.

    Each array is saved with a digest that was computed on the devices, and is used again only if
    the devices compute the same from what was read: neither files nor host memory are trusted. The
    first one that is saved is read back at once, unless one was restored before.

    Args:
      folder: where the steps lie.
      config: what to keep; None only reads, and so may look on while a run trains.
      identity: what is the same in all checkpoints of a run, such as its tokenizer's sha256.
      say: tells a person.
      pinned: of the given steps, those that must stay; called in another thread.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        config: CheckpointConfig | None,
        identity: Mapping[str, str],
        say: Callable[[str], None] = print,
        pinned: Callable[[Sequence[int]], Collection[int]] = lambda steps: (),
    ):
        self._folder = run_files.literal(folder).resolve()
        self._config, self._identity, self._say, self._pinned = config, identity, say, pinned
        options = ocp.CheckpointManagerOptions(
            create=config is not None,
            cleanup_tmp_directories=config is not None,  # what a killed save left behind
            # A folder that cannot be made fails at once; in the background, after minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._sound: dict[int, int] = {}  # step -> attempt, of what this process saved or restored
        self._damaged: set[int] = set()  # of what it could not restore
        self._watcher: threading.Thread | None = None  # of the latest save
        self._failure: Failure | None = None
        self._is_proven = False  # that what lies in this folder can be read

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._wait()
        if self._failure:
            with contextlib.suppress(Exception):  # Orbax tells each thread once
                self._manager.wait_until_finished()
        self._manager.close()
        if kind is None:
            self.check()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Begins to save a step, unless this process saved or restored it already.

        Blocks while the save before it is being written and while devices compute the digests.

        Raises:
          StopAndLook: this save cannot begin, the one before it failed, or the first cannot be
            read back.
        """
        self.settle()
        step, attempt = progress.step, progress.attempt
        if self._sound.get(step) == attempt:
            return
        faults.write_boundary(f"checkpoint {step} of {attempt} comes")
        tree = state.as_tree()
        host = run_files.sealed(
            {
                "progress": asdict(progress),
                "identity": dict(self._identity),
                "leaves": digests.records(tree),
                "in_turn": step % self._config.every_steps == 0,
            }
        )
        items = {STATE: ocp.args.PyTreeSave(tree), HOST: ocp.args.JsonSave(host)}
        try:
            self._delete(step)  # a damaged one, or one of another attempt
            hosts.on_all(True)
            self._manager.reload()
            # Without force Orbax declines, in silence, a step below the newest it knows.
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._not_saved(step, error) from error
        self._watcher = threading.Thread(target=self._watch, args=(progress, host["sha256"]))
        self._watcher.start()
        faults.write_boundary(f"checkpoint {step} of {attempt} is being written")
        if not self._is_proven:
            self._read_back(step, tree, host["leaves"])

    def settle(self) -> None:
        """Waits for the latest save; raises StopAndLook if it failed."""
        self._wait()
        self.check()

    def check(self) -> None:
        """Raises if a save has failed; looks at one variable, and so may be called every step.

        Raises:
          StopAndLook: names the step and the reason.
        """
        if self._failure:
            raise self._failure

    def saved(self, is_valid: IsValid) -> list[Saved]:
        """The valid checkpoints not known to be damaged, oldest first; no array is read."""
        self.settle()
        return [
            Saved(step=step, cursor=host.progress.cursor)
            for step, host in self._readable().items()
            if is_valid(step, host.progress.attempt) and step not in self._damaged
        ]

    def delete_invalid(self, is_valid: IsValid) -> None:
        """Deletes the checkpoints that the journal abandoned, newest first.

        Those that cannot be read are left alone: nobody can tell whose they are.
        """
        self.settle()
        for step, host in reversed(self._readable().items()):
            if not is_valid(step, host.progress.attempt):
                self._delete(step)
                faults.write_boundary(f"checkpoint {step} of {host.progress.attempt} is deleted")

    def restore(self, like: PyTree, is_valid: IsValid) -> tuple[TrainState, Progress] | None:
        """The newest checkpoint that is valid and sound, or None where there is none.

        A damaged one is passed over with a line, and left alone until its step is saved anew. None
        also stands for some that are damaged if a start from the seed loses no more steps with them
        than the plan of a recovery may.

        Args:
          like: shapes, types and shardings to restore into, as `state.abstract_tree` gives them.
          is_valid: the journal's rule.

        Raises:
          StopAndLook: all are damaged, and much would be lost; or they are those of another run
            or model.
        """
        self.settle()
        reasons, lost = [], 0
        for step in reversed(json.loads(hosts.by_first(lambda: json.dumps(self._steps())))):
            try:
                progress, leaves, _ = self._host_of_all(step)
                if not is_valid(step, progress.attempt):
                    continue
                tree = self._arrays(step, leaves, like)
            except _Unusable as error:
                reasons.append(f"the checkpoint of step {step} is passed over: {error}")
                self._damaged.add(step)
                lost = max(lost, step)
                self._say(reasons[-1])
                continue
            self._sound[step], self._is_proven = progress.attempt, True
            return TrainState.from_tree(tree), progress
        if lost > FROM_SEED:
            raise StopAndLook(
                f"no checkpoint in {self._folder} can be used; {reasons[0]}; put a copy there, or "
                "delete what is damaged to begin from the seed"
            )
        return None

    def _steps(self) -> list[int]:
        """The steps of which anything lies here, oldest first; an empty folder is nothing."""
        if not self._folder.exists():
            return []
        names = [entry.name for entry in self._folder.iterdir()]
        return [
            step
            for step in sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))
            if any((self._at(step) / item).exists() for item in (STATE, HOST_FILE))
        ]

    def _at(self, step: int) -> epath.Path:
        return self._folder / str(step)

    def _host(self, step: int) -> _Host:
        """What a step's JSON says; StopAndLook if they are another run's."""
        try:
            host = run_files.unsealed((self._at(step) / HOST_FILE).read_bytes())
            fields, identity, leaves = (host[key] for key in ("progress", "identity", "leaves"))
            progress = Progress(**{**fields, "history": History.from_json(fields["history"])})
        except FileNotFoundError as error:
            raise _Unusable(f"it has no {HOST_FILE}") from error
        except (OSError, ValueError) as error:
            raise _Unusable(f"its {HOST_FILE} is damaged ({_in_a_line(error)})") from error
        except (KeyError, TypeError) as error:
            raise StopAndLook(
                f"{self._at(step)} is of another version of welm_jax ({_in_a_line(error)}); go on "
                "with that one"
            ) from error
        identity = ADDED_LATER | identity
        for key in sorted({*identity, *self._identity}):
            wanted = self._identity.get(key, ADDED_LATER.get(key))
            if _setting(key, identity.get(key)) != _setting(key, wanted):
                raise StopAndLook(
                    f"{self._at(step)} is of a run with {key} = {identity.get(key)}, not "
                    f"{self._identity.get(key)}; go on with the former, or give another --run_dir"
                )
        return _Host(progress, leaves, host.get("in_turn", True))

    def _host_of_all(self, step: int) -> _Host:
        """As _host, and unusable on all processes if it is on one."""
        host, unusable = None, None
        try:
            host = self._host(step)
        except _Unusable as error:
            unusable = error
        if not hosts.on_all(host is not None):
            raise unusable or _Unusable(f"another process cannot read its {HOST_FILE}")
        return host

    def _readable(self) -> dict[int, _Host]:
        """What the JSON says of each step of which it is sound, oldest first."""
        found = {}
        for step in self._steps():
            with contextlib.suppress(_Unusable):
                found[step] = self._host(step)
        return found

    def _arrays(self, step: int, leaves: dict[str, Any], like: PyTree) -> PyTree:
        """A step's arrays, born where `like` says; StopAndLook if they are another model's."""
        misfits = digests.misfits(leaves, like)
        if misfits:  # Orbax would cast the types in silence
            raise StopAndLook(
                f"{self._at(step)} does not fit this configuration: {'; '.join(misfits[:3])} "
                f"({len(misfits)} in all); go on with the one it was trained with"
            )
        return self._read(step, leaves, like)

    def _read(self, step: int, leaves: dict[str, Any], like: PyTree) -> PyTree:
        """The arrays of a step that `like` asks for; unusable unless they are as saved."""
        how = ocp.checkpoint_utils.construct_restore_args(like)
        items = ocp.args.Composite(**{STATE: ocp.args.PyTreeRestore(like, restore_args=how)})
        unread = None
        try:
            tree = self._manager.restore(step, args=items)[STATE]
        except Exception as error:  # whatever Orbax and TensorStore raise over damaged files
            unread = _in_a_line(error)
        if not hosts.on_all(unread is None):
            raise _Unusable(f"its arrays cannot be read ({unread or 'by another process'})")
        found = digests.records(tree)
        differing = [name for name in found if found[name] != leaves[name]]
        if differing:
            raise _Unusable(f"{len(differing)} arrays are not as saved, {differing[0]} first")
        return tree

    def _read_back(self, step: int, tree: PyTree, leaves: dict[str, Any]) -> None:
        """Reads what was just saved, so that no run goes on whose checkpoints nobody can read.

        A third at a time: for as much there is room on the devices between two steps, where a
        step has its gradients.
        """
        self.settle()
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
        )
        try:
            for third in _thirds(like):
                self._read(step, leaves, third)
        except _Unusable as error:
            raise StopAndLook(
                f"the checkpoint of step {step} is saved in {self._folder} and cannot be restored "
                f"({error}); look at the disk, or give --run_dir a folder elsewhere"
            ) from error
        self._is_proven = True

    def _delete(self, step: int) -> None:
        """Deletes a step, its arrays first: what half a deletion leaves still says whose it is."""
        self._sound.pop(step, None)
        self._damaged.discard(step)
        if jax.process_index() == 0:
            (self._at(step) / STATE).rmtree(missing_ok=True)
            self._at(step).rmtree(missing_ok=True)

    def _watch(self, progress: Progress, sha256: str) -> None:
        """Waits, in a thread of its own, for a save to end; then deletes what is too old."""
        step = progress.step
        try:
            self._manager.wait_until_finished()
            if run_files.unsealed((self._at(step) / HOST_FILE).read_bytes())["sha256"] != sha256:
                raise _Unusable("another one lies in its place")
        except Exception as error:
            self._failure = self._not_saved(step, error)
            return
        self._sound[step] = progress.attempt
        try:
            self._delete_old(step)
        except (OSError, Failure) as error:
            self._say(f"old checkpoints stay until the next save ({_in_a_line(error)})")

    def _delete_old(self, newest: int) -> None:
        """Deletes what nothing asks to keep; damaged ones, where known, count for nothing."""
        found = self._readable()
        steps = [step for step in found if step <= newest and step not in self._damaged]
        lasting = [step for step in steps if step % self._config.keep_every_steps == 0]
        # By the schedule that each was saved under, for it may have changed since.
        in_turn = [step for step in steps if found[step].in_turn]
        kept = {newest, *in_turn[-self._config.keep :], *lasting, *self._pinned(steps)}
        if len(kept) < 2:
            kept |= {*steps[-2:]}
        for step in steps:
            if step not in kept:
                self._delete(step)

    def _wait(self) -> None:
        if self._watcher:
            self._watcher.join()
            self._watcher = None

    def _not_saved(self, step: int, error: Exception) -> Failure:
        what = f"saving the checkpoint of step {step} in {self._folder} failed"
        if may_pass(_root(error)):
            return Preempted(f"{what} ({_in_a_line(error)}); this may pass: start again")
        return StopAndLook(
            f"{what} ({_in_a_line(error)}); look at the disk and its free space, then start again"
        )


def _setting(key: str, text: str | None) -> Any:
    """The value of a setting `Class.field`, which may be written in several ways; else the text."""
    try:
        return ast.literal_eval(text) if text and "." in key else text
    except (ValueError, SyntaxError):
        return text


def _thirds(tree: PyTree) -> Iterator[PyTree]:
    """The tree three times, with a third of its bytes each and placeholders for the others."""
    leaves, structure = jax.tree.flatten(tree)
    ends = list(itertools.accumulate(leaf.size * leaf.dtype.itemsize for leaf in leaves))
    thirds = [3 * (end - 1) // ends[-1] for end in ends]
    for third in sorted(set(thirds)):
        yield structure.unflatten(
            leaf if mine == third else ocp.PLACEHOLDER
            for leaf, mine in zip(leaves, thirds, strict=True)
        )


def _root(error: BaseException) -> BaseException:
    while error.__cause__:
        error = error.__cause__
    return error


def _in_a_line(error: BaseException) -> str:
    """The root of an error; of a long one its beginning and its end, where the cause is named."""
    error = _root(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = re.sub(r" \[\w+=.*", "", text)  # what TensorStore says for its developers
    return text if len(text) <= 200 else f"{text[:60]} ... {text[-140:]}"
