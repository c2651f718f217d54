import copy
import json
import math
import random
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from welm_jax.failures import InputError, StopAndLook
from welm_jax.train import spikes
from welm_jax.train.spikes import (
    Exhausted,
    History,
    Incident,
    Place,
    Reading,
    Recovery,
    Saved,
    SpikeConfig,
)

CONFIG = SpikeConfig()
CALM = 2.0  # nats; a curve without noise has a MAD of 0, so that outlier_rise alone decides
NAN, INF = math.nan, math.inf
OVERFLOW = "overflow"  # in a list of losses: a finite loss with infinite gradients


class Run:
    """Readings fed to the detector one by one; iteration, step and cursor count as a loop's do."""

    def __init__(self, history=None, loss_scale=None, config=CONFIG):
        self.history, self.loss_scale, self.config = history or History(), loss_scale, config
        self.iteration = self.step = 0
        self.verdicts, self.incidents = [], []

    def feed(self, *losses):
        for loss in losses:
            gradient_norm = INF if loss == OVERFLOW else 1.0
            loss = CALM if loss == OVERFLOW else loss
            self.iteration += 1
            self.step += math.isfinite(loss) and math.isfinite(gradient_norm)
            reading = Reading(
                iteration=self.iteration,
                step=self.step,
                cursor=self.iteration + 7,
                loss=loss,
                gradient_norm=gradient_norm,
                loss_scale=self.loss_scale,
            )
            self.history, verdict, incident = spikes.judge(self.history, reading, self.config)
            self.verdicts.append(verdict)
            if incident:
                self.incidents.append(incident)
        return self

    def rules(self):
        return [
            (found.rule, found.onset.iteration, found.detected.iteration)
            for found in self.incidents
        ]


def settled(count=240, loss_scale=None):
    """A run of so many calm iterations; beyond 200 rules a to c are awake."""
    return Run(loss_scale=loss_scale).feed(*[CALM] * count)


def with_outliers(*offsets, rise=0.5):
    """Losses after a calm stretch, with outliers at these offsets."""
    return [CALM + rise * (at in offsets) for at in range(max(offsets) + 1)]


# The rules.


def test_an_outlier_rises_by_more_than_the_floor_of_a_calm_curve():
    run = settled().feed(CALM + 0.29, CALM + 0.31, CALM - 5)
    assert run.verdicts[-3:] == ["accepted", "outlier", "accepted"]


def test_an_outlier_rises_by_more_than_six_deviations_of_a_noisy_curve():
    # Losses of 2 +- 0.1 have a MAD of 0.1: 6 x 1.4826 x 0.1 = 0.890.
    run = Run().feed(*[CALM - 0.1, CALM + 0.1] * 120).feed(CALM + 0.88, CALM + 0.90)
    assert run.verdicts[-2:] == ["accepted", "outlier"]


def test_while_the_losses_settle_nothing_finite_is_an_outlier_or_an_incident():
    run = Run().feed(*[CALM] * 190, *[CALM + 5] * 10)
    assert set(run.verdicts) == {"accepted"} and not run.incidents
    assert run.feed(CALM + 5, CALM + 5).rules() == [("big", 201, 202)]


def test_fewer_than_32_accepted_losses_are_nothing_to_be_judged_by():
    run = Run().feed(*[NAN] * 209, *[CALM] * 31, CALM + 5, CALM + 5)
    assert run.verdicts[-2:] == ["accepted", "outlier"]


@pytest.mark.parametrize(
    ("offsets", "found"),
    [
        ((0, 7, 15), [("frequent", 241, 256)]),
        ((0, 7, 16), []),
        ((0, 40, 80, 119), [("frequent", 241, 360)]),
        ((0, 40, 80, 120), []),
        ((0, 1), []),
        ((0, 1, 2), [("frequent", 241, 243)]),
        ((0, 60, 61, 62), [("frequent", 301, 303)]),  # the first is not of this trouble
    ],
)
def test_three_outliers_in_16_iterations_or_four_in_120_are_frequent(offsets, found):
    assert settled().feed(*with_outliers(*offsets)).rules() == found


