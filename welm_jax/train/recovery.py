"""The journal of recoveries: what was decided, in numbered records that never change.

Writing a record is the commit point of a recovery. All that follows from it (which checkpoints are
abandoned, which batches are skipped, which rate is in force) is derived from the journal at every
start, so that a crash at any moment loses nothing. Deliberately does not know how a decision is
made (rollback) nor what a checkpoint is. No append, no rename: it works in a bucket.
"""

import dataclasses
import json
import re
from collections.abc import Callable

from etils import epath

from welm_jax import run_files
from welm_jax.failures import StopAndLook
from welm_jax.train import faults
from welm_jax.train.lineage import Recovery
from welm_jax.train.rollback import Exhausted

NAME = r"\d{6}\.json"


class Journal:
    """The folder of records `000001.json`, `000002.json` and so on.

    Each record bears its own sha256 and that of the one before it, so that an edit by hand shows.
    """

    def __init__(self, folder: epath.PathLike):
        self._folder = epath.Path(folder)

    def records(self) -> list[Recovery]:
        """All that was committed, in order.

        A last file that a crash cut short was never committed, and is left out.

        Raises:
          StopAndLook: a record is missing, damaged or edited.
        """
        return [Recovery.from_json(content) for content in self._contents()]

    def commit(self, recovery: Recovery) -> None:
        """Writes the next record; once it is on disk the recovery is decided.

        Raises:
          StopAndLook: a record of this number is there already: somebody else writes here.
        """
        contents = self._contents()
        file = self._file(recovery.id)
        if recovery.id != len(contents) + 1:
            raise StopAndLook(
                f"{file} is not the next record: another process writes to this run; let only one "
                "train it"
            )
        before = contents[-1]["sha256"] if contents else ""
        content = run_files.sealed({**dataclasses.asdict(recovery), "previous_sha256": before})
        self._folder.mkdir(parents=True, exist_ok=True)
        faults.write_boundary(f"record {recovery.id} comes")
        run_files.write_lasting(file, json.dumps(content, indent=1) + "\n")
        faults.write_boundary(f"record {recovery.id} is written")

    def _file(self, number: int) -> epath.Path:
        return self._folder / f"{number:06d}.json"

    def _contents(self) -> list[dict]:
        if not self._folder.exists():
            return []
        files = sorted(file for file in self._folder.iterdir() if re.fullmatch(NAME, file.name))
        if files and not _is_whole(files[-1]):
            files.pop()
        contents, before = [], ""
        for number, file in enumerate(files, start=1):
            if file.name != self._file(number).name:
                raise StopAndLook(f"{self._file(number)} is missing; restore it from a copy")
            content = _content(file)
            if content["previous_sha256"] != before:
                raise StopAndLook(
                    f"{file} does not follow the record before it (it names {before[:12]!r} as "
                    f"{content['previous_sha256'][:12]!r}); restore both from a copy"
                )
            before = content["sha256"]
            contents.append(content)
        return contents


def agreed(decide: Callable[[], Recovery | Exhausted], seen: object) -> Recovery | Exhausted:
    """The decision of process 0, once all processes are known to have seen the same.

    Args:
      decide: makes the decision; only process 0 calls it, for listings of files may differ.
      seen: what the decision rests on; anything with a faithful repr.

    Raises:
      StopAndLook: on all processes, before anything is written: one of them saw something else, or
        process 0 could not decide.
    """
    from welm_jax.train import hosts  # here alone: a report reads journals without jax

    def as_json() -> str:
        decision = decide()
        return json.dumps([type(decision).__name__, dataclasses.asdict(decision)])

    text = hosts.by_first(as_json)
    hosts.check_same({"what a recovery rests on": repr(seen)})
    kind, content = json.loads(text)
    return Exhausted(**content) if kind == Exhausted.__name__ else Recovery.from_json(content)


def _content(file: epath.Path) -> dict:
    try:
        content = run_files.unsealed(file.read_bytes())
        Recovery.from_json(content), content["previous_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise StopAndLook(
            f"{file} is damaged or was edited ({error}); restore it from a copy "
            "(`welm recover roll-back` adds decisions)"
        ) from error
    return content


def _is_whole(file: epath.Path) -> bool:
    """Whether a record was written to its end, be it damaged or laid out anew since."""
    text = file.read_bytes().rstrip()
    try:
        json.loads(text)
    except ValueError:
        return text.endswith(b"\n}")  # no brace within a record stands at the beginning of a line
    return True
