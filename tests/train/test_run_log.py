import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from welm_jax import run_files
from welm_jax.run_files import RunFolder
from welm_jax.train.run_log import RunLog


def record(step):
    place = {"attempt": 0, "step": step, "cursor": step, "tokens": 64 * step, "batch_tokens": 64}
    return {**place, "loss": 5.0 - step, "gradient_norm": 1.0, "learning_rate": 1e-3}


@pytest.fixture
def logged(tmp_path, capsys):
    run = RunFolder(tmp_path)
    with RunLog(run, flops_per_token=6, total_steps=4, every_steps=2) as log:
        log.step(record(1), None)
        log.step(record(2), 0.5)
        log.step(record(3), 0.25)
    return run, capsys.readouterr().out


def test_every_step_is_a_line_of_metrics(logged):
    run, _ = logged
    lines = list(run_files.read_lines(run.metrics))
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[0]["tokens_per_second"] is None
    assert lines[2]["tokens_per_second"] == 64 / 0.25


def test_the_console_shows_the_steps_it_was_asked_for_and_no_guess_of_utilisation(logged):
    _, shown = logged
    assert "step 2/4" in shown and "step 1/4" not in shown
    assert "128 tokens/s" in shown and "MFU n/a" in shown  # a CPU's peak is not known


def test_what_is_said_is_printed_as_it_is_brackets_and_all(tmp_path, capsys):
    with RunLog(RunFolder(tmp_path), flops_per_token=6, total_steps=4, every_steps=2) as log:
        log.say("no such folder: [/data/eval/c3], [bold]")
    assert capsys.readouterr().out == "no such folder: [/data/eval/c3], [bold]\n"


def test_tensorboard_reads_what_was_written(logged):
    run, _ = logged
    events = EventAccumulator(str(run.tensorboard / "attempt_0")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(2, 3)]
    assert [one.step for one in events.Scalars("tokens_per_second")] == [2]


def test_each_attempt_has_a_curve_of_its_own_and_a_line_says_whose_it_is(tmp_path):
    run = RunFolder(tmp_path)
    with RunLog(run, flops_per_token=6, total_steps=4, every_steps=1) as log:
        for attempt, step in ((0, 1), (0, 2), (1, 2)):
            nowhere = {"loss": math.nan} if step == 2 and attempt == 0 else {}
            log.step({**record(step), **nowhere, "attempt": attempt, "verdict": "accepted"}, None)
    lines = list(run_files.read_lines(run.metrics))
    assert [(line["attempt"], line["step"]) for line in lines] == [(0, 1), (0, 2), (1, 2)]
    for attempt, steps in ((0, [1]), (1, [2])):  # what is no number has no place in a curve
        events = EventAccumulator(str(run.tensorboard / f"attempt_{attempt}")).Reload()
        assert [one.step for one in events.Scalars("loss")] == steps
