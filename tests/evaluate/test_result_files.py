"""Two real processes that evaluate the same checkpoint at once; the model is a stand-in."""

import json

from tests.forked import Forked

EVALUATION = """
import contextlib, sys, time
import numpy as np
from etils import epath
from rich.progress import Progress
from tests.evaluate.small_summaries import summary
from welm_jax.evaluate import result_files, tables
from welm_jax.evaluate.model_functions import ModelFunctions, _Answers

folder, row, other, role = epath.Path(sys.argv[1]), *sys.argv[2:]

def meet(place):
    folder.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / f"{place}.{row}").touch()
    while not (folder.parent / f"{place}.{other}").exists():
        time.sleep(0.001)

class Model:
    def asked(self, what, questions):
        for number, (prompt, candidates) in enumerate(questions):
            if number in (50, 100, 150, 200):
                meet(number)  # so that both have asked it the same before either writes it
            yield number, [np.float32([-number])]

class Dataset:
    def as_numpy_iterator(self):
        for number in range(256):
            yield number, {"inputs": np.array([number]), "targets": np.array([7])}

meet("begin")
functions = ModelFunctions(
    identity="weights", model=Model(), eod_id=1, stops=np.zeros((0, 1), np.int32),
    max_new_tokens=4, file=folder / "shared.given.jsonl", progress=Progress(disable=True),
)
assert functions.scores(Dataset()) == [(number, -number) for number in range(256)]

def slowly(*arguments, shown=tables.shown):
    (folder.parent / "reads").touch()
    time.sleep(0.5)
    return shown(*arguments)

if role == "first":
    tables.shown = slowly
else:
    while not (folder.parent / "reads").exists():  # the summaries of the other
        time.sleep(0.001)
result_files.write_task(folder, summary(row, 0), [])
result_files.write_tables(folder, {"step": 7}, "run")
"""


def evaluate_twice(tmp_path, code=EVALUATION):
    """Returns the folder of results of two processes, each with a row of its own."""
    folder = tmp_path / "evaluation" / "7"
    rows = (("c3", "cmrc2018", "first"), ("cmrc2018", "c3", "second"))
    running = [Forked(code, [folder, *row], tmp_path / f"{row[0]}.log") for row in rows]
    assert [(one.wait(timeout=60), one.output.read_text()) for one in running] == [(0, "")] * 2
    return folder


def check_tables_hold_both(folder):
    for name in ("tables.md", "tables.html", "results.csv"):
        written = (folder / name).read_text()
        assert "c3" in written.lower() and "cmrc2018" in written.lower()
    assert not list(folder.glob("*.unfinished")) + list(folder.glob(".*.unfinished"))


def check_answers_are_there_once(folder):
    lines = map(json.loads, (folder / "shared.given.jsonl").read_text().splitlines())
    keys = [line["key"] for line in lines]
    assert len(keys) == len(set(keys)) == 256


def test_of_two_evaluations_at_once_the_tables_hold_both_and_answers_are_written_once(tmp_path):
    folder = evaluate_twice(tmp_path)
    check_tables_hold_both(folder)
    check_answers_are_there_once(folder)
