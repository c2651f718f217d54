import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from welm_jax.failures import InputError
from welm_jax.train.faults import FaultConfig

BATCH = {
    "decoder_target_tokens": np.zeros((8, 16), np.int32),
    "decoder_loss_weights": np.ones((8, 16), np.float32),
}


def bad_places(kind):
    return [place for place in range(500) if FaultConfig(kind=kind, at=100).severity(place)]


def test_each_kind_has_its_shape():
    assert bad_places("none") == []
    assert bad_places("spike") == list(range(100, 112))
    assert bad_places("nan") == list(range(100, 104))
    starts = range(100, 220, 20)
    assert bad_places("burst") == [start + more for start in starts for more in range(3)]
    ramp = [FaultConfig(kind="ramp", at=100).severity(place) for place in range(100, 300)]
    assert ramp == sorted(ramp) and ramp[0] == 1 / 200 and ramp[-1] == 1.0


def test_bad_data_is_the_same_whenever_it_is_fed_and_leaves_other_batches_alone():
    fault = FaultConfig(kind="spike", at=5)
    assert fault.batch(4, BATCH, 100) is BATCH
    one, again, other = (fault.batch(at, BATCH, 100) for at in (5, 5, 6))
    targets = [batch["decoder_target_tokens"] for batch in (one, again, other)]
    np.testing.assert_array_equal(targets[0], targets[1])
    assert (targets[0] != targets[2]).any() and targets[0].max() < 100
    assert not BATCH["decoder_target_tokens"].any()
    assert fault.rate(5) == 1.0  # by cursor, so not by step


def test_a_ramp_spoils_ever_more_rows():
    fault = FaultConfig(kind="ramp", at=0)
    rows = [
        int(fault.batch(at, BATCH, 100)["decoder_target_tokens"].any(1).sum())
        for at in (0, 99, 199)
    ]
    assert rows == [1, 4, 8]


def test_a_bad_state_is_a_rate_and_leaves_the_data_alone():
    fault = FaultConfig(kind="spike", by="step", at=5)
    assert fault.batch(5, BATCH, 100) is BATCH
    assert [fault.rate(step) for step in (4, 5, 16, 17)] == [1.0, 50.0, 50.0, 1.0]
    assert math.isnan(FaultConfig(kind="nan", by="step", at=5).rate(5))


def test_not_a_number_in_the_data():
    batch = FaultConfig(kind="nan").batch(0, BATCH, 100)
    assert np.isnan(batch["decoder_loss_weights"]).all()


def test_a_place_before_the_beginning_is_refused():
    with pytest.raises(InputError, match="FaultConfig.at = -1; it must be 0 or more"):
        FaultConfig(at=-1)


def test_a_process_told_to_dies_at_that_write_boundary():
    code = """
from welm_jax.train import faults
for number in range(1, 5):
    print(number, flush=True)
    faults.write_boundary(f"write {number}")
"""
    environment = {**os.environ, "WELM_CRASH_AT": "3"}
    died = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    assert died.stdout.decode().splitlines() == ["1", "2", "3", "WELM_CRASH_AT: dying at write 3"]