@pytest.mark.parametrize(("offsets", "caught"), [((0, 1), 1), ((0, 3), 3), ((0, 4), None)])
def test_two_outliers_of_more_than_a_nat_in_4_iterations_are_big(offsets, caught):
    run = settled().feed(*with_outliers(*offsets, rise=1.01))
    assert run.rules() == ([("big", 241, 241 + caught)] if caught else [])
    assert not settled().feed(*with_outliers(*offsets, rise=1.0)).rules()


def test_the_onset_of_a_spike_is_the_earliest_outlier_of_48_iterations():
    run = settled().feed(CALM + 0.5, *[CALM] * 29, CALM + 2, CALM + 2)
    assert run.rules() == [("big", 241, 272)]
    [incident] = run.incidents
    assert incident.onset == Place(iteration=241, step=241, cursor=248)
    assert (incident.loss, incident.median, incident.threshold) == (CALM + 2, CALM, 0.3)


def test_a_ramp_worked_by_hand():
    """0.004 nats an iteration, too slow for outliers: the window's median follows.

    The median of the last 32 is 0.004 (t - 15.5) after t iterations of it, t a multiple of 4. It is
    above 0.35 from t = 104 on, and was within a quarter of that (0.0875) until t = 36.
    """
    run = settled(300).feed(*[CALM + 0.004 * t for t in range(1, 120)])
    assert "outlier" not in run.verdicts
    assert run.rules()[0] == ("ramp", 336, 404)
    found = run.incidents[0]
    assert found.loss == pytest.approx(CALM + 0.354)
    assert (found.median, found.threshold) == (CALM, 0.35)


def test_a_shift_that_stays_below_the_threshold_is_no_ramp():
    assert not settled(300).feed(*[CALM + 0.25] * 600).incidents


def test_a_ramp_is_measured_from_the_best_of_1000_iterations():
    # 0.2 up, and 0.2 more: one ramp if both lie within 1,000 iterations.
    near = settled(300).feed(*[CALM + 0.2] * 300, *[CALM + 0.4] * 40)
    far = settled(300).feed(*[CALM + 0.2] * 1100, *[CALM + 0.4] * 40)
    assert [rule for rule, *_ in near.rules()][:1] == ["ramp"] and not far.incidents


def test_a_ramp_is_seen_in_settled_losses_and_whole_windows_only():
    # Up by 0.25 while the losses settle, and by 0.25 after: no more than 0.25 counts.
    run = Run().feed(*[CALM] * 100, *[CALM + 0.25] * 100, *[CALM + 0.5] * 300)
    assert not run.incidents and set(run.verdicts) == {"accepted"}
    # Four low losses are a low median of four, but not of 32.
    assert not Run().feed(*[CALM] * 200, *[CALM - 0.4] * 4, *[CALM] * 100).incidents


def test_outliers_never_enter_the_window_so_that_none_hides_the_next():
    run = settled()
    before = run.history
    run.feed(CALM + 6, CALM, CALM + 5, *[CALM] * 6, CALM + 3)
    assert run.verdicts[-10] == run.verdicts[-8] == run.verdicts[-1] == "outlier"
    assert (run.history.median, run.history.threshold) == (before.median, before.threshold)
    assert set(run.history.accepted) == {CALM}


@pytest.mark.parametrize(
    ("length", "found"),
    [(1, []), (2, []), (3, [("nonfinite", 241, 243)]), (5, [("nonfinite", 241, 243)])],
)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_three_nonfinite_losses_in_a_row_are_caught_at_the_third(length, found, value):
    assert settled().feed(*[value] * length, *[CALM] * 30).rules()[:1] == found


def test_three_nonfinite_losses_in_16_iterations_count_and_in_17_do_not():
    calm = [CALM] * 7
    assert settled().feed(NAN, *calm, NAN, *calm[1:], NAN).rules() == [("nonfinite", 241, 256)]
    assert not settled().feed(NAN, *calm, NAN, *calm, NAN).incidents


