"""Checkpoints: the train state as Orbax arrays, and the host's few numbers as JSON."""

from dataclasses import asdict, dataclass

import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import preservation_policy

from welm_jax.failures import StopAndLook, require_positive
from welm_jax.train.state import TrainState


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to save and what to keep.

    Attributes:
      every_steps: optimizer steps between two checkpoints.
      keep: newest checkpoints that stay.
    """

    every_steps: int
    keep: int = 3

    def __post_init__(self):
        require_positive(self, "every_steps", "keep")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is; the part of a checkpoint that lives on the host.

    Attributes:
      step: optimizer updates made.
      cursor: batches of the stream that are behind us; the next one to train on.
      tokens: target tokens trained on.
    """

    step: int = 0
    cursor: int = 0
    tokens: int = 0


class Checkpoints:
    """Saves in the background, restores onto any mesh; a context manager that waits at its end.

    Args:
      folder: where the steps lie.
      keep: newest checkpoints that stay; None only reads, and so may look on while a run trains.
    """

    def __init__(self, folder: epath.PathLike, keep: int | None):
        reads_only = keep is None
        self._manager = ocp.CheckpointManager(
            epath.Path(folder).resolve(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=None if reads_only else preservation_policy.LatestN(keep),
                cleanup_tmp_directories=not reads_only,  # what a killed save left behind
                create=not reads_only,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Starts saving a step, unless it is saved already.

        Raises:
          StopAndLook: Orbax declined to save.
        """
        if progress.step == self._manager.latest_step():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state.as_tree()), host=ocp.args.JsonSave(asdict(progress))
        )
        if not self._manager.save(progress.step, args=items):
            raise StopAndLook(
                f"the checkpoint of step {progress.step} was due and was not saved; newer steps "
                f"lie in {self._manager.directory}: move them away"
            )

    def restore(self, like: PyTree) -> tuple[TrainState, Progress] | None:
        """The newest checkpoint, or None where there is none.

        Args:
          like: shapes, types and shardings to restore into, as `state.abstract_tree` gives them.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(like), host=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        return TrainState.from_tree(restored["state"]), Progress(**restored["host"])
