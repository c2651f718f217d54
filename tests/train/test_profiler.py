import os
import signal

import pytest
from etils import epath

from welm_jax.train.profiler import WINDOW_STEPS, ProfileWindow


@pytest.fixture(autouse=True)
def _handler_as_before():
    former = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, former)


def test_a_signal_records_the_steps_that_follow(tmp_path):
    said = []
    window = ProfileWindow(epath.Path(tmp_path) / "profile", said.append)
    window.step()
    assert not (tmp_path / "profile").exists()
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(WINDOW_STEPS):
        window.step()
        assert not said
    window.step()
    assert said == [f"{tmp_path / 'profile'} holds a profile of some steps"]
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    for _ in range(2 * WINDOW_STEPS):
        window.step()  # one signal, one window
    assert len(said) == 1


def test_a_window_that_is_open_at_the_end_is_written(tmp_path):
    said = []
    window = ProfileWindow(epath.Path(tmp_path) / "profile", said.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    window.step()
    window.close()
    window.close()
    assert len(said) == 1 and list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_run_in_a_bucket_has_no_profile_and_goes_on():
    said = []
    window = ProfileWindow(epath.Path("gs://bucket/run/profile"), said.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(2 * WINDOW_STEPS):
        window.step()
    assert said == ["no profile: gs://bucket/run/profile is in a bucket, and it needs a disk"]
