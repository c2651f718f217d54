"""A run that has begun and was not trained: its files, our tokenizer and its first weights."""

from pathlib import Path

import jax

from tests import tiny_corpus
from tests.tiny_decoder import mesh_of
from welm_jax import gin_files, run_beginning
from welm_jax.configurables import TRAINING
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train.checkpoints import Checkpoints, Progress


def begun_run(folder: Path, step: int = 0, *more: str) -> Path:
    """Writes a run folder that holds one checkpoint, filed under a step; `more` as in run_gin."""
    gin_file = tiny_corpus.run_gin(folder / "run.gin", 4, *more)
    config = gin_files.load([str(gin_file)], [], TRAINING)
    run, mesh = RunFolder(folder / "run"), mesh_of()
    mixture = run_beginning.new_mixture(config["MixtureConfig"], [])
    parts = RunParts(config=config, mixture=mixture, mesh=mesh)
    run.path.mkdir()
    run_beginning.write_beginning(run, parts)
    kept = config["CheckpointConfig"]
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, kept, parts.identity) as checkpoints:
        checkpoints.save(parts.new_state(), Progress(step=step))
    return folder / "run"
