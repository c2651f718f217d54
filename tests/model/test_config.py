import re
from pathlib import Path

import pytest

import gin_configs
from welm_jax import gin_files
from welm_jax.failures import InputError
from welm_jax.model.config import ModelConfig

MODEL_FILES = ("welm_1b3", "welm_2b7", "welm_10b")


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_preset_says_what_it_costs(name):
    """The header's two exact numbers are those of the model that the file binds."""
    file = f"models/{name}.gin"
    config = gin_files.load([file], [], {"ModelConfig": "welm_jax.model.config"})["ModelConfig"]
    text = (Path(gin_configs.__file__).parent / file).read_text()
    said = dict(re.findall(r"^# ([\w ]+): +([\d,]+) \(", text, re.MULTILINE))
    assert int(said["parameters"].replace(",", "")) == config.num_parameters
    assert int(said["FLOPs per token"].replace(",", "")) == config.flops_per_token(2048)
    assert config.compute_dtype == "bfloat16"


def test_flops_per_token_worked_by_hand():
    """One layer of width 4 (12 x 16 + 13 x 4 = 244, last norm 8), 10 ids (40), 3 tokens."""
    config = ModelConfig(num_layers=1, num_heads=2, d_model=4, vocab_size=10)
    assert config.num_parameters == 244 + 8 + 40
    assert config.flops_per_token(3) == 6 * (244 + 8 + 40) + 6 * 1 * 4 * 3
    untied = ModelConfig(num_layers=1, num_heads=2, d_model=4, vocab_size=10, ties_embeddings=False)
    assert untied.num_parameters == 244 + 8 + 80
    assert untied.flops_per_token(3) == config.flops_per_token(3)  # a lookup is free


def test_padded_vocabulary_splits_over_eight_devices():
    assert ModelConfig(num_layers=1, num_heads=1, d_model=2).padded_vocab_size == 62_464


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_layers": 0}, "ModelConfig.num_layers = 0; it must be 1 or more"),
        ({"d_model": 30}, "ModelConfig.d_model = 30 does not split into 4 heads of even width"),
    ],
)
def test_impossible_shapes_are_refused(change, text):
    with pytest.raises(InputError, match=text):
        ModelConfig(**{"num_layers": 1, "num_heads": 4, "d_model": 32, **change})