def test_nonfinite_losses_count_from_the_first_iteration():
    assert Run().feed(NAN, NAN, NAN).rules() == [("nonfinite", 1, 3)]


def test_one_nan_costs_its_own_iteration_and_nothing_else():
    with_nan, without = settled().feed(NAN), settled()
    noise = random.Random(0)
    after = [CALM + noise.gauss(0, 0.02) for _ in range(200)] + [CALM + 2] * 2
    with_nan.feed(*after), without.feed(*after)
    assert with_nan.verdicts[241:] == without.verdicts[240:]
    assert with_nan.history.accepted == without.history.accepted
    assert [(rule, onset - 1, at - 1) for rule, onset, at in with_nan.rules()] == without.rules()


def test_without_loss_scaling_an_infinite_gradient_is_nonfinite():
    run = settled().feed(OVERFLOW, OVERFLOW, OVERFLOW)
    assert run.verdicts[-3:] == ["nonfinite"] * 3
    assert run.rules() == [("nonfinite", 241, 243)]


def test_a_search_for_the_loss_scale_is_no_incident_and_18_overflows_long():
    run = Run(loss_scale=2.0**16).feed(*[OVERFLOW] * 18)
    assert run.verdicts == ["overflow"] * 18 and not run.incidents
    # Then eight in 16 iterations are one; it began with the first overflow of those 16.
    assert run.feed(*[OVERFLOW] * 8).rules() == [("overflow", 11, 26)]


@pytest.mark.parametrize(("spacing", "caught"), [(2, True), (3, False)])
def test_eight_overflows_in_16_iterations_are_an_incident(spacing, caught):
    run = Run(loss_scale=2.0**16).feed(*[OVERFLOW] * 18, *[CALM] * 300)
    run.feed(*[OVERFLOW, *[CALM] * (spacing - 1)] * 10)
    assert run.rules()[:1] == ([("overflow", 319, 333)] if caught else [])


def test_an_overflow_at_the_minimal_scale_is_an_incident_even_in_a_search():
    run = Run(loss_scale=1.0).feed(CALM, OVERFLOW)
    assert run.rules() == [("scale_floor", 2, 2)]
    assert not Run(loss_scale=2.0).feed(CALM, OVERFLOW).incidents


def test_overflows_enter_no_window_of_losses():
    run = settled(loss_scale=2.0**16)
    before = run.history
    after = run.feed(*[OVERFLOW] * 5).history
    kept = ("accepted", "latest", "outliers", "medians", "nonfinite")
    assert all(getattr(after, name) == getattr(before, name) for name in kept)


def test_a_nonfinite_loss_is_no_overflow_however_losses_are_scaled():
    run = settled(loss_scale=1.0).feed(NAN)
    assert run.verdicts[-1] == "nonfinite" and not run.incidents


# After an incident.


def test_in_the_grace_after_a_recovery_only_what_is_big_or_nonfinite_counts():
    def recovered():
        run = settled(300)
        run.history = spikes.recovered(run.history)
        return run

    small = [CALM + 0.5] * 16
    assert not recovered().feed(*small).incidents
    assert recovered().feed(*small, CALM + 0.5).rules() == [("frequent", 301, 317)]
    assert recovered().feed(CALM + 2, CALM + 2).rules() == [("big", 301, 302)]
    assert recovered().feed(NAN, NAN, NAN).rules() == [("nonfinite", 301, 303)]


def test_a_ramp_waits_for_the_end_of_the_grace():
    run = settled(300).feed(*[CALM + 0.004 * t for t in range(1, 104)])
    run.history = spikes.recovered(run.history)
    assert run.feed(*[CALM + 0.42] * 20).rules()[0] == ("ramp", 336, 420)


