"""A profile of some steps of a run that trains, on demand: `kill -USR1 PID`."""

import signal
from collections.abc import Callable

import jax
from etils import epath

WINDOW_STEPS = 5


class ProfileWindow:
    """Records the steps that follow a SIGUSR1, for TensorBoard's profile page or Perfetto.

    Args:
      folder: where profiles are written.
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
                jax.profiler.stop_trace()
                self._say(f"{self._folder} holds a profile of {WINDOW_STEPS} steps")
        elif self._asked:
            self._asked, self._left = False, WINDOW_STEPS
            jax.profiler.start_trace(self._folder)
