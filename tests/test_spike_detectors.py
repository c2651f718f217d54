import itertools
import json
from collections import Counter

import numpy as np
import pytest

from benchmarks import spike_detectors as detectors
from benchmarks import spike_suites as suites
from benchmarks.spike_suites import Curve, Event


def test_suite_a_is_what_it_says():
    curves = suites.suite_a(0, 1.0)
    trouble = [event for curve in curves for event in curve.trouble]
    assert [len(curve.losses) for curve in curves] == [4000] * 12
    assert Counter(event.kind for event in trouble) == {"spike": 16, "burst": 12, "ramp": 8}
    for curve in curves:
        assert len(curve.trouble) == 3 and curve.trouble[-1].end < 4000
        for before, after in itertools.pairwise(curve.trouble):
            assert after.start - before.start > detectors.MUTE and before.end < after.start
    # From 11 nats to 2.2 and the two shifts of 0.05 to 0.2.
    assert all(10.5 < curve.losses[0] < 11.5 for curve in curves)
    assert all(2.2 < np.median(curve.losses[-100:]) < 2.8 for curve in curves)


def test_a_seed_fixes_the_curves():
    first, again, other = (suites.suite_a(seed, 1.0)[0].losses for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_amplitude_is_that_of_the_trouble_and_of_nothing_else():
    for whole, half, quarter in zip(*(suites.suite_a(1, by) for by in (1, 0.5, 0.25)), strict=True):
        added = whole.losses - half.losses
        inside = np.zeros(len(added), bool)
        for event in whole.trouble:
            inside[event.start : event.end] = True
        assert np.all(added[~inside] == 0) and added.max() > 0.1
        np.testing.assert_allclose(added, 2 * (half.losses - quarter.losses), atol=1e-12)


@pytest.mark.parametrize("noise", suites.NOISES)
def test_the_noises_of_suite_b_are_as_wide_as_they_say(noise):
    line = np.linspace(2.5, 2.2, 20_000)
    left = suites.late(noise, 0, 0, 20_000) - line
    # Of the bimodal one: 10 % lie 0.1 higher, which adds 0.1^2 x 0.1 x 0.9 to the variance.
    assert left.std() == pytest.approx(0.036 if noise == "bimodal" else 0.02, rel=0.15)
    correlated = np.corrcoef(left[1:], left[:-1])[0, 1]
    assert correlated == pytest.approx(0.6 if noise == "autoregressive" else 0.0, abs=0.05)


def fires(detector, *losses):
    return list(detector(losses))


CALM = np.random.default_rng(0).normal(2.0, 0.01, 250).tolist()


def test_a_mean_with_outliers_in_it_lets_the_next_one_pass():
    assert fires(detectors.mean_and_sigma, *CALM, 5.0, 3.0)[-2:] == [True, False]
    ours = fires(detectors.robust_k_of_n, *CALM, 5.0, *[2.0] * 50, 3.1, 3.1, 3.1, 3.1)
    # Three in a row are an incident, and what follows it is ignored.
    assert ours[-4:] == [False, False, True, False] and not any(ours[:-4])


def test_a_single_step_rule_can_be_asked_for_3_in_16():
    rule = detectors.three_in_16(detectors.ewm_ratio)
    met = fires(rule, 2.0, *[3.0, *[2.0] * 6] * 2, 3.0, *[2.0] * 7, 3.0)
    # The losses of 3.0 lie 7 apart and then 8: 1, 8 and 15 within 16; 8, 15 and 23 too.
    assert [at for at, fired in enumerate(met) if fired] == [15, 23]
    assert not any(fires(rule, 2.0, *[3.0, *[2.0] * 7] * 4))  # 1, 9 and 17 are 17 losses


def test_a_ratio_of_losses_knows_no_noise():
    assert fires(detectors.ewm_ratio, 2.0, 2.0, 2.19) == [False] * 3
    assert fires(detectors.ewm_ratio, 2.0, 2.0, 2.21) == [False, False, True]
    # 0.2 x 2.21 + 0.8 x 2 = 2.042, a tenth above which is 2.246.
    assert fires(detectors.ewm_ratio, 2.0, 2.21, 2.245, 2.0)[1:] == [True, False, False]


def test_the_rival_passes_a_blip_and_sums_what_stays():
    assert not any(fires(detectors.mad_cusum, *CALM, 9.0, *CALM))
    assert fires(detectors.mad_cusum, *CALM, 9.0, 9.0, 9.0)[-3:] == [False, False, True]
    # 5 deviations add 4 to a sum that must pass 25, and none is beyond 6; 1 deviation adds 0.
    shifted = fires(detectors.mad_cusum, *CALM, *[2.05] * 14)[-14:]
    assert 4 <= shifted.index(True) <= 9
    assert not any(fires(detectors.mad_cusum, *CALM, *[2.01] * 14)[-14:])


def always(losses):
    return (True for _ in losses)


def at_every_100(losses):
    return (at % 100 == 0 for at, _ in enumerate(losses))


def test_after_a_trigger_250_iterations_are_muted():
    assert detectors.triggers(always, np.zeros(600)) == [0, 251, 502]
    assert detectors.triggers(always, np.zeros(3), mute=0) == [0, 1, 2]


def test_a_score_worked_by_hand():
    """Triggers at 0, 300, 600 and 900: two of them in one of three events."""
    trouble = (
        Event(kind="spike", start=290, end=340),
        Event(kind="burst", start=400, end=500),
        Event(kind="ramp", start=590, end=901),
    )
    curves = [Curve(losses=np.zeros(1000), trouble=trouble)]
    found = detectors.score(at_every_100, curves)
    assert (found.precision, found.recall) == (0.75, 2 / 3)
    assert found.latencies == {"spike": [10], "burst": [], "ramp": [10]}
    assert detectors.median_latencies(found) == "10/-/10"


GOLDEN = {  # triggers of ours in the first three runs of suite A, seed 0
    1.0: [[408, 1858, 2963], [882, 1695, 3099], [520, 1710, 2796]],
    0.5: [[1947], [882, 1695, 3110], [1736, 2796]],
}


@pytest.mark.parametrize("amplitude", GOLDEN)
def test_golden_triggers_of_ours(amplitude):
    curves = suites.suite_a(0, amplitude)[:3]
    found = [detectors.triggers(detectors.robust_k_of_n, curve.losses) for curve in curves]
    assert found == GOLDEN[amplitude]
    for curve, run in zip(curves, found, strict=True):
        assert all(any(e.start <= at < e.end for e in curve.trouble) for at in run)


def test_ours_is_silent_on_a_clean_run():
    assert detectors.triggers(detectors.robust_k_of_n, suites.clean(0)[1].losses) == []


@pytest.mark.parametrize("noise", suites.NOISES)
def test_ours_on_suite_b(noise):
    curve = suites.late(noise, 0, 0)
    at, ours = suites.EVENT_AT, detectors.robust_k_of_n
    assert detectors.triggers(ours, suites.blipped(curve, 2.0)) == []
    assert detectors.triggers(ours, suites.spiked(curve, 0.8))[0] in (at + 1, at + 2)
    assert 20 < detectors.triggers(ours, suites.ramped(curve, 1))[0] - at < 60


@pytest.mark.parametrize(("recall", "status"), [(0.8, 0), (0.79, 1)])
def test_the_exit_status_says_whether_all_bars_hold(monkeypatch, capsys, recall, status):
    scores = [
        detectors.Score(precision=1.0, recall=value, latencies={}) for value in (1.0, recall, 0.5)
    ]
    monkeypatch.setattr(detectors, "compare_on_a", lambda seed: (scores, 0))
    monkeypatch.setattr(detectors, "compare_on_b", lambda seed: None)
    monkeypatch.setattr(detectors, "microseconds_per_loss", lambda seed: 99.0)
    assert detectors.main(["--seed", "5"]) == status
    bars = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line]
    assert [bar["bar"] for bar in bars] == [
        "precision_x1",
        "precision_x0.5",
        "precision_x0.25",
        "recall_x1",
        "recall_x0.5",
        "triggers_in_200k_clean",
        "microseconds_per_loss",
    ]
    assert [bar["bar"] for bar in bars if not bar["holds"]] == ["recall_x0.5"] * status
