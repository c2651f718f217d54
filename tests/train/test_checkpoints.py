import jax
import numpy as np
import pytest

from tests.tiny_decoder import TINY, mesh_of, placed, random_parameters
from welm_jax.failures import InputError, StopAndLook
from welm_jax.train import optimizer, state
from welm_jax.train.checkpoints import CheckpointConfig, Checkpoints, Progress
from welm_jax.train.optimizer import OptimizerConfig

ADAM = optimizer.make_adam(OptimizerConfig(max_learning_rate=1.0, warmup_steps=0, decay_steps=1))


def some_state(mesh, seed=0):
    """A state in which every number is random, the moments too."""
    leaves = [random_parameters(TINY, seed + at) for at in range(3)]
    parameters, mu, nu = (placed(leaf, mesh) for leaf in leaves)
    adam = ADAM.init(parameters)._replace(mu=mu, nu=nu)
    return state.TrainState(step=jax.numpy.int32(7), parameters=parameters, adam=adam)


def like(mesh):
    return state.abstract_tree(TINY, ADAM, mesh)


@pytest.mark.parametrize("axes", [(1, 1, 1), (2, 2, 2), (1, 1, 4)])
def test_save_then_restore_is_identity_on_any_mesh(tmp_path, axes):
    progress = Progress(step=7, cursor=9, tokens=12_345_678_901)
    first = mesh_of(2, 1, 2)
    with jax.set_mesh(first), Checkpoints(tmp_path, keep=1) as checkpoints:
        saved = some_state(first)
        checkpoints.save(saved, progress)
    second = mesh_of(*axes)
    with jax.set_mesh(second), Checkpoints(tmp_path, keep=1) as checkpoints:
        restored, found = checkpoints.restore(like(second))
        assert found == progress
        trees = (restored.as_tree(), saved.as_tree(), like(second))
        for now, before, target in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_array_equal(np.asarray(now), np.asarray(before))
            assert now.dtype == before.dtype
            assert now.sharding.spec == target.sharding.spec


def test_nothing_saved_restores_to_none_and_only_the_newest_are_kept(tmp_path):
    with jax.set_mesh(mesh_of()), Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(like(mesh_of())) is None
        for step in (1, 2, 3, 3):  # a step saved already is left alone
            checkpoints.save(some_state(mesh_of(), step), Progress(step=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_a_reader_leaves_the_unfinished_save_of_a_live_run_alone(tmp_path):
    unfinished = tmp_path / "9.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with jax.set_mesh(mesh_of()), Checkpoints(tmp_path, keep=None) as checkpoints:
        assert checkpoints.restore(like(mesh_of())) is None
    assert unfinished.exists()


def test_what_lies_on_disk_has_plain_names(tmp_path):
    with jax.set_mesh(mesh_of()), Checkpoints(tmp_path, keep=1) as checkpoints:
        tree = some_state(mesh_of()).as_tree()
        checkpoints.save(state.TrainState.from_tree(tree), Progress(step=1))
    assert set(tree) == {"step", "parameters", "adam"}
    assert set(tree["adam"]) == {"count", "mu", "nu"}
    assert {path.name for path in (tmp_path / "1").iterdir()} >= {"state", "host"}


def test_a_save_that_orbax_declines_is_an_error(tmp_path):
    with jax.set_mesh(mesh_of()), Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(some_state(mesh_of()), Progress(step=5))
        with pytest.raises(StopAndLook, match="step 4 was due and was not saved"):
            checkpoints.save(some_state(mesh_of()), Progress(step=4))


def test_intervals_below_one_are_refused():
    with pytest.raises(InputError, match="CheckpointConfig.every_steps = 0; it must be 1 or more"):
        CheckpointConfig(every_steps=0)
