"""Evaluation sets -> examples in one form.

A reader takes one record and gives the examples in it, be the record of the published file or of
the Hugging Face Hub's copy; docs/evaluation_sets.md has a line of each. What a record lacks or has
otherwise is an error with its place: a field that is empty in silence is a score that is wrong in
silence.
"""

import hashlib
import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etils import epath

from welm_jax.failures import InputError
from welm_jax.tasks import set_files
from welm_jax.tasks.same_text import digest_of_same
from welm_jax.tasks.set_files import Record

NO_ANSWER, EMPTY_REFERENCE = "no answer", "an empty reference"
CLUE_BLANK = "#idiom[0-9]+#"
YES_OR_NO = {"true": "是", "false": "否"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question.

    Attributes:
      id: the set's own, or of what it says.
      group: what shares a passage or, where there is none, all inputs, as same_text compares them;
        drawn together in intervals, kept apart in demonstrations.
      inputs: the texts that a prompt names.
      references: right answers, of a question that is answered freely.
      choices: the answers to choose from, of one that is not.
      gold: the place of the right choice.
      skipped: why it cannot be scored; empty of those that can.
      lacks: what was taken out of it, though it can be scored; empty where nothing was.
    """

    id: str
    group: str
    inputs: Mapping[str, str]
    references: Sequence[str] = ()
    choices: Sequence[str] = ()
    gold: int = -1
    skipped: str = field(default="", compare=False)
    lacks: str = field(default="", compare=False)

    def __post_init__(self):
        if self.skipped:
            return
        if self.choices:
            if not all(one.strip() for one in self.choices):
                raise ValueError(f"an option is empty: {list(self.choices)}")
            if len(set(self.choices)) < len(self.choices):
                raise ValueError(f"options that are the same: {list(self.choices)}")
            if not 0 <= self.gold < len(self.choices):
                raise ValueError(f"the answer is not among the options {list(self.choices)}")
        elif not self.references or not all(self.references):
            raise ValueError(NO_ANSWER)


Reader = Callable[[Record], Iterator[Example]]


@dataclass(frozen=True)
class WordReader:
    """A reader whose choices are the same words in every question: they are part of its wording.

    Attributes:
      reader: of a record.
      words: all of its choices, in their order.
    """

    reader: Reader
    words: tuple[str, ...]

    def __call__(self, record: Record) -> Iterator[Example]:
        """The examples in a record."""
        return self.reader(record)


def read(folder: epath.Path, split: str, reader: Reader) -> list[Example]:
    """The examples of a split, in the order of its files.

    Args:
      folder: of the set; see set_files.records.
      split: its name, such as `validation`.
      reader: of the set's format.

    Raises:
      InputError: the split is not there, is damaged or holds nothing, or a record is not of the
        format; says which line or row.
    """
    examples = []
    for place, record in set_files.records(folder, split):
        try:
            examples += reader(record)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            told = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{place}, is not of its format: {told}") from error
    if not examples:
        raise InputError(f"{split} of {folder} holds no examples")
    return examples


def squad(record: Record) -> Iterator[Example]:
    """A question about a passage, answered with words of it: CMRC 2018, DRCD, XQuAD, MLQA."""
    inputs = {name: _text(record[name]) for name in ("context", "question")}
    yield Example(
        id=_text(record["id"]),
        group=digest_of_same([inputs["context"]]),
        inputs=inputs,
        **_answered(_answers(record["answers"])),
    )


def squad_in_two_languages(context: str, question: str, answer: str) -> Reader:
    """The same where each language has its own passage, question and answers under its name.

    Args:
      context: language of the passage that is shown, as the record names it.
      question: that of the question.
      answer: that of the answers.
    """

    def reader(record: Record) -> Iterator[Example]:
        inputs = {
            "context": _text(record[context]["context"]),
            "question": _text(record[question]["question"]),
        }
        yield Example(
            id=_text(record["id"]),
            group=digest_of_same([inputs["context"]]),
            inputs=inputs,
            **_answered(_answers(record[answer]["answers"])),
        )

    return reader


def dureader(record: Record) -> Iterator[Example]:
    """A question to a search engine, with the best paragraph of each document that was chosen."""
    related = [
        _text(_items(one["paragraphs"])[one["most_related_para"]])
        for one in _items(record["documents"])
        if one["is_selected"]
    ]
    answered = _answered([*map(_answer, _items(record["answers"]))])
    inputs = {"context": "\n".join(related), "question": _text(record["question"])}
    yield Example(
        id=_text(record["question_id"]),
        group=digest_of_same([inputs["context"] or inputs["question"]]),
        inputs=inputs,
        **(answered if related else {"skipped": NO_ANSWER}),
    )


def cloze_word(record: Record) -> Iterator[Example]:
    """A word left out of a sentence of a document: PD, CFT, CMRC 2017. Words are joined again."""
    document = "".join(_text(line).replace(" ", "") for line in _items(record["document"]))
    query = _text(record["query"]).replace(" ", "")
    answer = _answer(record["answer"]).replace(" ", "")
    if "XXXXX" not in query:
        raise ValueError("the query has no XXXXX")
    yield Example(
        id=_text(record.get("id", _digest(document + query))),
        group=digest_of_same([document.replace("XXXXX", answer)]),  # whatever is left out of it
        inputs={
            "context": document.replace("XXXXX", "____"),
            "question": query.replace("XXXXX", "____"),
        },
        **_answered([answer]),
    )


def idiom_fill(record: Record) -> Iterator[Example]:
    """An idiom left out of a passage, with candidates: ChID."""
    before, blank, after = _text(record["content"]).partition("#idiom#")
    if not blank:
        raise ValueError("the content has no #idiom#")
    choices, gold = [*map(_text, _items(record["candidates"]))], _whole(record["answer"])
    yield Example(
        id=_text(record["id"]),
        group=digest_of_same([before + _chosen(choices, gold) + after]),
        inputs={"before": before, "after": after},
        choices=choices,
        gold=gold,
    )


def idioms_fill(record: Record) -> Iterator[Example]:
    """Idioms left out of several passages, all with the same candidates: CLUE's ChID.

    `answers` is what CLUE's file of answers says of the record's blanks: name -> place. The Hub has
    the places alone, as `candidate_id`, in the order of the blanks.
    """
    candidates = [*map(_text, _items(record["candidates"]))]
    passages, answers = [*map(_text, _items(record["content"]))], record["answers"]
    if "candidate_id" in answers:
        blanks = re.findall(CLUE_BLANK, "".join(passages))
        answers = dict(zip(blanks, _items(answers["candidate_id"]), strict=True))
    for passage in passages:
        whole = re.sub(
            CLUE_BLANK, lambda blank: _chosen(candidates, _whole(answers[blank[0]])), passage
        )
        group = digest_of_same([whole])
        for blank in re.findall(CLUE_BLANK, passage):
            before, after = (re.sub(CLUE_BLANK, "____", part) for part in passage.split(blank, 1))
            yield Example(
                id=blank.strip("#"),
                group=group,
                inputs={"before": before, "after": after},
                choices=candidates,
                gold=_whole(answers[blank]),
            )


def labelled(
    label: str, words: Mapping[str, str], drop: Sequence[str] = (), **fields: str
) -> WordReader:
    """Texts with a label, whose word is the answer.

    Args:
      label: the record's field that holds it.
      words: label as text -> the word that stands for it, in the order of the choices.
      drop: labels of records that are left out, for nobody knows what is right.
      fields: name in the prompt -> the record's field.
    """

    def reader(record: Record) -> Iterator[Example]:
        found = _text(record[label])
        if found in drop:
            return
        if found not in words:
            raise ValueError(f"label {found!r} is none of {list(words)}")
        inputs = {name: _text(record[theirs]) for name, theirs in fields.items()}
        yield Example(
            id=_text(record.get("id", _digest(json.dumps(inputs)))),
            group=digest_of_same(inputs.values()),
            inputs=inputs,
            choices=list(words.values()),
            gold=list(words).index(found),
        )

    return WordReader(reader, tuple(words.values()))


def multi_choice(record: Record) -> Iterator[Example]:
    """A question about a dialogue or text, with options: C3. The Hub calls the text `context`."""
    field = "context" if "context" in record else "document"
    document = "\n".join(map(_text, _items(record[field])))
    choices = [*map(_text, _items(record["choice"]))]
    if record["answer"] not in choices:
        raise ValueError(f"the answer {record['answer']!r} is not among the options {choices}")
    question = _text(record["question"])
    yield Example(
        id=f"{_text(record['id'])}-{_digest(question + json.dumps(choices))}",  # several have one
        group=digest_of_same([document]),
        inputs={"context": document, "question": question},
        choices=choices,
        gold=choices.index(record["answer"]),
        skipped="" if len(choices) > 1 else "a single option",
    )


def _pronoun(record: Record) -> Iterator[Example]:
    target, label = record["target"], _text(record["label"])
    if label not in YES_OR_NO:
        raise ValueError(f"label {label!r} is neither true nor false")
    yield Example(
        id=_text(record["idx"]),
        group=digest_of_same([_text(record["text"])]),
        inputs={
            "text": _text(record["text"]),
            "noun": _text(target["span1_text"]),
            "pronoun": _text(target["span2_text"]),
        },
        choices=list(YES_OR_NO.values()),
        gold=list(YES_OR_NO).index(label),
    )


# Whether a pronoun means a person or thing: CLUE's WSC 2020.
pronoun = WordReader(_pronoun, tuple(YES_OR_NO.values()))


def web_question(record: Record) -> Iterator[Example]:
    """A question that is answered from memory: WebQA. The evidence is not shown."""
    answers = [
        "" if one is None else "".join(map(_text, _items(one)))
        for evidence in _items(record["evidences"])
        for one in _items(evidence["golden_answers"])
    ]
    question = "".join(map(_text, _items(record["question_tokens"])))
    yield Example(
        id=_text(record["q_key"]),
        group=digest_of_same([question]),
        inputs={"question": question},
        **_answered([*dict.fromkeys(answers)]),
    )


def pair_of_texts(source: str, *targets: str) -> Reader:
    """A text and what is to be made of it: a summary, a title, a translation.

    Args:
      source: the record's field that is shown.
      targets: those that are right answers; all but the first may be absent.
    """

    def reader(record: Record) -> Iterator[Example]:
        text = _text(record[source])
        first = targets[0]
        references = [_answer(record[one]) for one in targets if one == first or one in record]
        yield Example(
            id=_text(record.get("id", record.get("idx", _digest(text + references[0])))),
            group=digest_of_same([text]),
            inputs={"text": text},
            **_answered(references),
        )

    return reader


def news_summary(record: Record) -> Iterator[Example]:
    """An article that has a mark between its paragraphs, and its summary: TTNews."""
    paragraphs = (part.strip() for part in _text(record["article"]).split("<Paragraph>"))
    article = "\n".join(filter(None, paragraphs))
    yield from pair_of_texts("article", "summarization")({**record, "article": article})


def _text(value: Any) -> str:
    """The text of a field; ids and labels may be whole numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r} where a text should be")
    return str(value)


def _answer(value: Any) -> str:
    return "" if value is None else _text(value).strip()


def _answers(value: Any) -> list[str]:
    """Of SQuAD's list of objects, each once; the Hub has an object of lists in its place."""
    if isinstance(value, Mapping):
        return [*dict.fromkeys(map(_answer, _items(value["text"])))]
    return [*dict.fromkeys(_answer(one["text"]) for one in _items(value))]


def _answered(answers: Sequence[str]) -> dict[str, Any]:
    """What an example has of its answers: the references, and what became of empty ones."""
    references = [*filter(None, answers)]
    lacks = EMPTY_REFERENCE if 0 < len(references) < len(answers) else ""
    skipped = "" if references else NO_ANSWER
    return {"references": references, "skipped": skipped, "lacks": lacks}


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} where a whole number should be")
    return value


def _chosen(choices: Sequence[str], place: int) -> str:
    return "".join(choices[place : place + 1])  # a wrong place is Example's to refuse


def _items(value: Any) -> list:
    """The items of a list; a text is none, though Python would go through its characters."""
    if not isinstance(value, list):
        raise ValueError(f"{reprlib.repr(value)} where a list should be")
    return value


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()[:16]
