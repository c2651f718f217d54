import jax

from tests.tiny_decoder import mesh_of
from welm_jax import model_info
from welm_jax.model.config import ModelConfig
from welm_jax.train.optimizer import OptimizerConfig, make_adam
from welm_jax.train.state import abstract_tree

CONFIG = ModelConfig(num_layers=2, num_heads=4, d_model=128, vocab_size=10_000)
ADAM = make_adam(OptimizerConfig(max_learning_rate=1e-3, warmup_steps=0, decay_steps=1))


def parameters(mesh):
    return abstract_tree(CONFIG, ADAM, mesh)["parameters"]


def test_a_line_for_each_parameter_and_the_sums():
    """10,240 rows x 128 x 4 bytes over 8 devices are 655,360."""
    mesh = mesh_of(2, 2, 2)
    lines = model_info.table(parameters(mesh), mesh).splitlines()
    assert len([line for line in lines if "/" in line]) == 15
    embedding = next(line for line in lines if line.startswith("embed/embedding"))
    assert "[10240, 128]" in embedding and "vocabulary, stored_width" in embedding
    assert "tensor, ('fsdp', 'data')" in embedding and embedding.endswith("655,360")
    assert "mesh: data 2, fsdp 2, tensor 2" in lines
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters(mesh)))
    assert any(line.startswith(f"{count:,} parameters") for line in lines)


def test_large_parameters_that_lie_on_several_devices_are_told():
    """7 does not divide a width of 128; 5 MiB of embedding and twice that of moments each."""
    mesh = mesh_of(7)
    warning = model_info.left_whole(parameters(mesh), mesh)
    assert warning.startswith("warning: 1 large parameters, such as embed/embedding")
    assert "on 7 devices each, 0.01 GiB on every one" in warning
    assert model_info.left_whole(parameters(mesh_of(8)), mesh_of(8)) is None
    assert model_info.left_whole(parameters(mesh_of()), mesh_of()) is None