def test_a_recovery_opens_a_new_search_for_the_loss_scale():
    run = Run(loss_scale=2.0**16).feed(*[OVERFLOW] * 18, *[CALM] * 20)
    run.history = spikes.recovered(run.history)
    assert not run.feed(*[OVERFLOW] * 18).incidents
    assert run.feed(*[OVERFLOW] * 8).incidents


def test_an_ignored_incident_silences_all_rules_for_250_iterations():
    run = settled().feed(CALM + 2, CALM + 2)
    run.history = spikes.ignored(run.history)
    assert len(run.feed(*[CALM, CALM + 3, NAN, CALM + 3, NAN] * 50).incidents) == 1
    assert [found.rule for found in run.feed(NAN).incidents] == ["big", "nonfinite"]


def test_a_jump_that_stays_is_one_incident_if_it_is_ignored():
    run = settled()
    for _ in range(2000):
        found = len(run.incidents)
        run.feed(CALM + 2)
        if len(run.incidents) > found:
            run.history = spikes.ignored(run.history)
    assert run.rules() == [("big", 241, 242)]


# The memory.


def eventful(seed, count=400, loss_scale=2.0**16):
    """A curve with everything in it."""
    noise, run = random.Random(seed), Run(loss_scale=loss_scale)
    for _ in range(count):
        loss = CALM + noise.gauss(0, 0.05) + run.iteration / 1000
        kind = noise.random()
        loss = NAN if kind < 0.02 else OVERFLOW if kind < 0.1 else loss + 2 * (kind > 0.97)
        yield run.feed(loss)


@pytest.mark.parametrize("seed", range(3))
def test_the_history_survives_json_exactly_and_goes_on_alike(seed):
    for run in eventful(seed):
        again = History.from_json(json.loads(json.dumps(asdict(run.history))))
        assert again == run.history and hash(again) == hash(run.history)
        run.history = again
    unbroken = [*eventful(seed)][-1]
    assert run.rules() == unbroken.rules() and len(unbroken.history.outliers) > 1


@pytest.mark.parametrize("seed", range(3))
def test_judging_changes_nothing_it_was_given_and_is_repeatable(seed):
    run = [*eventful(seed, 300)][-1]
    history, reading = run.history, Reading(
        iteration=301, step=301, cursor=301, loss=5.0, gradient_norm=1.0, loss_scale=None
    )  # fmt: skip
    before = copy.deepcopy((history, reading, CONFIG))
    assert spikes.judge(history, reading, CONFIG) == spikes.judge(history, reading, CONFIG)
    spikes.recovered(history), spikes.ignored(history)
    assert (history, reading, CONFIG) == before


def test_the_memory_has_a_bound():
    history = settled(1500).feed(*[CALM + 0.5] * 150).history
    kept = ("accepted", "latest", "medians", "outliers")
    assert [len(getattr(history, name)) for name in kept] == [128, 32, 250, 120]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"outlier_rise": 0.0}, "outlier_rise = 0.0; it must lie between 0.01 and 10"),
        ({"rollback_steps": 0}, "rollback_steps = 0; it must lie between 1 and 100000"),
        ({"skip_batches": 2000}, "skip_batches = 2000; it must lie between 1 and 1600"),
        ({"lr_factor": 1.5}, "lr_factor = 1.5; it must lie between 0.01 and 1"),
        ({"max_skipped_fraction": -0.1}, "max_skipped_fraction = -0.1; it must lie between 0 and"),
    ],
)
def test_impossible_configurations_are_refused(change, text):
    with pytest.raises(InputError, match=text):
        SpikeConfig(**change)


def test_an_unknown_action_is_refused():
    with pytest.raises(InputError, match="SpikeConfig.action = panic; it is recover, stop or log"):
        SpikeConfig.__post_init__(SimpleNamespace(action="panic"))


# The plan.

TRAIN_STEPS = 71_500  # the paper's


def incident(onset, latency=3, offset=7, loss=5.0):
    """A spike at a step; cursors are `offset` ahead of steps."""

    def place(step):
        return Place(iteration=step + 2, step=step, cursor=step + offset)

    return Incident(
        rule="big",
        onset=place(onset),
        detected=place(onset + latency),
        loss=loss,
        median=2.0,
        threshold=1.0,
    )


