"""Scores of answers that need no model, on real evaluation sets: what is known of them beforehand.

    python -m benchmarks.metric_oracles --eval_dir DIR

DIR holds cmrc2018, drcd, lcsts, csl_title, xquad_zh_en, wmt21_en_zh, cft, cmrc2017 and the sets of
CONSTANTS, each with validation.jsonl. A predictor is a rule, such as the first 30 characters of the
passage, or always one label; what it scores was computed once by other means. Prints them, then one
JSON line for each bar; the exit status is 0 if all hold.
"""

import argparse
import dataclasses
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import fmean

from etils import epath

from benchmarks import bars
from welm_jax.tasks import chinese, examples, judgement, scores
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import Question, Row

Predictor = Callable[[Example], str]

OF_PASSAGES: dict[str, Predictor] = {
    "first 30 characters": lambda one: one.inputs["context"][:30],
    "first sentence": lambda one: re.split("[。！？]", one.inputs["context"])[0],
    "the passage": lambda one: one.inputs["context"],
    "答案是 and the answer": lambda one: "答案是" + one.references[0],
}
OF_TEXTS: dict[str, Predictor] = {
    "first 20 characters": lambda one: one.inputs["text"][:20],
    "first 30 characters": lambda one: one.inputs["text"][:30],
    "all of it": lambda one: one.inputs["text"],
}
PASSAGES = {  # of each predictor of OF_PASSAGES
    ("cmrc2018", "f1_cmrc"): (10.39, 11.55, 5.21, 77.96),
    ("cmrc2018", "f1_mlqa_zh"): (12.30, 13.33, 5.22, 77.87),
    ("drcd", "f1_cmrc"): (8.07, 7.16, 2.56, 69.14),
    ("drcd", "f1_mlqa_zh"): (8.95, 7.86, 2.56, 69.14),
}
TEXTS = {  # of each predictor of OF_TEXTS
    ("lcsts", "content"): (23.53, 25.03, 20.45),
    ("csl_title", "text"): (36.44, 37.55, 16.81),
}
CLOZES = {"cft": 12.60, "cmrc2017": 25.00}  # the commonest word of the document
CONSTANTS = {  # of each set the place that is most often right, among all choices
    "ocnli": ("neutral", 1, 37.40),
    "chnsenticorp": ("0", 1, 51.80),
    "cluewsc": ("false", 1, 50.75),
    "tnews": ("military", 9, 8.20),
    "chid": ("its second", 1, 16.00),
    "chid10_derived": ("its first", 0, 12.80),
    "c3": ("its first", 0, 27.80),
}
BLEUS = {"zh": 27.86, "char": 32.84, "13a": 0.88}  # one human translation against another


def with_words(record: examples.Record) -> Iterator[Example]:
    """A cloze with the words of its document, which the reader joins."""
    for one in examples.cloze_word(record):
        yield dataclasses.replace(one, inputs={"words": " ".join(record["document"])})


def commonest_word(example: Example) -> str:
    """Of two characters or more, without punctuation; of equals the first."""
    marks = set(string.punctuation + "，。？！；：、“”‘’《》（）…—")
    words = (word for word in example.inputs["words"].split() if not marks & set(word))
    return Counter(one for one in words if len(one) > 1 and one != "XXXXX").most_common(1)[0][0]


def always(place: int, example: Example, row: Row) -> dict:
    """The outcome of a model that likes the choice of one place."""
    choices = example.choices
    question = Question(
        example=example,
        prompt="",
        ids=[],
        candidates=[[0]] * len(choices),
        texts=choices,
        shots=0,
        demos_dropped=0,
        passage_cut=0,
    )
    sums = [0.0 if at == place else -1e4 for at in range(len(choices))]
    return judgement.of_choice(row, question, sums, [0.0] * len(choices))


def measured(folder: epath.Path) -> list[tuple[str, float, float]]:
    """(what it is, what it scores here, what it must score)."""

    def read(name: str, reader: examples.Reader) -> list[Example]:
        return examples.read(folder / name, "validation", reader)

    def mean(metric: str, asked: list[Example], predict: Predictor) -> float:
        score = scores.ANSWER_SCORES[metric]
        return 100 * fmean(scores.best_of(score, one.references, predict(one)) for one in asked)

    found = []
    for (name, metric), expected in PASSAGES.items():
        asked = read(name, examples.squad)
        for (rule, predict), value in zip(OF_PASSAGES.items(), expected, strict=True):
            found.append((f"{name}, {metric}: {rule}", mean(metric, asked, predict), value))
    for (name, field), expected in TEXTS.items():
        asked = read(name, examples.pair_of_texts(field, "title"))
        for (rule, predict), value in zip(OF_TEXTS.items(), expected, strict=True):
            found.append(
                (f"{name}, rouge1_char: {rule}", mean("rouge1_char", asked, predict), value)
            )
    for name, expected in CLOZES.items():
        value = mean("acc_exact", read(name, with_words), commonest_word)
        found.append((f"{name}, acc_exact: the commonest word", value, expected))
    for name, (label, place, expected) in CONSTANTS.items():
        row, of_row = next(
            (row, one) for row in chinese.ROWS for one in row.sets if one.folder == name
        )
        outcomes = [always(place, one, row) for one in read(name, of_row.reader)]
        among_all = "among_all_labels" if row.negatives else "value"
        value = judgement.summary(row, outcomes, {})[among_all]
        found.append((f"{name}, acc: always {label}", value, expected))
    system = read("lcsts", examples.pair_of_texts("system_summary", "title"))
    value = mean("rouge1_char", system, lambda one: one.inputs["text"])
    found.append(("lcsts, rouge1_char: its authors' system", value, 41.44))
    for answer, wrong, expected in (("zh", "en", 15.32), ("en", "zh", 11.59)):
        asked, others = (
            read("xquad_zh_en", examples.squad_in_two_languages("zh", "en", language))
            for language in (answer, wrong)
        )
        said = {one.id: one.references[0] for one in others}
        value = mean(f"f1_mlqa_{answer}", asked, lambda one, said=said: said[one.id])
        found.append((f"xquad, {answer}: the right answer in {wrong}", value, expected))
    first, second = (
        [one.references for one in read("wmt21_en_zh", examples.pair_of_texts("en", field))]
        for field in ("zh", "zh_B")
    )
    for tokenizer, expected in BLEUS.items():
        value, _ = scores.bleu(first, [one for (one,) in second], tokenizer)
        found.append((f"wmt21_en_zh, BLEU {tokenizer}: another translator", value, expected))
    return found


def main(folder: epath.Path) -> int:
    """Measures, prints, judges."""
    found = measured(folder)
    for what, value, expected in found:
        print(f"{value:6.2f} (known: {expected:6.2f})  {what}")
    worst = max(abs(round(value, 2) - expected) for _, value, expected in found)
    return bars.ended(
        [("oracles", len(found), "== 37"), ("worst_difference", round(worst, 4), "<= 0.005")]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eval_dir", required=True, help="holds the sets, a folder each")
    sys.exit(main(epath.Path(parser.parse_args().eval_dir)))
