"""The runs of Table 2, compiled for 128 devices that are not there."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import xla_flags

MESHES = {
    "welm_1b3": {"data": 128, "fsdp": 1, "tensor": 1},
    "welm_2b7": {"data": 16, "fsdp": 8, "tensor": 1},
    "welm_10b": {"data": 32, "fsdp": 1, "tensor": 4},
}
# In a process of its own: it needs other fake devices than the tests have.
COMPILE = """
import json, sys
from welm_jax import ahead_of_time, gin_files, model_info
from welm_jax.configurables import TRAINING
from welm_jax.train.mesh import check_model, make_mesh
from welm_jax.train.optimizer import make_adam
from welm_jax.train.state import abstract_tree

for preset in sys.argv[2:]:
    config = gin_files.load([f"runs/{preset}.gin"], ["TOKENS_DIR=unused"], TRAINING)
    mesh = make_mesh(config["MeshConfig"])
    check_model(mesh, config["ModelConfig"])
    config["StepConfig"].check(mesh, 2048)
    if preset in sys.argv[1]:
        ahead_of_time.lowered_step(config, mesh, 2048).compile()
    adam = make_adam(config["OptimizerConfig"])
    parameters = abstract_tree(config["ModelConfig"], adam, mesh)["parameters"]
    kernel = parameters["blocks"]["up"]["kernel"]
    print(json.dumps({
        "mesh": dict(mesh.shape),
        "kernel": str(kernel.sharding.spec),
        "left whole": model_info.left_whole(parameters, mesh),
    }))
"""


@pytest.mark.parametrize(
    "compiled", ["welm_10b", pytest.param("welm_1b3 welm_2b7 welm_10b", marks=pytest.mark.slow)]
)
def test_presets_compile_on_their_meshes_and_no_large_parameter_is_left_whole(compiled):
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, compiled, *MESHES],
        env=os.environ | {"XLA_FLAGS": xla_flags(128)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for mesh, line in zip(MESHES.values(), done.stdout.splitlines(), strict=True):
        found = json.loads(line)
        assert found["mesh"] == mesh
        assert found["kernel"] == "P(None, ('fsdp', 'data'), 'tensor')"
        assert found["left whole"] is None
