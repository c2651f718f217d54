import copy
import json
import math
import random
from dataclasses import asdict

import pytest

from welm_jax.failures import InputError
from welm_jax.train import spikes
from welm_jax.train.spikes import (
    History,
    Place,
    Reading,
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
            cursor = self.iteration + 7
            reading = Reading(
                place=Place(iteration=self.iteration, step=self.step, cursor=cursor),
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


def risen(*rises):
    """Losses that lie so far above calm ones."""
    return [CALM + rise for rise in rises]


def lasting(*offsets):
    """Losses after a calm stretch: an outlier at each of these offsets, and a raised loss after."""
    return risen(*(0.5 * (at in offsets) + 0.2 * (at - 1 in offsets) for at in range(200)))


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
    assert run.feed(*risen(5, 5, 5)).rules() == [("big", 201, 203)]


def test_fewer_than_32_accepted_losses_are_nothing_to_be_judged_by():
    run = Run().feed(*[NAN] * 209, *[CALM] * 31, CALM + 5, CALM + 5)
    assert run.verdicts[-2:] == ["accepted", "outlier"]


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        # What lasted is known from the raised loss after it, and so one iteration late.
        (lasting(0, 7, 14), [("frequent", 241, 256)]),
        (lasting(0, 7, 15), []),
        (lasting(0, 40, 80, 118), [("frequent", 241, 360)]),
        (lasting(0, 40, 80, 119), []),
        (risen(0.5, 0.5), []),
        (risen(0.5, 0.5, 0.5), [("frequent", 241, 243)]),
        # Of this trouble is neither one of 60 iterations before nor a lone one of 30.
        (risen(0.5, 0.2, *[0] * 58, 0.5, 0.5, 0.5), [("frequent", 301, 303)]),
        (risen(*[0] * 30, 0.5, *[0] * 29, 0.5, 0.5, 0.5), [("frequent", 301, 303)]),
    ],
)
def test_three_lasting_outliers_in_16_iterations_or_four_in_120_are_frequent(losses, found):
    assert settled().feed(*losses).rules()[:1] == found


@pytest.mark.parametrize(
    ("rises", "found"),
    [
        ((1.01, 1.01, 1.01), [("big", 241, 243)]),
        ((1.01, 1.01, 0.2, 1.01), [("big", 241, 244)]),
        ((1.01, 1.01, 0.2, 0.2, 1.01), [("frequent", 241, 245)]),
        ((1.0, 1.0, 1.0), [("frequent", 241, 243)]),
        ((1.01, 1.01), []),
    ],
)
def test_three_lasting_outliers_of_more_than_a_nat_in_4_iterations_are_big(rises, found):
    assert settled().feed(*risen(*rises)).rules() == found


@pytest.mark.parametrize("spacing", [3, 10])
def test_lone_outliers_are_not_an_incident_however_many_and_high(spacing):
    run = settled().feed(*risen(3, *[0] * (spacing - 1)) * 40)
    assert run.verdicts.count("outlier") == 40 and not run.incidents


@pytest.mark.parametrize(("neighbour", "counts"), [(0.14, False), (0.16, True)])
def test_an_outlier_lasts_if_a_neighbour_is_raised_by_half_the_threshold(neighbour, counts):
    for three in (risen(0.5, neighbour, 0, 0) * 3, risen(neighbour, 0.5, 0, 0) * 3):
        run = settled().feed(*three)
        assert len(run.incidents) == counts
        assert len(run.history.lasting) == 3 * counts and len(run.history.outliers) == 3


def test_what_a_raised_loss_completes_tells_the_loss_of_the_outlier_before_it():
    [incident] = settled().feed(*lasting(0, 7, 14)[:16]).incidents
    assert (incident.loss, incident.detected.iteration) == (CALM + 0.5, 256)


def test_the_onset_of_a_spike_is_the_earliest_lasting_outlier_of_48_iterations():
    run = settled().feed(*risen(0.5, 0.2, *[0] * 28, 2, 2, 2))
    assert run.rules() == [("big", 241, 273)]
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
    after = [CALM + noise.gauss(0, 0.02) for _ in range(200)] + [CALM + 2] * 3
    with_nan.feed(*after), without.feed(*after)
    assert with_nan.verdicts[241:] == without.verdicts[240:]
    assert with_nan.history.accepted == without.history.accepted
    assert [(rule, onset - 1, at - 1) for rule, onset, at in with_nan.rules()] == without.rules()


def test_without_loss_scaling_an_infinite_gradient_is_nonfinite():
    run = settled().feed(OVERFLOW, OVERFLOW, OVERFLOW)
    assert run.verdicts[-3:] == ["nonfinite"] * 3
    assert run.rules() == [("nonfinite", 241, 243)]


def test_a_search_for_the_loss_scale_is_no_incident_and_as_long_as_the_scale_can_fall():
    for power in (16, 32):
        run = Run(loss_scale=2.0**power).feed(*[OVERFLOW] * (power + 2))
        assert run.verdicts == ["overflow"] * (power + 2) and not run.incidents
        # Then eight in 16 iterations are one; it began with the first overflow of those 16.
        assert run.feed(*[OVERFLOW] * 8).rules() == [("overflow", power - 5, power + 10)]


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
    kept = ("accepted", "latest", "outliers", "lasting", "medians", "nonfinite")
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
    assert recovered().feed(*risen(2, 2, 2)).rules() == [("big", 301, 303)]
    assert recovered().feed(NAN, NAN, NAN).rules() == [("nonfinite", 301, 303)]


def test_an_update_that_is_refused_completes_no_incident_of_outliers():
    run = settled(300, loss_scale=2.0**16)
    run.history = spikes.recovered(run.history)
    assert not run.feed(*risen(*[0.5] * 16), OVERFLOW).incidents
    assert run.feed(*risen(0.5)).rules() == [("frequent", 301, 318)]


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
    run = settled().feed(*risen(2, 2, 2))
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
    assert run.rules() == [("big", 241, 243)]


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


def test_a_history_from_before_outliers_had_to_last_is_read_and_goes_on():
    run = settled().feed(*risen(0.5, 0.5))
    content = json.loads(json.dumps(asdict(run.history)))
    del content["lasting"]
    run.history = History.from_json(content)
    assert run.history.outliers and not run.history.lasting
    # Of the outliers from before only the newest may still count.
    assert run.feed(*risen(0.5)).rules() == [] and len(run.history.lasting) == 2
    assert run.feed(*risen(0.5)).rules() == [("frequent", 242, 244)]


@pytest.mark.parametrize("seed", range(3))
def test_judging_changes_nothing_it_was_given_and_is_repeatable(seed):
    run = [*eventful(seed, 300)][-1]
    history, place = run.history, Place(iteration=301, step=301, cursor=301)
    reading = Reading(place=place, loss=5.0, gradient_norm=1.0, loss_scale=None)
    before = copy.deepcopy((history, reading, CONFIG))
    assert spikes.judge(history, reading, CONFIG) == spikes.judge(history, reading, CONFIG)
    spikes.recovered(history), spikes.ignored(history)
    assert (history, reading, CONFIG) == before


def test_the_memory_has_a_bound():
    history = settled(1500).feed(*[CALM + 0.5] * 150).history
    kept = ("accepted", "latest", "medians", "outliers", "lasting")
    assert [len(getattr(history, name)) for name in kept] == [128, 32, 250, 120, 120]


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
