"""What the processes of a run say to each other, besides what their devices do."""

import hashlib
import json
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from welm_jax.failures import InputError, Preempted, StopAndLook


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def by_first(act: Callable[[], str | None]) -> str | None:
    """Lets process 0 alone act; all wait for it, and have what it returned.

    Raises:
      Failure: of process 0, on all of them alike; StopAndLook on the others for any other error.
    """
    if jax.process_count() == 1:
        return act()
    told, failure = b"", None
    if is_first():
        try:
            returned = act()
        except Exception as error:  # the others wait for a word
            told, failure = json.dumps([type(error).__name__, str(error)]).encode(), error
        else:
            told = json.dumps([None, returned]).encode()
    length = multihost_utils.broadcast_one_to_all(np.int32(len(told)))
    told = np.frombuffer(told or bytes(length), np.uint8)
    kind, said = json.loads(multihost_utils.broadcast_one_to_all(told).tobytes())
    if kind is None:
        return said
    if failure is None:
        shared = {"InputError": InputError, "Preempted": Preempted}.get(kind, StopAndLook)
        failure = shared(f"process 0 failed: {said}")
    failure.is_shared = True
    raise failure


def on_all(holds: bool) -> bool:
    """Whether something holds on every process; all must ask, and so none goes on before."""
    return bool(np.all(multihost_utils.process_allgather(np.bool_(holds))))


def check_same(named: Mapping[str, str]) -> None:
    """Stops all processes unless they have the same of everything.

    Args:
      named: what it is, in words -> its content, or a fingerprint of it.

    Raises:
      StopAndLook: names two processes and what they differ in.
    """
    mine = [
        np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in named.values()
    ]
    for process, theirs in enumerate(multihost_utils.process_allgather(np.stack(mine))):
        for name, own, other in zip(named, mine, theirs.reshape(-1, 32), strict=True):
            if bytes(own) != bytes(other):
                failure = StopAndLook(
                    f"processes {jax.process_index()} and {process} differ in {name}; here it is "
                    f"{named[name][:200]}; start all with the same command, code and data"
                )
                failure.is_shared = True
                raise failure
