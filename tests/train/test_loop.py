"""The loop around a model that is a hash: what is fed, counted, judged, skipped and replayed."""

import json
import math
import shutil
from dataclasses import asdict, replace

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax._src.array import ArrayImpl  # where every reading on the host passes

from tests.train import toy_runs
from tests.train.toy_runs import Schedule, ToyState
from welm_jax.failures import InputError, StopAndLook
from welm_jax.train import lineage, loop, rollback, spikes
from welm_jax.train.recovery import Journal
from welm_jax.train.rollback import Exhausted
from welm_jax.train.spikes import SpikeConfig

SPIKE = Schedule(bad_cursors=frozenset(range(420, 432)))


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path)


def fed(state):
    return [cursor for cursor, _, _ in state.updates]


def test_every_step_takes_the_next_batch_and_is_told_once_in_order(folder):
    told = []
    schedule = Schedule(train_steps=3)
    state, progress = toy_runs.run(folder, schedule, on_step=lambda *one: told.append(one))
    assert fed(state) == [0, 1, 2]
    assert (progress.step, progress.cursor, progress.tokens, progress.attempt) == (3, 3, 24, 0)
    places = [(record["step"], record["cursor"], record["tokens"]) for record, _ in told]
    assert places == [(1, 1, 8), (2, 2, 16), (3, 3, 24)]
    assert {record["verdict"] for record, _ in told} == {"accepted"}
    assert told[0][1] is None and all(seconds > 0 for _, seconds in told[1:])  # it compiled


