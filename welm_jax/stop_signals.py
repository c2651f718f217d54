"""SIGTERM and Control-C: what they end at once, and when training saves first.

Python runs a handler only between two of its own instructions, and within one the main thread may
compile or compute for minutes. So a thread hears the signals: it runs while jax works.
"""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from welm_jax import processes
from welm_jax.failures import Preempted

WORDS = {
    signal.SIGTERM: "ended by SIGTERM; start the same command again",
    signal.SIGINT: "interrupted; the same command goes on from what was saved",
}
UNWIND_SECONDS = 2.0  # that a KeyboardInterrupt has to end a command in order


def end_at_once(number: int, *_) -> NoReturn:
    """Ends this process: an exception in the middle of an import may be lost, or worse."""
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, f"welm: error: {WORDS[signal.Signals(number)]}\n".encode())
    os._exit(Preempted.status)


@contextlib.contextmanager
def ending_commands() -> Iterator[None]:
    """Lets SIGTERM end a command at once, and Control-C within two seconds, while jax works too."""
    done = threading.Event()

    def hear(number: int) -> None:
        if number == signal.SIGTERM or not done.wait(UNWIND_SECONDS):
            end_at_once(number)

    try:
        with _heard(hear, {signal.SIGTERM: _nothing}):
            yield
    finally:
        done.set()


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Gives what training asks after each step: whether SIGTERM or SIGINT came.

    Until it asks, nothing was made that could be saved, and either signal ends the process at once;
    so does a second SIGINT. Of several processes any may get SIGTERM; jax lets all stop after the
    same iteration. There SIGINT ends them at once, with nothing saved.
    """
    if processes.are_joined():
        from jax.experimental import multihost_utils

        numbers = itertools.count()

        def all_asked() -> bool:
            processes.note_training()
            return multihost_utils.reached_preemption_sync_point(next(numbers))

        yield all_asked
        return
    came: list[int] = []
    is_training = threading.Event()

    def hear(number: int) -> None:
        if not is_training.is_set() or came.count(number) and number == signal.SIGINT:
            end_at_once(number)
        came.append(number)

    def asked() -> bool:
        is_training.set()
        return bool(came)

    with _heard(hear, {signal.SIGTERM: _nothing, signal.SIGINT: _nothing}):
        yield asked


def _nothing(*_) -> None:
    """Is the handler of a signal that a thread hears: without one Python would not pass it on."""


@contextlib.contextmanager
def _heard(hear: Callable[[int], None], handlers: dict[int, Callable]) -> Iterator[None]:
    """Calls `hear` in a thread of its own, for each SIGTERM and SIGINT that comes in this block."""
    numbers, written = os.pipe()
    os.set_blocking(written, False)  # as Python wants it

    def listen() -> None:
        while number := os.read(numbers, 1):
            if number[0] in WORDS:
                hear(number[0])
        os.close(numbers)

    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    formerly = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(formerly)
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(written)
