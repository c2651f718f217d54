"""Calls of a decoding loop: how long, and what they end with; no decoder and no real clock."""

import numpy as np
import pytest

from welm_jax.decode import strides
from welm_jax.failures import StopAndLook


class Devices:
    """Takes seconds for a step, and compiles in the first call that makes further ones."""

    def __init__(self, monkeypatch, seconds, compiling=0.0, ends_at=10**9):
        self.now, self.seconds, self.compiling, self.ends_at = 0.0, seconds, compiling, ends_at
        self.calls = []  # seconds that each took
        monkeypatch.setattr(strides.time, "perf_counter", lambda: self.now)

    def begin(self):
        return self.told(1)

    def advance(self, state, until):
        until = min(int(until), self.ends_at)
        took = (until - state) * self.seconds + (0 if self.calls else self.compiling)
        self.now += took
        self.calls.append(took)
        return self.told(until)

    def told(self, step, lost=0):
        told = np.array([step, step < self.ends_at, lost]).view(Told)
        return step, np.arange(step), told


class Told(np.ndarray):
    def block_until_ready(self):
        return self


def run(devices, most_steps):
    return strides.run(devices.begin, devices.advance, most_steps=most_steps, rows=2)


@pytest.mark.parametrize("seconds", [1e-6, 1e-3, 0.1, 0.4])
@pytest.mark.parametrize("compiling", [0.0, 20.0])
def test_no_call_takes_much_more_than_half_a_second_and_there_are_few(
    monkeypatch, seconds, compiling
):
    """But for the one that compiles, and steps that are longer themselves."""
    devices = Devices(monkeypatch, seconds, compiling)
    assert len(run(devices, 2000)) == 2000
    assert max(devices.calls[1:]) <= strides.SECONDS + seconds
    assert len(devices.calls) <= 2000 * seconds / strides.SECONDS * 1.5 + 5


def test_a_step_that_takes_long_is_a_call_of_its_own(monkeypatch):
    devices = Devices(monkeypatch, 3.0)
    run(devices, 9)
    assert devices.calls == [3.0] * 8


def test_it_ends_where_no_row_goes_on(monkeypatch):
    devices = Devices(monkeypatch, 1e-3, ends_at=7)
    assert len(run(devices, 2000)) == 7


def test_rows_without_numbers_end_it(monkeypatch):
    devices = Devices(monkeypatch, 1e-3)
    devices.begin = lambda: devices.told(1, lost=2)
    with pytest.raises(StopAndLook, match="likelihoods are no numbers in 2 of 2 answers"):
        run(devices, 2000)


def test_processes_make_the_same_calls_whatever_their_clocks_say(monkeypatch):
    monkeypatch.setattr(strides.jax, "process_count", lambda: 2)
    for seconds in (1e-6, 10.0):
        devices = Devices(monkeypatch, seconds)
        run(devices, 100)
        assert len(devices.calls) == 4  # 99 steps, 32 at a time
