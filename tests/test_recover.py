"""`welm recover` on a real run that met a planted spike, and on curves of our own making."""

import csv
import json
import math
import re
import shutil
import signal

import numpy as np
import pytest

from benchmarks.spike_drills import RUN
from tests import tiny_corpus
from tests.conftest import xla_flags
from tests.forked import WELM, Forked
from welm_jax import launch, recover, run_files, why
from welm_jax.failures import InputError
from welm_jax.run_files import RunFolder
from welm_jax.train import spikes
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import SpikeConfig


def welm(folder, *arguments, **environment):
    """A command as a process of its own: one device, and no run-time type checks."""
    environment = {"XLA_FLAGS": xla_flags(1, level=1), **environment}
    process = Forked(WELM, arguments, folder / "out", folder / "err", environment)
    return process.wait(timeout=300), process.output.read_text(), process.errors.read_text()


def trained(folder, by, kind="spike", steps=400, **environment):
    """A run folder of a run that met a spike at 330, and how its training ended."""
    (folder / "run.gin").write_text(spiked(by, kind, steps))
    train = ("train", "--gin_file", folder / "run.gin", "--run_dir", folder / "run")
    return RunFolder(folder / "run"), welm(folder, *train, **environment)


def spiked(by, kind="spike", steps=400):
    """The gin text of a small run with a fault planted at 330."""
    rates, tokens = {"news": 0.7, "english": 0.3}, tiny_corpus.tokens_dir()
    corpus = {"tokens": tokens, "rates": rates, "vocab_size": tiny_corpus.VOCAB_SIZE}
    return RUN.format(by=by, kind=kind, steps=steps, at=330, seed=0, **corpus)


def begun(run, folder):
    """A run folder in which the first life has got no further than its configuration and data."""
    folder.mkdir()
    for file in (run.config, run.mixture, run.tokenizer):
        shutil.copy(file, folder)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recovered")
    uncached = {"JAX_LOG_COMPILES": "1", "JAX_COMPILATION_CACHE_DIR": ""}
    run, ended = trained(folder, by="cursor", **uncached)
    assert ended[0] == 0, ended[2]
    return run, ended


@pytest.fixture(scope="module")
def recovered(ended):
    return ended[0]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    run, (status, _, error) = trained(tmp_path_factory.mktemp("stopped"), by="step", kind="nan")
    assert status == 70 and error.count("\n") == 1
    assert re.search(
        r"the loss went wrong at step 33\d \(\w+\): .* batches would be skipped", error
    )
    return run


def test_bad_data_is_found_gone_back_from_and_skipped(ended):
    recovered, (_, said, _) = ended
    [record] = Journal(recovered.journal).records()
    assert record.rule == "big" and record.onset.cursor == 331
    assert record.target_step == 200 and record.skipped[0] == 200 and record.skipped[1] >= 400
    lines = list(run_files.read_lines(recovered.metrics))
    assert {line["attempt"] for line in lines} == {0, 1}
    fed = [line["cursor"] - 1 for line in lines if line["attempt"] == 1]
    assert fed == list(range(record.skipped[1], record.skipped[1] + 200))
    assert "A FAULT IS PLANTED: a spike at cursor 330. This is a drill." in said
    assert "the loss jumped, and not for one step alone" in said and "back to step 200" in said


def test_going_back_compiles_nothing_anew(ended):
    _, (_, said, error) = ended
    assert "recovery 1 takes effect at step 200" in said
    assert len(re.findall(r"Finished XLA compilation of jit\(train_step\)", error)) == 1


def test_it_ends_bit_for_bit_as_a_run_that_was_given_its_journal(recovered, tmp_path):
    begun(recovered, tmp_path / "run")
    shutil.copytree(recovered.journal, tmp_path / "run" / "recovery_journal")
    given, (status, _, error) = trained(tmp_path, by="cursor")
    assert status == 0, error
    [record] = Journal(recovered.journal).records()
    fed = {line["cursor"] - 1 for line in run_files.read_lines(given.metrics)}
    assert len(fed) == 400 and fed.isdisjoint(range(*record.skipped))
    # Progress, the detector's memory and the digest of every array.
    ends = [run.checkpoints / "400" / "host" / "metadata" for run in (recovered, given)]
    assert ends[0].read_bytes() == ends[1].read_bytes()


