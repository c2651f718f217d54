from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.conftest import SHARDED_RTOL
from tests.tiny_decoder import (
    TINY,
    mesh_of,
    placed,
    placed_batch,
    random_batch,
    random_parameters,
)
from welm_jax.failures import InputError
from welm_jax.model.decoder import Assembler
from welm_jax.train.mesh import MeshConfig, by_slice, make_mesh
from welm_jax.train.step import summed_loss

BATCH = random_batch(8, 16, TINY.vocab_size)


def loss_and_gradients(mesh, remat="none", chunks=1):
    assemble = Assembler(TINY)

    @jax.jit
    def value_and_grad(parameters, batch):
        def of(parameters):
            return summed_loss(assemble(parameters), batch, remat=remat, chunks=chunks)

        return jax.value_and_grad(of)(parameters)

    parameters = placed(random_parameters(TINY), mesh)
    with jax.set_mesh(mesh):
        found = value_and_grad(parameters, placed_batch(BATCH, mesh))
    for weight, gradient in zip(*map(jax.tree.leaves, (parameters, found[1])), strict=True):
        assert gradient.sharding.spec == weight.sharding.spec
    return jax.tree.map(np.asarray, found)


@pytest.fixture(scope="module")
def on_one_device():
    return loss_and_gradients(mesh_of())


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((8, 1, 1), {}),
        ((2, 2, 2), {"remat": "full", "chunks": 4}),
        ((2, 1, 4), {"remat": "dots", "chunks": 2}),
        ((1, 2, 4), {"chunks": 16}),
    ],
)
def test_loss_and_gradients_are_those_of_one_device(shape, how, on_one_device):
    """Neither the mesh nor what is recomputed changes the mathematics."""
    loss, gradients = loss_and_gradients(mesh_of(*shape), **how)
    expected_loss, expected = on_one_device
    assert loss == pytest.approx(expected_loss, rel=SHARDED_RTOL)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        other = expected
        for key in path:
            other = other[key.key]
        difference = np.abs(gradient - other).max() / np.abs(other).max()
        assert difference < SHARDED_RTOL, f"{jax.tree_util.keystr(path)}: {difference:.1e}"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"data": 3}, "data 3 x fsdp 1 x tensor 1 x slices 1 does not fit 8 devices; make the pro"),
        ({"tensor": 3}, "data -1 x fsdp 1 x tensor 3 x slices 1 does not fit 8 devices"),
        ({"slices": 3}, "slices 3 does not fit 8 devices"),
        ({"fsdp": -1}, "only one of them may be -1"),
        ({"tensor": 0}, "MeshConfig.tensor = 0; it must be 1 or more"),
        ({"data": -2}, "MeshConfig.data = -2; it must be 1 or more"),
    ],
)
def test_meshes_that_do_not_fit_are_refused(config, text):
    with pytest.raises(InputError, match=text):
        make_mesh(MeshConfig(**config))


def test_one_axis_takes_the_devices_left_over():
    assert dict(make_mesh(MeshConfig(tensor=2)).shape) == {"data": 4, "fsdp": 1, "tensor": 2}
    rest = MeshConfig(data=2, fsdp=-1, tensor=2)
    assert dict(make_mesh(rest).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


def test_slices_lie_outermost_along_data():
    """Numbered across slices, as TPUs may be, the devices of each come together."""
    devices = [SimpleNamespace(id=number, slice_index=number % 2) for number in range(8)]
    assert [one.id for one in by_slice(devices)] == [0, 2, 4, 6, 1, 3, 5, 7]
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, tensor=2, slices=2), jax.devices()[::-1])
    assert dict(mesh.shape) == {"data": 4, "fsdp": 1, "tensor": 2}
    halves = [{device.id for device in half.ravel()} for half in np.split(mesh.devices, 2)]
    numbers = sorted(device.id for device in jax.devices())
    assert halves == [set(numbers[:4]), set(numbers[4:])]


def test_slices_of_tpus_are_not_laid_out_as_one():
    tpus = [SimpleNamespace(id=at, slice_index=at // 4, platform="tpu") for at in range(8)]
    with pytest.raises(InputError, match="slices = 1, but the 8 devices are of 2 slices; set it"):
        make_mesh(MeshConfig(), tpus)