def every_50(first, last, offset=7):
    return [Saved(step=step, cursor=step + offset) for step in range(first, last + 1, 50)]


def planned(found, saved, journal=(), config=CONFIG, train_steps=TRAIN_STEPS):
    return spikes.plan(found, saved, journal, config, train_steps)


def test_the_case_of_the_paper():
    assert planned(incident(1000), every_50(500, 1000)) == Recovery(
        id=1,
        kind="automatic",
        rule="big",
        level=1,
        onset=Place(iteration=1002, step=1000, cursor=1007),
        detected=Place(iteration=1005, step=1003, cursor=1010),
        target_step=900,
        target_cursor=907,
        skipped=(907, 1107),  # the 200 batches from the target on
        lr_multiplier=0.8,
        degraded="",
        loss=5.0,
        median=2.0,
        threshold=1.0,
    )


@pytest.mark.parametrize(
    ("saved", "latency", "skipped"),
    [
        (every_50(500, 500), 3, (507, 1107)),  # 350 steps too old: all up to the onset, and 100
        (every_50(500, 500), 150, (507, 1157)),  # and all up to the detection
        (every_50(850, 850), 3, (857, 1107)),
        (every_50(900, 900), 250, (907, 1257)),
    ],
)
def test_the_skip_covers_all_from_the_target_to_beyond_the_trouble(saved, latency, skipped):
    found = planned(incident(1000, latency), saved)
    assert (found.skipped, found.degraded) == (skipped, "")


def test_a_loss_that_is_not_a_number_is_left_out_of_the_record():
    assert planned(incident(1000, loss=NAN), every_50(500, 1000)).loss is None


def test_batches_that_are_skipped_already_do_not_count():
    before = spikes.manual(Saved(step=0, cursor=920), (), skip=50, lr_factor=1.0)  # [920, 970)
    found = planned(incident(1000), every_50(500, 1000), [before])
    assert found.skipped == (907, 1157)
    before = spikes.manual(Saved(step=0, cursor=900), (), skip=50, lr_factor=1.0)  # [900, 950)
    assert planned(incident(1000), every_50(500, 1000), [before]).skipped == (950, 1150)


@pytest.mark.parametrize(
    ("onset", "saved", "target", "reason"),
    [
        (1000, every_50(950, 1000), 950, "no checkpoint lies 100 steps before step 1000: back to "
                                         "step 950, the oldest there is"),
        (1000, every_50(1000, 1050), 0, "no checkpoint lies 100 steps before step 1000: back to "
                                        "the start, from the seed"),
        (120, every_50(50, 100), 50, "no checkpoint lies 100 steps before step 120: back to step "
                                     "50, the oldest there is"),
        (0, [], 0, "no checkpoint lies 100 steps before step 0: back to the start, from the seed"),
    ],
)  # fmt: skip
def test_without_the_wanted_checkpoint_the_next_best_is_taken_and_said(
    onset, saved, target, reason
):
    found = planned(incident(onset), saved)
    assert (found.target_step, found.degraded) == (target, reason)
    assert found.target_cursor == (target + 7 if target else 0)


def test_without_any_checkpoint_a_late_run_needs_a_person():
    assert planned(incident(1001), every_50(1050, 1100)) == Exhausted(
        reason="no checkpoint lies before step 1001, where the trouble began, and a start from "
        "the seed would lose more than 1,000 steps"
    )