# Of a life each: how many are passed before it dies, and at which. The first passes two for each of
# the checkpoints 50 to 300.
CRASHES = (
    (14, "record 1 is written"),
    (1, "checkpoint 300 of 0 is deleted"),
    (3, "checkpoint 250 of 1 is being written"),
)


@pytest.mark.parametrize("lives", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_dying_at_the_write_boundaries_of_a_recovery_changes_nothing(recovered, tmp_path, lives):
    """Some of them, with real checkpoints; test_recovery_crashes.py dies at each."""
    begun(recovered, tmp_path / "run")
    (tmp_path / "run.gin").write_text(spiked("cursor"))
    train = ("train", "--gin_file", tmp_path / "run.gin", "--run_dir", tmp_path / "run")
    for boundary, name in CRASHES[:lives]:
        status, out, _ = welm(tmp_path, *train, WELM_CRASH_AT=str(boundary))
        assert status == -signal.SIGKILL and out.endswith(f"dying at {name}\n"), out
        assert f"WELM_CRASH_AT = {boundary}: this process kills itself" in out
    status, _, error = welm(tmp_path, *train)
    assert status == 0, error
    ends = [
        folder / "checkpoints/400/host/metadata" for folder in (recovered.path, tmp_path / "run")
    ]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_the_suspect_batches_name_their_documents(recovered):
    [record] = Journal(recovered.journal).records()
    rows = run_files.read_json(recovered.suspects / "000001.json")
    assert rows[0]["cursor"] == 330 and rows[-1]["cursor"] == record.detected.cursor - 1
    assert all(re.fullmatch("[0-9a-f]{32}", name) for row in rows for name in row["documents"])


def test_status_says_where_the_run_stands(recovered, capsys):
    launch.dispatch(["recover", "status", "--run_dir", str(recovered.path)])
    out = capsys.readouterr().out
    assert "attempt 1, step 400" in out and "learning rate x 0.8" in out
    assert "steps back to step 200; past the " in out and "target of a recovery" in out


def test_the_rise_is_that_of_what_stood_out_above_what_was_around_it():
    losses = {at: 5.0 - 0.01 * at for at in range(100)}  # still falling
    losses |= {40: 6.0, 60: 5.8, 80: math.nan}
    around = 5.0 - 0.01 * 49  # the median of the other 97
    rise = why._rise(losses, {40, 60, 80}, 7.0)
    assert rise == pytest.approx((6.0 - around + 5.8 - around + 10.0) / 3)
    assert why._rise({3: 8.0}, {3}, 7.0) == 1.0


def test_why_names_the_data(recovered, tmp_path):
    status, out, error = welm(tmp_path, "recover", "why", "1", "--run_dir", recovered.path)
    assert status == 0 and "It was the data" in out, error
    answer = run_files.read_json(recovered.suspects / "000001_why.json")
    assert answer["verdict"] == "data" and answer["elsewhere_step"] in (150, 250)
    # On one CPU the same batches from the same state give the same losses.
    assert answer["rise_again"] == pytest.approx(answer["rise"], abs=1e-6)


def test_why_names_the_state(stopped, tmp_path):
    status, out, error = welm(tmp_path, "recover", "why", "1", "--run_dir", stopped.path)
    assert status == 0 and "It was the state of the model" in out, error


def test_a_run_that_stops_leaves_what_a_person_needs(stopped):
    names = {file.name for file in stopped.diagnosis.iterdir()}
    assert names >= {"incident.json", "suspects.json", "metrics.jsonl", "config.gin", "000001.json"}
    incident = run_files.read_json(stopped.diagnosis / "incident.json")
    assert "would be skipped" in incident["stopped"] and incident["onset"]["step"] >= 330


@pytest.mark.parametrize(
    ("event", "words"), [("0", "there is no recovery 0; known are 1 to 1"), ("2", "recovery 2")]
)
def test_an_unknown_event_is_refused(recovered, event, words):
    with pytest.raises(InputError, match=words):
        launch.dispatch(["recover", "why", event, "--run_dir", str(recovered.path)])


def test_a_roll_back_by_hand_is_carried_out_by_the_next_train(recovered, tmp_path, capsys):
    run = RunFolder(shutil.copytree(recovered.path, tmp_path / "run"))
    (tmp_path / "run.gin").write_text((recovered.path.parent / "run.gin").read_text())
    with pytest.raises(InputError, match="there is no checkpoint of step 7; there are 0, "):
        recover.roll_back(run, 7, skip=5, lr_factor=0.5)
    line = ["recover", "roll-back", "--to", "350", "--skip", "5", "--lr-factor", "0.5"]
    launch.dispatch([*line, "--run_dir", str(run.path)])
    assert "back to step 350; past the 5 batches" in capsys.readouterr().out
    recover.status(run)
    told = capsys.readouterr().out
    assert re.search(r"400 .* abandoned", told)
    assert "recovery 2 (not carried out yet): back to step 350" in told
    with run.locked(), pytest.raises(InputError, match="is in use: another process trains there"):
        recover.roll_back(run, 350, skip=5, lr_factor=0.5)
    _, (status, out, _) = trained(tmp_path, by="cursor")
    assert status == 0
    rows = {one["name"]: one["rows"] for one in run_files.read_json(run.mixture)["sources"]}
    epochs = re.search("epochs: (.*)", out)[1].split(", ")
    fed = sum(float(count) * rows[name] for name, count in map(str.split, epochs))
    assert fed == pytest.approx(400 * 8, abs=0.005 * sum(rows.values()))  # skipped ones are not
    last = list(run_files.read_lines(run.metrics))[-1]
    assert (last["attempt"], last["step"], last["lr_multiplier"]) == (2, 400, 0.4)
    first, second = Journal(run.journal).records()
    assert last["cursor"] == 400 + (first.skipped[1] - first.skipped[0]) + 5
    with pytest.raises(InputError, match="recovery 2 was decided by hand"):
        why.why(run, 2)


def write_curve(file, losses, **columns):
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["step", "loss", *columns])
        for number, loss in enumerate(losses, start=1):
            table.writerow([number, loss, *(column[number - 1] for column in columns.values())])
    return file


