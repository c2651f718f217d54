import dataclasses

import jax
import numpy as np

from tests.tiny_decoder import TINY, mesh_of
from welm_jax.model import axes
from welm_jax.train import optimizer
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.state import TrainState, abstract_tree, initial_state

ADAM = optimizer.make_adam(OptimizerConfig(max_learning_rate=1e-3, warmup_steps=1, decay_steps=2))


def fresh(mesh):
    with jax.set_mesh(mesh):
        return initial_state(TINY, ADAM, 3, LossScaleConfig())


def test_a_fresh_state_does_not_depend_on_the_mesh():
    plain, spread = (fresh(mesh).as_tree() for mesh in (mesh_of(), mesh_of(2, 2, 2)))
    jax.tree.map(np.testing.assert_array_equal, plain, spread)
    leaves = jax.tree_util.tree_leaves_with_path(spread["parameters"])
    for group in (spread["parameters"], spread["adam"]["mu"], spread["adam"]["nu"]):
        for (path, _), leaf in zip(leaves, jax.tree.leaves(group), strict=True):
            with jax.set_mesh(mesh_of(2, 2, 2)):
                expected = axes.at_rest(axes.path_name(path), leaf.shape)
            assert leaf.sharding.spec == expected, path
    assert not any(leaf.any() for leaf in jax.tree.leaves(spread["adam"]))


def test_the_plain_tree_and_back():
    tree = fresh(mesh_of()).as_tree()
    names = {axes.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
    assert {"step", "adam/count", "adam/mu/blocks/up/kernel", "parameters/embed/embedding"} <= names
    assert {name for name in names if name.startswith("loss_scale")} == {
        "loss_scale/scale",
        "loss_scale/good_steps",
        "loss_scale/hysteresis_left",
    }
    back = TrainState.from_tree(tree).as_tree()
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_the_abstract_tree_is_that_of_a_fresh_state():
    """Shapes, types and shardings, leaf by leaf: a checkpoint is restored into it."""
    mesh = mesh_of(2, 1, 2)
    tree, abstract = fresh(mesh).as_tree(), abstract_tree(TINY, ADAM, mesh)
    assert jax.tree.structure(abstract) == jax.tree.structure(tree)
    for leaf, like in zip(jax.tree.leaves(tree), jax.tree.leaves(abstract), strict=True):
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)


def test_only_float16_begins_with_the_loss_scale_that_is_asked_for():
    scales = []
    for dtype in ("float16", "bfloat16"):
        config = dataclasses.replace(TINY, compute_dtype=dtype)
        with jax.set_mesh(mesh_of()):
            state = initial_state(config, ADAM, 3, LossScaleConfig(initial=256.0))
        scales.append(float(state.loss_scale.scale))
    assert scales == [256, 1]
