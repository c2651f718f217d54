"""A row of the paper's tables: from examples to what a model sees, and from its answers to scores.

Prompt and answer are tokenised apart and joined as ids, in demonstrations too: tokenised as one
text, some of their characters would melt into one piece, and the wrong tokens would be scored.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from etils import epath

from welm_jax.tasks import demonstrations, set_files
from welm_jax.tasks.examples import Example, Reader, WordReader
from welm_jax.text.fast_tokenizer import AnyTokenizer

BETWEEN = "\n\n"  # demonstrations


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """Where the examples of a row come from.

    Attributes:
      folder: its name below the data folder; holds its files.
      pool: the folder whose train split demonstrations come from, if it is another.
      reader: of its records.
      stands_in: what it is, if it is not the paper's set.
      checked: what the reader was tried on.
    """

    folder: str
    pool: str = ""
    reader: Reader
    stands_in: str = ""
    checked: Literal["real file", "own fixture", "nothing"] = "real file"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the paper's tables.

    Attributes:
      name: of its tasks, such as cmrc2018.
      title: as the paper writes it.
      sets: where its examples may come from; the first that is there counts.
      prompt: text with {fields} of an example; ends where the model goes on, with no blank.
      metric: headline; a name in scores.ANSWER_SCORES, `acc` for choices, `bleu_...` for BLEU by
        one of sacrebleu's tokenizers.
      also: further scores of answers.
      shots: demonstrations that the paper's few-shot column has.
      passage: the field that is cut, from its left, where a prompt is too long.
      suffix: text with {fields} that belongs to a choice and is scored with it.
      negatives: wrong labels a question is left with; 0 leaves all.
      max_new_tokens: of an answer; 0 where it is chosen.
      language: that answers are asked for in; none if no prompt asks for one.
      lead: characters at the beginning of the passage that stand beside answers as a baseline.
    """

    name: str
    title: str
    sets: Sequence[EvalSet]
    prompt: str
    metric: str
    also: Sequence[str] = ()
    shots: int
    passage: str = ""
    suffix: str = ""
    negatives: int = 0
    max_new_tokens: int = 0
    language: str = ""
    lead: int = 0

    @property
    def prompt_id(self) -> str:
        """Its name and a digest of its wording, label words and all: another has another."""
        readers = [one.reader for one in self.sets]
        words = [one.words for one in readers if isinstance(one, WordReader)]
        wording = json.dumps([self.prompt, self.suffix, BETWEEN, *words])
        return f"{self.name}-{hashlib.sha1(wording.encode()).hexdigest()[:8]}"

    def available(self, data_dir: epath.Path) -> EvalSet | None:
        """The first of its sets that is there."""
        return next(
            (one for one in self.sets if set_files.has_split(data_dir / one.folder, "validation")),
            None,
        )


@dataclass(frozen=True, kw_only=True)
class Question:
    """An example as a model sees it.

    Attributes:
      example: what it is made of.
      prompt: its text, demonstrations and all.
      ids: the prompt's.
      candidates: ids of each choice and the suffix; none where the answer is free.
      texts: those of the candidates.
      shots: demonstrations in it.
      demos_dropped: those that it was too long for.
      passage_cut: characters taken from the left of its passage.
    """

    example: Example
    prompt: str
    ids: Sequence[int]
    candidates: Sequence[Sequence[int]]
    texts: Sequence[str]
    shots: int
    demos_dropped: int
    passage_cut: int


@dataclass(frozen=True, kw_only=True)
class Prompter:
    """Makes the questions of a row.

    Attributes:
      row: of the tables.
      tokenizer: the model's.
      window: tokens that a prompt and its answer may take together.
      shots: demonstrations wanted.
    """

    row: Row
    tokenizer: AnyTokenizer
    window: int
    shots: int

    def questions(
        self, asked: Sequence[Example], pool: Sequence[Example]
    ) -> tuple[list[Question], Counter[str]]:
        """What a model is asked, and why some of it cannot be, counted."""
        skipped = Counter(one.skipped for one in asked if one.skipped)
        made = [self._question(one, pool) for one in asked if not one.skipped]
        if too_long := made.count(None):
            skipped["longer than the window without its passage"] = too_long
        return [one for one in made if one], skipped

    def _question(self, example: Example, pool: Sequence[Example]) -> Question | None:
        row = self.row
        shown = demonstrations.choose(pool, example, self.shots, row.name)
        texts = [choice + row.suffix.format_map(example.inputs) for choice in example.choices]
        candidates = [self.tokenizer.encode(text) for text in texts]
        room = self.window - max(map(len, candidates), default=row.max_new_tokens)
        pieces = [self._demonstration(one) for one in shown]
        demos = [
            [token for piece in of_one for token in self.tokenizer.encode(piece)]
            for of_one in pieces
        ]
        query, cut, dropped = self._prompt(example), 0, 0
        own = self.tokenizer.encode(query)
        while dropped < len(demos) and 1 + sum(map(len, demos[dropped:])) + len(own) > room:
            dropped += 1
        if 1 + len(own) > room:
            cut = self._cut(example, room - 1)
            if cut is None:
                return None
            query = self._prompt(example, cut)
            own = self.tokenizer.encode(query)
        kept = "".join(piece for of_one in pieces[dropped:] for piece in of_one)
        return Question(
            example=example,
            prompt=kept + query,
            ids=[self.tokenizer.eod_id, *(token for one in demos[dropped:] for token in one), *own],
            candidates=candidates,
            texts=texts,
            shots=len(demos) - dropped,
            demos_dropped=dropped,
            passage_cut=cut,
        )

    def _demonstration(self, example: Example) -> tuple[str, str, str]:
        """Prompt, answer, and what is between it and the next."""
        answer = example.choices[example.gold] if example.choices else example.references[0]
        suffix = self.row.suffix.format_map(example.inputs)
        return self._prompt(example), answer + suffix, BETWEEN

    def _prompt(self, example: Example, cut: int = 0) -> str:
        """The prompt without the first characters of its passage."""
        passage = self.row.passage
        inputs = (
            {**example.inputs, passage: example.inputs[passage][cut:]} if cut else example.inputs
        )
        return self.row.prompt.format_map(inputs)

    def _cut(self, example: Example, room: int) -> int | None:
        """How many characters of the passage have to go; None if all of them are too few."""
        low, high = 0, len(example.inputs[self.row.passage]) if self.row.passage else 0

        def fits(cut: int) -> bool:
            return len(self.tokenizer.encode(self._prompt(example, cut))) <= room

        if not fits(high):
            return None
        while high - low > 1:  # low takes too little, high enough
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high