def test_a_replay_says_where_it_would_have_triggered_and_what_then(tmp_path, capsys):
    losses = np.random.default_rng(0).normal(3.0, 0.02, 900)
    losses[600:612] += 2.0
    curve = write_curve(tmp_path / "curve.csv", losses)
    launch.dispatch(["recover", "replay", str(curve)])
    out = capsys.readouterr().out
    assert "At step 603 the loss jumped" in out and "It began at step 601" in out
    assert "103 steps back to step 500; past the 201 batches 500 to 700" in out
    assert "1 times in 900 iterations" in out
    launch.dispatch(["recover", "replay", str(curve), "--gin.SpikeConfig.outlier_rise=2.5"])
    assert "0 times in 900 iterations" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["recovered", "stopped"])
def test_a_replay_judges_as_training_did(name, tmp_path, request):
    run = request.getfixturevalue(name)
    lines = [line for line in run_files.read_lines(run.metrics) if not line["attempt"]]
    norms = [line["gradient_norm"] for line in lines]
    curve = write_curve(
        tmp_path / "curve.csv", [line["loss"] for line in lines], gradient_norm=norms
    )
    history, verdicts, incidents = spikes.History(), [], []
    for reading in recover.readings(curve):
        history, verdict, incident = spikes.judge(history, reading, SpikeConfig())
        verdicts.append(verdict)
        incidents += [incident] if incident else []
    assert verdicts == [line["verdict"] for line in lines]
    [record, *_] = Journal(run.journal).records()
    assert incidents[0].onset.cursor == record.onset.cursor