def test_the_same_trouble_again_goes_back_further_skips_twice_as_much_and_slows_down():
    journal, saved = [], every_50(500, 1000)
    for _ in range(3):
        journal.append(planned(incident(1000), saved, journal))
    assert [(one.id, one.level, one.target_step, one.degraded) for one in journal] == [
        (1, 1, 900, ""), (2, 2, 800, ""), (3, 3, 700, "")
    ]  # fmt: skip
    # 400 that are not yet skipped: 100 before the first 200 and 300 after them; then 800 more.
    assert [one.skipped for one in journal] == [(907, 1107), (807, 1407), (707, 2107)]
    assert [one.lr_multiplier for one in journal] == pytest.approx([0.8, 0.64, 0.512])
    assert spikes.applicable(journal) == (journal[2],)
    assert planned(incident(1000), saved, journal) == Exhausted(
        reason="4 incidents without 1,000 steps of progress between them (at steps 1003, 1003, "
        "1003, 1003), and only 3 are recovered from: going back does not help"
    )


@pytest.mark.parametrize(
    ("onset", "level", "target"),
    [(1199, 2, 850), (1200, 1, 1100), (1150, 2, 850), (850, 2, 650)],
)
def test_an_onset_within_300_steps_of_the_last_target_is_a_repeat(onset, level, target):
    first = planned(incident(1000), every_50(500, 1000))
    found = planned(incident(onset), every_50(500, 1200), [first])
    # A repeat goes back 200 steps, and in any case below 900, where the first one went.
    assert (found.level, found.target_step, found.degraded) == (level, target, "")


def test_a_repeat_without_a_lower_checkpoint_starts_from_the_seed_or_tries_the_same_again():
    first = planned(incident(900), every_50(800, 850))
    again = planned(incident(900), every_50(800, 850), [first])
    assert (first.target_step, again.target_step, again.level) == (800, 0, 2)
    assert again.degraded == (
        "no checkpoint lies 200 steps before step 900 and below step 800, the last target: back "
        "to the start, from the seed"
    )
    first = planned(incident(5000), every_50(4900, 4950))
    again = planned(incident(5000), every_50(4900, 4950), [first])
    assert (first.target_step, again.target_step, again.level) == (4900, 4900, 2)
    assert again.degraded.endswith("back to step 4900, the oldest there is")


def test_one_recovery_skips_1600_batches_at_most():
    config = SpikeConfig(skip_batches=1000, max_skipped_fraction=1.0)
    first = planned(incident(1000), every_50(500, 1000), config=config)
    second = planned(incident(1000), every_50(500, 1000), [first], config)
    assert (first.skipped, second.skipped) == ((907, 1907), (807, 807 + 1000 + 1600))


def test_the_rate_has_a_floor():
    config = SpikeConfig(lr_factor=0.2, max_skipped_fraction=1.0)
    journal = [planned(incident(5000), every_50(500, 5000), config=config)]
    journal.append(planned(incident(9000), every_50(500, 9000), journal, config))
    assert [one.lr_multiplier for one in journal] == [0.2, 0.1]


def spaced(count, apart, config):
    journal = []
    for number in range(1, count + 1):
        step = apart * number
        journal.append(planned(incident(step), every_50(50, step), journal, config, 10**6))
    return journal


def test_no_more_than_three_recoveries_without_1000_steps_of_progress():
    assert all(isinstance(one, Recovery) for one in spaced(5, 400, CONFIG))
    assert spaced(4, 310, CONFIG)[-1] == Exhausted(
        reason="4 incidents without 1,000 steps of progress between them (at steps 313, 623, 933, "
        "1243), and only 3 are recovered from: going back does not help"
    )


@pytest.mark.parametrize(("onset", "kind"), [(1999, Exhausted), (2000, Recovery)])
def test_1000_steps_count_from_detection_to_detection(onset, kind):
    journal = []
    for earlier in (1000, 1400, 1700):
        journal.append(planned(incident(earlier), every_50(500, earlier), journal))
    assert isinstance(planned(incident(onset), every_50(500, onset), journal), kind)


def test_a_run_that_falls_back_ever_further_makes_no_progress_either():
    config, journal = SpikeConfig(max_skipped_fraction=1.0), []
    for onset in (9000, 7500, 6000, 4500):
        journal.append(planned(incident(onset), every_50(500, onset), journal, config))
    assert isinstance(journal[2], Recovery)
    assert journal[3].reason.startswith("4 incidents without 1,000 steps of progress between them")


