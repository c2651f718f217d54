"""A model as seqio's evaluator takes one: what it is given is kept on disk as it comes.

An evaluation that was killed asks the model for nothing twice: the same inputs and targets of the
same model have the same key, wherever they come from. Of several processes the first alone
evaluates; the others compute with it what it asks the model.
"""

import collections
import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import PyTree
from rich.progress import Progress

from welm_jax import run_files
from welm_jax.decode import rank
from welm_jax.decode.generate import generate, programs
from welm_jax.evaluate import result_files
from welm_jax.failures import Failure, StopAndLook
from welm_jax.model.decoder import Assembler
from welm_jax.train import digests, hosts

KEPT_AT_A_TIME = 64  # answers that a kill may lose
ROW_TOKENS = 2048  # of a row in which several choices share a prompt
BATCH_TOKENS = 8192
FIRST_ID = 0  # of a vocabulary; ours pads with it


class OutOfStep(Exception):
    """What all processes compute together failed here: the others may be in the middle of it."""


Pair = tuple[tuple[int, ...], tuple[int, ...]]  # ids of inputs and targets


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder that the first process asks, and that all processes compute.

    The others do as they are told, so they read no data, and can come to compute nothing else.

    Attributes:
      assemble: makes the decoder; the same object every time, or it compiles again.
      parameters: its weights, on the mesh.
      mesh: where they live.
    """

    assemble: Assembler
    parameters: PyTree
    mesh: jax.sharding.Mesh

    def asked(self, what: str, *arguments: Any) -> Iterator[Any]:
        """What one of the methods below yields, on the first process while the others follow.

        To be read to its end, for there the others get.

        Args:
          what: the method.
          arguments: its own, as JSON has them.

        Raises:
          OutOfStep: it failed as nobody foresaw, and there are several processes.
        """
        try:
            hosts.by_first(lambda: [what, *arguments])
            yield from getattr(self, what)(*arguments)
        except Exception as error:
            if isinstance(error, Failure) or jax.process_count() == 1:
                raise
            raise OutOfStep(f"{what} of the model: {error}") from error

    def follow(self) -> None:
        """On the other processes: computes what the first asks, until it dismisses them."""
        while asked := hosts.by_first(lambda: None):
            what, *arguments = asked
            with contextlib.suppress(Failure):  # the first has it as well, and tells
                _read_to_its_end(getattr(self, what)(*arguments))

    def dismiss(self) -> None:
        """On the first process: nothing more is asked."""
        hosts.by_first(lambda: None)

    def fingerprint(self) -> Iterator[str]:
        """Tells the weights from others, wherever they live."""
        leaves = json.dumps(digests.records(self.parameters), sort_keys=True)
        yield hashlib.sha256(leaves.encode()).hexdigest()[:12]

    def scores(
        self, questions: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """See rank.log_likelihoods; a question is a prompt and its candidates."""
        with jax.set_mesh(self.mesh):
            yield from rank.log_likelihoods(
                self.assemble,
                self.parameters,
                [rank.Question(prompt=prompt, candidates=own) for prompt, own in questions],
                row_tokens=ROW_TOKENS,
                batch_tokens=BATCH_TOKENS,
            )

    def continuations(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        eod_id: int,
        stops: Sequence[Sequence[int]],
    ) -> Iterator[tuple[int, list[int]]]:
        """See generate; greedy."""
        with jax.set_mesh(self.mesh):
            yield from generate(
                self.assemble,
                self.parameters,
                prompts,
                max_new_tokens=max_new_tokens,
                eod_id=eod_id,
                stops=np.array(stops, np.int32),
                batch_tokens=BATCH_TOKENS,
            )


def _read_to_its_end(given: Iterable[Any]) -> None:
    collections.deque(given, maxlen=0)


@dataclass(frozen=True, kw_only=True)
class ModelFunctions:
    """A decoder's log-likelihoods and greedy continuations of a seqio dataset.

    Attributes:
      identity: tells the model from others, in words that no other has.
      model: that is asked.
      eod_id: ends a continuation.
      stops: see text.stop_strings; ends one too.
      max_new_tokens: of a continuation.
      file: where what the model gave is kept.
      progress: shows how far it is.
    """

    identity: str
    model: Model
    eod_id: int
    stops: np.ndarray
    max_new_tokens: int
    file: epath.Path
    progress: Progress

    def scores(self, dataset: Any) -> list[tuple[int, float]]:
        """Is seqio's score_fn: the summed log-likelihood of each example's targets."""
        pairs = _pairs(dataset)
        by_prompt: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        answers = _Answers(self.file)
        known = answers.read()
        for inputs, targets in pairs:
            if self._key(inputs, targets) not in known:
                by_prompt.setdefault(inputs, {})[targets] = None
        asked = [
            rank.Question(prompt=prompt, candidates=[*of_prompt])
            for prompt, of_prompt in by_prompt.items()
        ]
        known |= self._kept("scoring", len(asked), self._score(asked), answers)
        return [(at, known[self._key(*pair)]) for at, pair in enumerate(pairs)]

    def continuations(self, dataset: Any) -> list[tuple[int, list[int]]]:
        """Is seqio's predict_fn: greedy ids; ends of documents fill up the shorter ones.

        Raises:
          StopAndLook: some were chosen among scores that are no numbers.
        """
        pairs, answers = _pairs(dataset), _Answers(self.file)
        known = answers.read()
        asked = [*dict.fromkeys(inputs for inputs, _ in pairs if self._key(inputs) not in known)]
        known |= self._kept("generating", len(asked), self._generate(asked), answers)
        found = [known[self._key(inputs)] for inputs, _ in pairs]
        self._check_numbers({inputs: ids for (inputs, _), ids in zip(pairs, found, strict=True)})
        longest = max(map(len, found), default=0)
        return [(at, [*ids, *[self.eod_id] * (longest - len(ids))]) for at, ids in enumerate(found)]

    def _score(self, asked: Sequence[rank.Question]) -> Iterator[dict[str, float]]:
        questions = [(one.prompt, one.candidates) for one in asked]
        for number, scores in self.model.asked("scores", questions):
            question = asked[number]
            yield {
                self._key(question.prompt, targets): float(of_one.sum(dtype=np.float64))
                for targets, of_one in zip(question.candidates, scores, strict=True)
            }

    def _generate(self, asked: Sequence[Sequence[int]]) -> Iterator[dict[str, list[int]]]:
        how = self.max_new_tokens, self.eod_id, self.stops.tolist()
        for number, ids in self.model.asked("continuations", asked, *how):
            yield {self._key(asked[number]): ids}

    def _check_numbers(self, answers: Mapping[Sequence[int], Sequence[int]]) -> None:
        """Raises StopAndLook if answers come from scores that are no numbers.

        The largest of those is taken to be the first, that of FIRST_ID: answers that hold it, which
        a tokenizer of ours never gives, are scored.
        """
        doubtful = []
        for inputs, ids in answers.items():
            chosen = [*ids, self.eod_id]
            if FIRST_ID in chosen:
                candidate = chosen[: chosen.index(FIRST_ID) + 1]
                doubtful.append(rank.Question(prompt=inputs, candidates=[candidate]))
        given = [value for one in self._score(doubtful) for value in one.values()]
        if lost := len(given) - int(np.isfinite(given).sum()):
            raise StopAndLook(
                f"the model's likelihoods are no numbers in {lost} of {len(answers)} answers"
            )

    def _key(self, *ids: Sequence[int]) -> str:
        how = f"{self.identity} {self.max_new_tokens} {self.stops.shape} {self.stops.sum()}"
        text = "|".join([how, *(",".join(map(str, one)) for one in ids)])
        return hashlib.sha1(text.encode()).hexdigest()

    def _kept(
        self, verb: str, total: int, given: Iterator[Mapping[str, Any]], answers: "_Answers"
    ) -> dict[str, Any]:
        """Writes down what is given, some at a time, and shows how much of it there is."""
        found: dict[str, Any] = {}
        waiting: dict[str, Any] = {}
        bar = self.progress.add_task(f"{verb} {self.file.name.partition('.')[0]}", total=total)
        try:
            for one in given:
                waiting |= one
                self.progress.advance(bar)
                if len(waiting) >= KEPT_AT_A_TIME:
                    answers.add(waiting)
                    found |= waiting
                    waiting = {}
        except Exception:
            if jax.process_count() > 1:  # the others compute all that was asked
                _read_to_its_end(given)
            raise
        finally:
            answers.add(waiting)
            self.progress.remove_task(bar)
        return found | waiting


class _Answers:
    """The file of what a model gave, to which other processes may add as well."""

    def __init__(self, file: epath.Path):
        self._file = file
        self._length: int | None = None  # of the file when we last looked

    def read(self) -> dict[str, Any]:
        """Returns what was given before, by its key; a number that is none is written as null."""
        self._length = self._length_now()
        return {
            line["key"]: math.nan if line["given"] is None else line["given"]
            for line in run_files.read_lines(self._file)
        }

    def add(self, given: Mapping[str, Any]) -> None:
        """Writes down what is not in the file yet."""
        with result_files.in_turn(self._file.parent):
            known = self.read() if self._length_now() != self._length else {}
            new = [{"key": key, "given": given[key]} for key in given if key not in known]
            if new:
                run_files.append_lines(self._file, new)
                self._length = self._length_now()

    def _length_now(self) -> int | None:
        return self._file.stat().length if self._file.exists() else None


def programs_in_words(mesh: jax.sharding.Mesh, window: int) -> str:
    """How many programs this process has compiled for models, beside the most that it may need.

    Args:
      mesh: where the model lives.
      window: tokens that a prompt and its answer may take together.
    """
    longest = max(window, ROW_TOKENS)
    with jax.set_mesh(mesh):
        scoring, most_scoring = rank.programs(longest, BATCH_TOKENS)
        generating, most_generating = programs(window, BATCH_TOKENS)
    return (
        f"compiled {scoring} programs for scoring (at most {most_scoring:,} for rows of up to "
        f"{longest:,} tokens) and {generating} for generating (at most {most_generating:,} for "
        f"prompts of up to {window:,} and one length of answers)"
    )


def _pairs(dataset: Any) -> list[Pair]:
    examples = [(int(at), one) for at, one in dataset.as_numpy_iterator()]
    assert [at for at, _ in examples] == list(range(len(examples)))
    return [(tuple(one["inputs"].tolist()), tuple(one["targets"].tolist())) for _, one in examples]