def test_a_curve_with_what_is_no_number(tmp_path, capsys):
    losses = [3.0 + 0.001 * (n % 7) for n in range(400)]
    losses[300:305] = [math.nan] * 5
    recover.replay(write_curve(tmp_path / "curve.csv", losses), SpikeConfig(), 50)
    assert "the loss was no number, several times in a row" in capsys.readouterr().out


def test_the_columns_of_other_trainers_are_read_or_named(tmp_path, capsys):
    norms = [1.0] * 300 + [math.inf] * 5 + [1.0] * 95
    file = write_curve(tmp_path / "curve.csv", [3.0] * 400, lr=[0.1] * 400, grad_norm=norms)
    recover.replay(file, SpikeConfig(), 50)
    out = capsys.readouterr().out
    assert "not used: lr; used: step, loss, grad_norm" in out
    assert "At step 303 the loss was no number, several times in a row" in out
    both = write_curve(tmp_path / "both.csv", [3.0], grad_norm=[math.inf], gradient_norm=[1.0])
    assert recover.readings(both)[0].gradient_norm == 1.0
    assert "not used: grad_norm; used: step, loss, gradient_norm" in capsys.readouterr().out
    assert (
        recover.readings(write_curve(tmp_path / "plain.csv", [3.0])) and not capsys.readouterr().out
    )


def with_steps(file, steps):
    file.write_text("step,loss\n" + "".join(f"{step},3.0\n" for step in steps))
    return file


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (range(0, 4000, 10), "399 of its 400 lines come more than one step after the line before"),
        (range(0, 800, 2), "mostly 2 steps; the detector judges every step"),
        ([step for step in range(400) if step % 80], "4 of its 395 lines"),
    ],
)
def test_a_curve_with_gaps_all_over_is_refused(tmp_path, steps, words):
    with pytest.raises(InputError, match=words):
        recover.replay(with_steps(tmp_path / "curve.csv", steps), SpikeConfig(), 50)


def test_a_rare_gap_is_reported_and_repeated_steps_are_accepted(tmp_path, capsys):
    steps = [*range(200), *range(150, 300), *range(340, 440)]  # resumed once, and once 40 lost
    recover.replay(with_steps(tmp_path / "curve.csv", steps), SpikeConfig(), 50)
    out = capsys.readouterr().out
    assert "steps are missing 1 times, the first time between step 299 and step 340" in out
    assert "0 times in 450 iterations" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Step,value\n1,2\n", "has no column loss and step; its columns are Step, value"),
        ("step,loss\n1,2\n2,three\n", "line 3: could not convert string to float: 'three'"),
        ("step,loss,loss_scale\n1,2,0\n", "line 2: loss_scale 0.0; it is 1 or more"),
        ("step,loss\n1,2\n2\n", "line 3: it does not have the header's 2 fields"),
        ("step,loss\n1,2,3\n", "line 2: it does not have the header's 2 fields"),
        ("step,loss\n", "has no line below its header"),
        ("", "its columns are none"),
    ],
)
def test_a_file_that_is_no_curve_is_refused(tmp_path, text, words):
    file = tmp_path / "curve.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(words)):
        recover.replay(file, SpikeConfig(), 50)


def test_help_shows_each_action():
    for action in ("status", "why", "roll-back", "replay"):
        with pytest.raises(SystemExit) as ended:
            launch.dispatch(["recover", action, "--help"])
        assert ended.value.code == 0
    with pytest.raises(InputError, match="welm recover --help tells more"):
        launch.dispatch(["recover"])


def test_what_lies_in_metrics_and_diagnosis_is_json_that_every_reader_takes(stopped):
    lines = stopped.metrics.read_text().splitlines()
    assert any('"loss": null' in line for line in lines)
    for text in (*lines, stopped.incident.read_text()):
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