def test_no_more_than_ten_recoveries_unless_a_person_looked():
    journal = spaced(10, 2000, CONFIG)
    late = incident(22_000)
    assert planned(late, every_50(500, 22_000), journal, train_steps=10**6) == Exhausted(
        reason="10 recoveries were made, the last at step 20003, and no more than 10 are without "
        "a person"
    )
    journal.append(spikes.manual(Saved(step=19_000, cursor=20_000), journal, 0, 1.0))
    assert planned(late, every_50(500, 22_000), journal, train_steps=10**6).level == 1


def test_no_more_batches_are_skipped_than_allowed():
    found, saved = incident(1000), every_50(500, 1000)
    assert isinstance(planned(found, saved, train_steps=10_000), Recovery)
    assert planned(found, saved, train_steps=9999) == Exhausted(
        reason="200 batches would be skipped in all, 2.0% of the run's 9,999 steps; "
        "SpikeConfig.max_skipped_fraction allows 2.0%"
    )


def test_a_person_decides_freely():
    first = planned(incident(1000), every_50(500, 1000))  # [907, 1107), rate x 0.8
    assert spikes.manual(Saved(step=850, cursor=857), [first], 100, 0.5) == Recovery(
        id=2,
        kind="manual",
        rule="manual",
        level=0,
        onset=None,
        detected=None,
        target_step=850,
        target_cursor=857,
        skipped=(857, 1157),
        lr_multiplier=0.4,
        degraded="",
        loss=None,
        median=None,
        threshold=None,
    )
    for skip, factor, text in (
        (-1, 0.8, "-1 batches cannot be skipped; give 0 or more"),
        (10, 0.0, "cannot be multiplied with 0.0; give e.g. 0.8"),
        (10, NAN, "cannot be multiplied with nan; give e.g. 0.8"),
    ):
        with pytest.raises(InputError, match=text):
            spikes.manual(spikes.SEED, [], skip, factor)


def test_what_follows_a_person_is_no_repeat():
    by_hand = spikes.manual(Saved(step=900, cursor=907), [], 0, 1.0)
    found = planned(incident(1000), every_50(500, 1000), [by_hand])
    assert (found.level, found.target_step, found.id) == (1, 900, 2)


# Ranges and lineages.


def test_ranges_and_places_by_hand():
    assert spikes.merged([(5, 8), (1, 3), (3, 4), (7, 9), (6, 6)]) == ((1, 4), (5, 9))
    assert spikes.merged([]) == ()
    skipped = [(3, 5), (7, 8)]  # feedable: 0 1 2 5 6 8 9 ...
    assert [spikes.advance(0, count, skipped) for count in range(6)] == [0, 1, 2, 5, 6, 8]
    assert [spikes.advance(cursor, 0, skipped) for cursor in (3, 4, 5, 7)] == [5, 5, 5, 8]


@pytest.mark.parametrize("seed", range(30))
def test_ranges_and_places_are_those_of_sets(seed):
    draw = random.Random(seed)
    starts = [draw.randint(0, 60) for _ in range(draw.randint(0, 6))]
    ranges = [(start, start + draw.randint(0, 12)) for start in starts]
    out = {place for start, end in ranges for place in range(start, end)}
    union = spikes.merged(ranges)
    assert {place for start, end in union for place in range(start, end)} == out
    assert all(before[1] < after[0] for before, after in zip(union, union[1:], strict=False))
    assert spikes.merged(reversed(union)) == union
    cursor = draw.randint(0, 70)
    feedable = [place for place in range(cursor, 300) if place not in out]
    for count in range(20):
        assert spikes.advance(cursor, count, ranges) == feedable[count]


