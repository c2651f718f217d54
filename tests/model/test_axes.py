import jax
import pytest
from jax.sharding import PartitionSpec

from tests.tiny_decoder import TINY, UNTIED, mesh_of
from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.train.state import initial_parameters


def shapes_of(config):
    with jax.set_mesh(mesh_of()):
        shapes = jax.eval_shape(lambda: initial_parameters(config, 0))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return {axes.path_name(path): leaf.shape for path, leaf in leaves}


# Table 2: layers, heads, width. Totals for 62,000 ids: L (12 d^2 + 13 d) + 2 d + (1 or 2) V d.
@pytest.mark.parametrize(
    ("layers", "heads", "width", "ties", "total"),
    [
        (24, 16, 2048, True, 1_335_578_624),
        (24, 16, 2048, False, 1_462_554_624),
        (32, 32, 2560, True, 2_676_372_480),
        (32, 32, 2560, False, 2_835_092_480),
        (32, 40, 5120, True, 10_385_909_760),
        (32, 40, 5120, False, 10_703_349_760),
    ],
)
def test_table_2_parameter_totals(layers, heads, width, ties, total):
    config = ModelConfig(num_layers=layers, num_heads=heads, d_model=width, ties_embeddings=ties)
    shapes = shapes_of(config)
    counted = 0
    for name, shape in shapes.items():
        rows = config.vocab_size if name.endswith("embedding") else shape[0]
        size = rows
        for extent in shape[1:]:
            size *= extent
        counted += size
    assert counted == total
    assert config.num_parameters == total


def test_the_table_covers_exactly_the_decoders_parameters():
    shapes = shapes_of(UNTIED)
    assert {name.removeprefix("blocks/") for name in shapes} == set(axes.PARAMETERS)
    for name, shape in shapes.items():
        assert len(axes.parameter_axes(name)) == len(shape), name
    assert set(shapes) - set(shapes_of(TINY)) == {"head/embedding"}


def test_where_a_stacked_kernel_lives():
    """Layers whole, q/k/v whole, heads over tensor, head width whole; the width depends."""
    path, shape = "blocks/qkv/kernel", (2, 32, 3, 4, 8)
    with jax.set_mesh(mesh_of(4, 2, 1)):
        at_rest = axes.at_rest(path, shape)
        undivided = axes.at_rest(path, (2, 36, 3, 4, 8))
    assert at_rest == PartitionSpec(None, ("fsdp", "data"), None, "tensor", None)
    assert undivided == PartitionSpec(None, "fsdp", None, "tensor", None)
    assert axes.in_step(path) == PartitionSpec(None, "fsdp", None, "tensor", None, reduced={"data"})
    assert axes.gradient_sums("blocks/qkv/bias") == PartitionSpec(
        None, None, "tensor", None, unreduced={"data", "fsdp"}
    )
