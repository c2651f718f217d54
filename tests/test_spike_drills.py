"""The arms of the spike drills: the peers' rule, and how arms are compared."""

from collections import deque

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import in_step_skipping, spike_drills
from welm_jax.failures import StopAndLook


def outliers_among(values):
    before = deque(maxlen=in_step_skipping.WINDOW)
    return [in_step_skipping.stands_out(value, before) for value in values]


def test_the_peers_rule_is_6_deviations_above_the_mean_of_128():
    calm = [1.9, 2.1] * 32  # mean 2, deviation 0.1: 2.6 passes, more does not
    assert outliers_among([*calm, 2.59])[-1] is False and outliers_among([*calm, 2.61])[-1] is True
    assert not any(outliers_among([*calm[:-1], 9.0]))  # 63 are too few to judge by
    assert outliers_among([*calm, 9.0, 3.0])[-2:] == [True, False]  # the first hides the second
    assert (
        outliers_among([*calm, np.nan, np.inf, 2.61])[-3:] == [True] * 3
    )  # neither is in the window


def test_a_guarded_step_gives_back_the_old_state_where_loss_or_norm_stands_out():
    losses, norms = [2.0, 2.1] * 33, [1.0, 1.1] * 33
    losses[64], norms[65] = 5.0, 7.0
    made = iter(zip(losses, norms, strict=True))

    def train_step(state, batch, rate):
        loss, norm = next(made)
        return state + 1, {"loss": jnp.float32(loss), "gradient_norm": jnp.float32(norm)}

    step, state, refused = in_step_skipping.guarded(train_step), jnp.int32(0), []
    for at in range(66):
        state, metrics = step(state, None, None)
        refused += [at] if not np.isfinite(metrics["gradient_norm"]) else []
    assert refused == [64, 65] and int(state) == 64


def test_an_arm_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(spike_drills, "MOST_ITERATIONS", 3)
    step = spike_drills.bounded(lambda state: state)
    assert [step(at) for at in range(3)] == [0, 1, 2]
    with pytest.raises(StopAndLook, match="not at its end after 3 iterations"):
        step(3)


def row(seed, **ratios):
    lost = {arm: 100 * (arm == "recover") for arm in ratios}
    return {
        "seed": seed,
        "by": "cursor",
        "kind": "spike",
        "loss / clean": ratios,
        "steps lost": lost,
    }


def test_arms_are_compared_on_the_seeds_that_both_ended():
    rows = [
        row(0, recover=1.0, log=1.02, skip=1.0),
        row(2, recover=1.0, log=1.04, skip=1.0),
        row(4, recover=None, log=1.5, skip=None),
    ]
    table = spike_drills.comparison(rows)
    cells = {tuple(line.split(" | ")[:2]): line.strip(" |").split(" | ")[2:] for line in table[2:]}
    assert cells["| cursor: spike", "recover"][:3] == [
        "2 of 3",
        "1.0000 (1.0000 to 1.0000)",
        "100 (100 to 100)",
    ]
    ended, ratio, lost, less = cells["| cursor: spike", "log"]
    assert (ended, lost) == ("3 of 3", "0 (0 to 0)")
    assert ratio.startswith("1.1867 (") and less == "+0.0300 (+0.0200 to +0.0400)"
    assert cells["| cursor: all", "log"] == cells["| cursor: spike", "log"]
    assert not any("step" in by for by, _ in cells)  # no seed of those was run


def test_an_interval_holds_the_mean_and_narrows_with_the_values():
    few, many = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0] * 25
    (low, high), (near, far) = spike_drills.interval(few), spike_drills.interval(many)
    assert low < near < 2.5 < far < high
    # The mean of 100 has a deviation of sqrt(1.25) / 10; 1.96 of them are 0.219.
    assert near == pytest.approx(2.5 - 0.219, abs=0.03)
    assert far == pytest.approx(2.5 + 0.219, abs=0.03)