def drawn_journal(draw):
    """A run's decisions as they come, and the steps at which its lineages stood."""
    journal, config = [], SpikeConfig(max_skipped_fraction=1.0)
    at = 0
    while len(journal) < 8:
        at += draw.randint(1, 900)
        saved = every_50(50, at)
        kept = draw.sample(saved, draw.randint(0, len(saved)))
        if draw.random() < 0.25 and kept:
            found = spikes.manual(
                draw.choice(kept), journal, draw.randint(0, 90), draw.choice([0.5, 1.25])
            )
        else:
            found = planned(incident(at, draw.randint(0, 60)), kept, journal, config)
        if isinstance(found, Exhausted):
            break
        journal.append(found)
        at = found.target_step
    return journal


@pytest.mark.parametrize("seed", range(40))
def test_laws_of_a_plan(seed):
    draw = random.Random(seed)
    journal = drawn_journal(draw)
    assert journal == drawn_journal(random.Random(seed))  # a function of what it was given
    for number, one in enumerate(journal):
        before = journal[:number]
        start, end = one.skipped
        feedable = [at for at in range(start, end) if not is_in(at, before)]
        assert one.id == number + 1 and one.target_cursor <= start <= end
        assert all(is_in(at, before) for at in range(one.target_cursor, start))
        if one.kind == "automatic":
            assert one.target_step < one.onset.step or one.target_step == 0
            assert len(feedable) >= min(200 * 2 ** (one.level - 1), 1600)
            assert end >= one.detected.cursor and end >= one.onset.cursor + 100
            assert one.degraded or one.onset.step - one.target_step >= 100 * one.level
        assert one.kind == "manual" or one.lr_multiplier <= spikes.multiplier(before, len(before))
        assert one.lr_multiplier == spikes.multiplier(journal, one.id)
        assert Recovery.from_json(json.loads(json.dumps(asdict(one)))) == one


def is_in(place, journal):
    return any(start <= place < end for start, end in (one.skipped for one in journal))


@pytest.mark.parametrize("seed", range(40))
def test_validity_is_membership_of_the_decided_lineage(seed):
    """Against a run that remembers which of its checkpoints it has abandoned."""
    draw = random.Random(seed)
    journal, lineage, ever = [], [(0, 0)], {(0, 0)}
    while len(journal) < 8:
        step, attempt = lineage[-1]
        for _ in range(draw.randint(0, 12)):
            step += 50
            lineage.append((step, attempt))
            ever.add((step, attempt))
        target, _ = draw.choice(lineage)
        journal.append(spikes.manual(Saved(step=target, cursor=target), journal, 1, 0.9))
        lineage = [saved for saved in lineage if saved[0] <= target]
        assert {saved for saved in ever if spikes.is_valid(*saved, journal)} == set(lineage)
        lineage.append((target, len(journal)))  # the record applied; a copy may be saved anew
        ever.add(lineage[-1])
        assert spikes.is_valid(*lineage[-1], journal)


@pytest.mark.parametrize("seed", range(20))
def test_decisions_that_apply_go_strictly_forwards_and_the_newest_is_among_them(seed):
    journal = drawn_journal(random.Random(seed))
    applicable = spikes.applicable(journal)
    targets = [one.target_step for one in applicable]
    assert targets == sorted(set(targets)) and applicable[-1] == journal[-1]
    for one in journal:
        assert spikes.is_superseded(one, journal) == (one not in applicable)
    covered = {at for one in journal for at in range(*one.skipped)}
    ranges = spikes.skipped_ranges(journal)
    assert {at for start, end in ranges for at in range(start, end)} == covered


def test_a_lineage_that_the_journal_does_not_know_is_a_reason_to_stop():
    assert spikes.multiplier([], 0) == 1.0
    with pytest.raises(StopAndLook, match="recovery 2 was applied, but the journal ends with 0"):
        spikes.multiplier([], 2)


def test_planning_changes_nothing_it_was_given():
    saved, journal = every_50(500, 1000)[::-1], [planned(incident(1000), every_50(500, 1000))]
    given = copy.deepcopy((saved, journal))
    assert planned(incident(1000), saved, journal) == planned(incident(1000), saved, journal)
    assert (saved, journal) == given
