"""Signals that come while Python runs no handler: in real processes."""

import os
import signal
import time

import pytest

from tests.forked import Forked
from welm_jax import stop_signals

# Stands in for a compilation: lets other threads run, and no handler, until it ends in some hours.
COMPUTE = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)'
COMPUTING = f"""
import hashlib, sys
from welm_jax import stop_signals
stop_signals.UNWIND_SECONDS = 0.2
with getattr(stop_signals, sys.argv[1])():
    print("computing", flush=True)
    {COMPUTE}
"""


def ended_by(process, word, number):
    """Sends a signal to a process once it has said a word; returns its status."""
    try:
        while word not in process.output.read_text():
            assert process.poll() is None, process.output.read_text()
            time.sleep(0.01)
        process.send_signal(number)
        return process.wait(timeout=10)
    finally:
        process.kill()  # or it would compute for hours


@pytest.mark.parametrize("manner", ["ending_commands", "asked_to_stop"])
@pytest.mark.parametrize("number", stop_signals.WORDS, ids=str)
def test_a_signal_ends_what_computes_at_once(tmp_path, manner, number):
    process = Forked(COMPUTING, [manner], tmp_path / "log")
    assert ended_by(process, "computing", number) == 75
    assert process.output.read_text() == (f"computing\nwelm: error: {stop_signals.WORDS[number]}\n")


@pytest.mark.parametrize("number", stop_signals.WORDS, ids=str)
def test_training_that_has_begun_is_asked(number):
    before = signal.getsignal(number)
    with stop_signals.asked_to_stop() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        until = time.monotonic() + 10
        while not asked():
            assert time.monotonic() < until
            time.sleep(0.001)
    assert signal.getsignal(number) is before


def test_a_command_that_ends_by_itself_after_control_c_is_left_alone(monkeypatch):
    monkeypatch.setattr(stop_signals, "UNWIND_SECONDS", 0.1)
    with pytest.raises(KeyboardInterrupt), stop_signals.ending_commands():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    time.sleep(0.2)  # or the process of this test would be gone
