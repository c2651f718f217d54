"""What the processes of a run say to each other, besides what their devices do."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from welm_jax.failures import OfAnother, StopAndLook, as_failure


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def by_first(act: Callable[[], Any]) -> Any:
    """Lets process 0 alone act; all wait for it, and have what it returned, as JSON has it.

    Raises:
      Exception: of process 0; OfAnother on the others, with the same status.
    """
    if jax.process_count() == 1:
        return act()
    told, raised = b"", None
    if is_first():
        try:
            word = [0, act()]
        except Exception as error:  # the others wait for a word
            raised, failure = error, as_failure(error)
            word = [failure.status, str(failure)] if failure else [1, repr(error)]
        told = json.dumps(word).encode()
    length = multihost_utils.broadcast_one_to_all(np.int32(len(told)))
    told = np.frombuffer(told or bytes(length), np.uint8)
    status, said = json.loads(multihost_utils.broadcast_one_to_all(told).tobytes())
    if raised:
        raise raised
    if status:
        raise OfAnother(f"process 0 failed: {said}", status)
    return said


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
                raise StopAndLook(
                    f"processes {jax.process_index()} and {process} differ in {name}; here it is "
                    f"{named[name][:200]}; start all with the same command, code and data"
                )
