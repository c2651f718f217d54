"""Tasks evaluated while a run trains: training is as without, and the figures are the command's."""

import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import tiny_corpus
from tests.evaluate.small_summaries import summaries as summaries_of
from tests.tasks import small_sets
from welm_jax import launch, run_evaluation, run_files
from welm_jax.decode import rank
from welm_jax.evaluate import (
    averages,
    evaluator,
    model_functions,
    paper_numbers,
    result_files,
)
from welm_jax.failures import InputError
from welm_jax.run_evaluation import EvaluationConfig
from welm_jax.run_files import RunFolder, read_lines
from welm_jax.run_parts import RunParts
from welm_jax.train import hosts
from welm_jax.train.checkpoints import Progress
from welm_jax.train.run_log import RunLog

TASKS = ("c3_0shot", "cmrc2018_0shot")
MESH = [f"MeshConfig.{axis} = 2" for axis in ("data", "fsdp", "tensor")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    small_sets.write(folder / "c3", "validation", [*map(small_sets.dialogue, range(6))])
    small_sets.write(folder / "cmrc2018", "validation", [*map(small_sets.squad, range(6))])
    return folder


def trained(folder, steps, *more):
    lines = ("LoopConfig.log_every_steps = 1", "CheckpointConfig.every_steps = 2")
    file = tiny_corpus.run_gin(folder / "run.gin", steps, *MESH, *lines, *more)
    launch.dispatch(["train", "--gin_file", str(file), "--run_dir", str(folder / "run")])
    return RunFolder(folder / "run")


def evaluation(data_dir, every_steps, tasks):
    found = {"every_steps": every_steps, "data_dir": str(data_dir), "tasks": tasks, "limit": 4}
    return [f"EvaluationConfig.{name} = {value!r}" for name, value in found.items()]


@pytest.fixture(scope="module")
def evaluated(data_dir, tmp_path_factory):
    half = "ModelConfig.compute_dtype = 'bfloat16'"
    folder = tmp_path_factory.mktemp("evaluated")
    return trained(folder, 4, half, *evaluation(data_dir, 2, TASKS))


def summaries(run, step):
    return result_files.summaries(run.evaluation / str(step), {})


def test_training_is_bit_for_bit_what_it_is_without(evaluated, tmp_path):
    plain = trained(tmp_path, 4, "ModelConfig.compute_dtype = 'bfloat16'")
    ours, theirs = (
        [(line["step"], line["loss"], line["gradient_norm"]) for line in run.iterations()]
        for run in (evaluated, plain)
    )
    assert ours == theirs and len(ours) == 4


def test_scores_are_filed_logged_and_their_time_told(evaluated):
    lines = [line for line in read_lines(evaluated.metrics) if "scores" in line]
    assert [(line["attempt"], line["step"], line["cursor"]) for line in lines] == [
        (0, 2, 2),
        (0, 4, 4),
    ]
    for line in lines:
        found = summaries(evaluated, line["step"])
        assert {(one["attempt"], one["compute_dtype"]) for one in found.values()} == {
            (0, "float32")
        }
        values = {name: one["value"] for name, one in found.items()}
        assert set(values) == set(TASKS)
        assert line["scores"] == {**values, "clue_average_of_2": sum(values.values()) / 2}
        assert (evaluated.evaluation / f"{line['step']}/tables.html").exists()
    events = EventAccumulator(str(evaluated.tensorboard / "attempt_0")).Reload()
    assert [one.step for one in events.Scalars("evaluation/clue_average_of_2")] == [2, 4]
    [life] = evaluated.goodput.iterdir()
    assert json.loads(life.read_text())["seconds"]["evaluate_tasks"] > 0


def test_a_clue_average_of_all_rows_has_a_name_of_its_own_and_what_it_is_of_is_said():
    found = summaries_of(paper_numbers.CLUE)
    assert run_evaluation._scores(found)["clue_average"] == averages.clue_average(found).value
    found["chid_0shot"]["stands_in"] = "7 candidates"
    words = run_evaluation._average_in_words(found, 9)
    assert words.endswith("8 of 8 rows; the first 9 examples of each; not the paper's sets: CHID")
    del found["cmnli_0shot"]
    named = [name for name in run_evaluation._scores(found) if name.startswith("clue_average")]
    assert named == ["clue_average_of_7"]


def test_an_evaluation_that_was_cut_is_made_up_by_the_next_start(evaluated, tmp_path, monkeypatch):
    """First that of the step in the middle, which training goes on from; then that of the last."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(evaluated.path, run.path)
    shutil.rmtree(run.checkpoints / "4")
    before = [line for line in read_lines(run.metrics) if line["step"] <= 2 and "loss" in line]
    run_files.write_lines(run.metrics, before)
    plain, cut = evaluator.evaluate, [2, 4]

    def killed(subject, *rest):
        if subject.step in cut:
            cut.remove(subject.step)
            raise KeyboardInterrupt
        return plain(subject, *rest)

    monkeypatch.setattr(evaluator, "evaluate", killed)
    line = ["train", "--gin_file", str(evaluated.path.parent / "run.gin"), "--run_dir"]
    for told in ([], [2]):
        with pytest.raises(KeyboardInterrupt):
            launch.dispatch([*line, str(run.path)])
        assert scored(run) == told
    for _ in range(2):  # and once only
        launch.dispatch([*line, str(run.path)])
        assert scored(run) == [2, 4]
    assert summaries(run, 4) == summaries(evaluated, 4)


def scored(run):
    return [line["step"] for line in read_lines(run.metrics) if "scores" in line]


def command(run, data_dir):
    line = ["evaluate", "--run_dir", str(run.path), "--data_dir", str(data_dir), "--limit", "4"]
    launch.dispatch([*line, *(word for task in TASKS for word in ("--task", task))])


def test_the_command_finds_the_same_and_asks_for_nothing_again(evaluated, data_dir, monkeypatch):
    before = summaries(evaluated, 4)

    def asked(assemble, parameters, questions, **_):
        assert not questions
        return ()

    monkeypatch.setattr(rank, "log_likelihoods", asked)
    monkeypatch.setattr(model_functions, "generate", asked)
    command(evaluated, data_dir)
    assert summaries(evaluated, 4) == before


def test_one_device_gives_the_summaries_of_eight(evaluated, data_dir, tmp_path, monkeypatch):
    """A run whose devices are not all there is evaluated on the first."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(evaluated.path, run.path)
    with run.config.open("a") as config:
        config.write("MeshConfig.data = 16\n")
    shutil.rmtree(run.evaluation)
    sizes = []
    plain = evaluator.evaluate
    monkeypatch.setattr(
        evaluator, "evaluate", lambda one, *rest: sizes.append(one.mesh.size) or plain(one, *rest)
    )
    command(run, data_dir)
    assert sizes == [1]
    assert summaries(run, 4) == summaries(evaluated, 4)
    for task in TASKS:
        ours, theirs = (given(one, task) for one in (run, evaluated))
        assert ours == (pytest.approx(theirs, abs=1e-3) if task == "c3_0shot" else theirs)


def given(run, task):
    lines = read_lines(run.evaluation / f"4/{task}.given.jsonl")
    return {line["key"]: line["given"] for line in lines}


def test_the_report_draws_both_checkpoints(evaluated):
    launch.dispatch(["report", "--run_dir", str(evaluated.path)])
    page = evaluated.report.read_text()
    assert "CLUE average, zero-shot, per cent, over" in page
    assert "Step 4 and 1 before it" in page and "2 of 8 rows, without CHID, CMNLI" in page


def test_what_goes_wrong_is_told_and_training_goes_on(evaluated, tmp_path, monkeypatch, capsys):
    """First a fault of ours, with what rich takes for markup; then data that broke meanwhile.

    As the first of several processes it goes on too, unless they were computing together.
    """
    small_sets.write(tmp_path / "ocnli", "validation", [{**small_sets.nli(1), "label": 3}])
    plain, faults = evaluator.evaluate, [RuntimeError("a fault of ours: [/c3]\nand more")]

    def failing(*arguments):
        if faults:
            raise faults.pop()
        return plain(*arguments)

    monkeypatch.setattr(evaluator, "evaluate", failing)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for file in (evaluated.mixture, evaluated.tokenizer):
        file.copy(run.path / file.name)
    lines = evaluation(tmp_path, 1, ("ocnli_0shot",))
    run.config.write_text("\n".join([evaluated.config.read_text(), *lines]))
    parts = RunParts.opened(run)
    with RunLog(run, flops_per_token=1, total_steps=2, every_steps=1) as log:
        evaluate = run_evaluation.callback(run, parts, log)
        for step in (1, 2):
            evaluate(
                SimpleNamespace(parameters={"weight": jnp.zeros(1)}),
                Progress(step=step, cursor=step),
            )
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(hosts, "by_first", lambda act: act())
        for step, fault in ((3, OSError("no")), (4, ValueError("no")), (5, KeyError("no"))):
            faults.append(fault)
            evaluate(
                SimpleNamespace(parameters={"weight": jnp.zeros(1)}),
                Progress(step=step, cursor=step),
            )
        monkeypatch.setattr(model_functions.digests, "records", lost)
        small_sets.write(tmp_path / "ocnli", "validation", [small_sets.nli(1)])
        with pytest.raises(model_functions.OutOfStep, match="fingerprint of the model: a device"):
            evaluate(
                SimpleNamespace(parameters={"weight": jnp.zeros(1)}), Progress(step=6, cursor=6)
            )
    failed = {line["step"]: line["failed"] for line in read_lines(run.metrics) if "failed" in line}
    assert failed[1] == "RuntimeError: a fault of ours: [/c3]"  # a line; the console has it whole
    assert list(failed) == [1, 2, 3, 4, 5]
    assert failed[2].startswith("none of ocnli_0shot could be evaluated")
    told = capsys.readouterr().out
    assert "step 1: NOT EVALUATED, and training goes on: Traceback" in told
    assert "RuntimeError: a fault of ours: [/c3]\nand more" in told
    assert "ocnli_0shot is left out" in told and "step 2: NOT EVALUATED" in told
    assert "- OCNLI: ocnli_0shot is left out" in (run.evaluation / "2/tables.md").read_text()


def lost(_):
    raise ValueError("a device is lost")


def test_off_unless_asked_for_and_the_window_is_the_commands():
    assert EvaluationConfig().every_steps == 0
    assert EvaluationConfig().tasks == tuple(f"{name}_0shot" for name in averages.CLUE)
    assert dict(launch.EVALUATE_FLAGS)["--window"]["default"] == run_evaluation.WINDOW
    run_evaluation.check(EvaluationConfig(data_dir="/nowhere"), [])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"every_steps": -1}, "every_steps = -1; it must be 0 .off. or more"),
        ({"limit": 0}, "EvaluationConfig.limit = 0; it must be 1 or more"),
        ({"every_steps": 5}, "every_steps = 5 needs EvaluationConfig.tasks and .*data_dir"),
        ({"every_steps": 5, "data_dir": "/nowhere"}, "data_dir = /nowhere is no folder"),
        ({"every_steps": 5, "data_dir": "DATA"}, "has no data of chid, cmnli, ocnli, tnews, ifly"),
        (
            {"every_steps": 5, "data_dir": "DATA", "tasks": ("c3_0shots",)},
            "there is no task c3_0shots; did you mean c3_0shot",
        ),
        ({"every_steps": 5, "data_dir": "DATA", "tasks": ("welm_table5",)}, "no data of welm_tab"),
    ],
)
def test_what_could_not_be_evaluated_is_refused(data_dir, values, words):
    if values.get("data_dir") == "DATA":
        values = {**values, "data_dir": str(data_dir)}
    with pytest.raises(InputError, match=words):
        run_evaluation.check(EvaluationConfig(**values), [])


def test_it_is_refused_before_the_first_step(data_dir, tmp_path):
    with pytest.raises(InputError, match="did you mean c3_0shot"):
        trained(tmp_path, 4, *evaluation(data_dir, 1, ("c3_0shit",)))
    assert not (tmp_path / "run").exists()