def test_a_refused_iteration_moves_the_cursor_but_neither_step_nor_tokens(folder):
    told = []
    schedule = Schedule(train_steps=4, overflows=frozenset({1, 2}))
    state, progress = toy_runs.run(folder, schedule, on_step=lambda record, _: told.append(record))
    assert fed(state) == [0, 3, 4, 5]
    assert (progress.step, progress.guarded, progress.cursor, progress.tokens) == (4, 2, 6, 32)
    assert [record["step"] for record in told] == [1, 1, 1, 2, 3, 4]
    assert [record["guarded"] for record in told] == [0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("overflow", range(46, 54))
def test_a_checkpoint_falls_on_its_step_whatever_was_refused_around_it(folder, overflow):
    toy_runs.run(folder, Schedule(train_steps=60, overflows=frozenset({overflow})))
    host, updates, _ = json.loads((folder / "checkpoints" / "50").read_text()[64:])
    assert host["step"] == len(updates) == 50
    assert host["cursor"] == 50 + host["guarded"] == 50 + (overflow < 50)


def test_callbacks_see_the_state_of_their_step_and_their_time_is_no_steps(folder):
    seen, seconds = [], []

    def callback(state, progress):
        seen.append((len(state.updates), progress.step))

    training = toy_runs.training(folder, Schedule(train_steps=5))
    on_step = lambda record, one: seconds.append(one is None)  # noqa: E731
    loop.run(replace(training, every=[(2, callback)], on_step=on_step))
    assert seen == [(2, 2), (4, 4)]
    assert seconds == [True, False, True, False, True]


def test_what_training_goes_on_from_is_told_each_time_that_it_was_restored(folder):
    seen = []

    def on_restored(state, progress):
        seen.append((len(state.updates), progress.step, progress.attempt))

    training = toy_runs.training(folder, replace(SPIKE, train_steps=450))
    for _ in range(2):
        loop.run(replace(training, on_restored=on_restored))
    [recovery] = training.journal.records()
    back = recovery.target_step
    assert seen == [(0, 0, 0), (back, back, 0), (450, 450, 1)]


def test_being_asked_to_stop_ends_after_the_step_in_hand_and_the_next_start_goes_on(folder):
    asked = []

    def stopping():
        asked.append(None)
        return len(asked) > 57

    schedule = Schedule(train_steps=70)
    state, progress = toy_runs.run(folder, schedule, stopping=stopping)
    assert state.step == progress.step == 58
    again, _ = toy_runs.run(folder, schedule)
    assert again == toy_runs.run(folder / "other", schedule)[0]


def test_a_spike_is_skipped_at_a_lower_rate_and_the_run_ends_on_what_the_journal_says(folder):
    incidents = []
    state, progress = toy_runs.run(folder, SPIKE, incidents=incidents)
    [record] = Journal(folder / "recovery_journal").records()
    [(incident, decision)] = incidents
    assert decision == record
    # Batch 420 is the 421st; 100 steps before lies the checkpoint of step 300, as 321 is between.
    assert (incident.onset.step, incident.onset.cursor) == (421, 421)
    assert (record.target_step, record.target_cursor, record.skipped) == (300, 300, (300, 521))
    assert fed(state) == [*range(300), *range(521, 921)]
    rates = [rate for _, rate, _ in state.updates]
    assert rates[:300] == [1.0] * 300 and rates[300:] == [np.float32(0.8)] * 400
    assert (progress.step, progress.cursor, progress.attempt) == (700, 921, 1)


def test_the_recovered_run_equals_one_that_was_given_the_journal_and_never_saw_the_range(folder):
    state, progress = toy_runs.run(folder / "a", SPIKE)
    shutil.copytree(folder / "a" / "recovery_journal", folder / "b" / "recovery_journal")
    seen = []
    given = toy_runs.run(folder / "b", SPIKE, watch=lambda state, cursor: seen.append(cursor))
    assert given == (state, progress)
    assert not set(seen) & set(range(300, 521))


def test_a_damaged_target_is_replayed_from_an_older_one_and_ends_the_same(folder):
    expected = toy_runs.run(folder / "a", SPIKE)

    class Damaging(toy_runs.ToyCheckpoints):
        def delete_invalid(self, is_valid):
            super().delete_invalid(is_valid)
            if (self.folder.parent / "recovery_journal").exists():
                (self.folder / "300").write_text("damaged")

    training = toy_runs.training(folder / "b", SPIKE)
    checkpoints = Damaging(folder / "b" / "checkpoints")
    every = [(toy_runs.EVERY_STEPS, checkpoints.save)]
    assert loop.run(replace(training, checkpoints=checkpoints, every=every)) == expected


def test_a_state_that_goes_bad_again_is_gone_back_from_further_until_a_person_must_look(folder):
    schedule = Schedule(train_steps=1500, bad_steps=frozenset(range(600, 606)))
    incidents = []
    config = SpikeConfig(skip_batches=50, max_skipped_fraction=1.0)
    with pytest.raises(StopAndLook, match=r"the loss went wrong at step 601 \(big\): .*1,000"):
        toy_runs.run(folder, schedule, config, incidents=incidents)
    records = Journal(folder / "recovery_journal").records()
    assert [record.level for record in records] == [1, 2, 3]
    assert [record.target_step for record in records] == [500, 400, 300]
    assert [round(record.lr_multiplier, 3) for record in records] == [0.8, 0.64, 0.512]
    assert [decision for _, decision in incidents[:3]] == records
    assert isinstance(incidents[3][1], Exhausted)


@pytest.mark.parametrize("second", [455, 700])
def test_a_run_of_1000_steps_survives_two_spikes_as_configured_by_default(folder, second):
    """The second soon after the first, which is the same trouble again, or long after it."""
    bad = frozenset({*range(300, 306), *range(second + 221, second + 227)})  # 221 are skipped
    schedule = Schedule(train_steps=1000, bad_cursors=bad)
    _, progress = toy_runs.run(folder, schedule, SpikeConfig())
    records = Journal(folder / "recovery_journal").records()
    assert [record.level for record in records] == [1, 2 if second == 455 else 1]
    assert (progress.step, progress.attempt) == (1000, 2)


@pytest.mark.parametrize("train_steps", [30, 60])
def test_a_start_beyond_the_end_says_that_nothing_is_left(folder, train_steps):
    toy_runs.run(folder, Schedule(train_steps=60))
    said = []
    training = toy_runs.training(folder, Schedule(train_steps=train_steps))
    state, progress = loop.run(replace(training, say=said.append))
    assert (state.step, progress.step) == (60, 60)
    assert said == [
        f"step 60 was made before, and LoopConfig.train_steps = {train_steps}: nothing is left to "
        "do"
    ]


def test_a_recovery_starts_the_loss_scale_anew_at_its_target(folder):
    overflows = frozenset(range(250, 253))  # 2^16 fell to 2^13 before the checkpoint of step 300
    state, _ = toy_runs.run(folder, replace(SPIKE, overflows=overflows))
    [record] = Journal(folder / "recovery_journal").records()
    scales = [scale for _, _, scale in state.updates]
    assert record.target_step == 300
    assert scales[:250] == [2.0**16] * 250 and scales[250:300] == [2.0**13] * 50
    assert scales[300:] == [2.0**16] * 400


def test_action_log_only_says_so_and_action_stop_stops(folder):
    state, progress = toy_runs.run(folder / "a", SPIKE, SpikeConfig(action="log"))
    assert fed(state) == list(range(700)) and progress.attempt == 0
    assert not (folder / "a" / "recovery_journal").exists()
    with pytest.raises(StopAndLook, match=r"at step 421 \(big\): SpikeConfig.action is 'stop'"):
        toy_runs.run(folder / "b", SPIKE, SpikeConfig(action="stop"))
    assert not (folder / "b" / "recovery_journal").exists()


def test_a_manual_decision_takes_effect_at_the_next_start(folder):
    schedule = Schedule(train_steps=400)
    toy_runs.run(folder, replace(schedule, train_steps=300))
    journal = Journal(folder / "recovery_journal")
    saved = lineage.Saved(step=200, cursor=200)
    journal.commit(rollback.manual(saved, journal.records(), skip=30, lr_factor=0.5))
    state, progress = toy_runs.run(folder, schedule)
    assert fed(state) == [*range(200), *range(230, 430)]
    assert progress.attempt == 1 and state.updates[200][1] == 0.5


def test_checkpoints_that_know_of_more_recoveries_than_the_journal_are_refused(folder):
    toy_runs.run(folder, SPIKE)
    (folder / "recovery_journal" / "000001.json").unlink()
    with pytest.raises(StopAndLook, match="step 700 follows recovery 1, but the journal ends"):
        toy_runs.run(folder, replace(SPIKE, train_steps=800))


def test_the_detectors_memory_survives_a_checkpoint_exactly(folder):
    """A run cut everywhere sees the same incident as one that was never cut."""
    expected = toy_runs.run(folder / "a", SPIKE)
    calls = []

    def stopping():
        calls.append(None)
        return len(calls) % 37 == 0

    training = replace(toy_runs.training(folder / "b", SPIKE), stopping=stopping)
    while (ended := loop.run(training))[1].step < SPIKE.train_steps:
        training.checkpoints.save(*ended)
    assert ended == expected


def test_each_number_of_a_step_is_read_on_the_host_once(folder, monkeypatch):
    plain, read = ArrayImpl._value, []
    monkeypatch.setattr(
        ArrayImpl, "_value", property(lambda array: read.append(id(array)) or plain.__get__(array))
    )
    schedule = Schedule(train_steps=120)
    kept = []  # so that no two have the same id

    def on_devices(state, cursor, rate):
        state, metrics = schedule.step(state, cursor, float(rate))
        kept.append({name: jnp.float32(value) for name, value in metrics.items()})
        return state, kept[-1]

    loop.run(replace(toy_runs.training(folder, schedule), train_step=on_devices))
    assert sorted(read) == sorted(id(one) for metrics in kept for one in metrics.values())


def test_books_that_do_not_balance_are_a_fault_that_stops(folder):
    training = toy_runs.training(folder, Schedule(train_steps=10))
    twice = lambda cursor, skipped: iter([(0, 0), *((at, at) for at in range(50))])  # noqa: E731
    with pytest.raises(StopAndLook, match="cursor 9 is not 10 iterations and 0 skipped batches"):
        loop.run(replace(training, batches=twice))


def test_progress_is_json_but_for_nothing(folder):
    _, progress = toy_runs.run(folder, SPIKE)
    again = json.loads(json.dumps(asdict(progress)))
    assert replace(progress, history=spikes.History.from_json(again.pop("history"))) == progress
    assert math.isfinite(progress.history.accepted[-1])


def test_toy_states_differ_if_anything_they_were_trained_on_does():
    one = Schedule().step(ToyState(), 0, 1.0)[0]
    assert one != Schedule().step(ToyState(), 1, 1.0)[0]
    assert one != Schedule().step(ToyState(), 0, 0.8)[0]


def test_numbers_below_one_are_refused():
    with pytest.raises(InputError, match="LoopConfig.train_steps = 0; it must be 1 or more"):
        loop.LoopConfig(train_steps=0)
