"""A profile of some steps of a run that trains, on demand: `kill -USR1 PID`."""

import signal
from collections.abc import Callable

import jax
from etils import epath

from welm_jax import run_files

WINDOW_STEPS = 5


class ProfileWindow:
    """Records the steps that follow a SIGUSR1, for TensorBoard's profile page or Perfetto.

    Args:
      folder: where profiles are written; not in a bucket, which the profiler cannot reach.
      say: tells a person.
    """

    def __init__(self, folder: epath.Path, say: Callable[[str], None]):
        self._folder, self._say = folder, say
        self._asked, self._left = False, 0
        signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, *_) -> None:
        self._asked = True

    def step(self) -> None:
        """Opens or closes the window; to be called after each step."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._stop()
        elif self._asked:
            self._asked = False
            if run_files.in_bucket(self._folder):
                self._say(f"no profile: {self._folder} is in a bucket, and it needs a disk")
                return
            self._left = WINDOW_STEPS
            jax.profiler.start_trace(self._folder)

    def close(self) -> None:
        """Ends a window that is still open; no step follows."""
        if self._left:
            self._left = 0
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._say(f"{self._folder} holds a profile of some steps")
