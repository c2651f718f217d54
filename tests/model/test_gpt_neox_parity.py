"""Our decoder against Hugging Face's GPTNeoXForCausalLM, float32.

The tolerance is tight on purpose: tanh GELU moves logits by 1e-3, LayerNorm eps 1e-6 by 1e-2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import FLOAT32_ATOL
from tests.golden import make_gpt_neox_parity
from tests.tiny_decoder import mesh_of
from welm_jax import gpt_neox_layout
from welm_jax.model import loss
from welm_jax.model.decoder import Assembler

GRADIENT_RTOL = 1e-5  # of each tensor's largest entry


def golden(case):
    with np.load(make_gpt_neox_parity.FILE) as arrays:
        prefix = f"{case}/"
        return {
            name.removeprefix(prefix): arrays[name]
            for name in arrays.files
            if name.startswith(prefix)
        }


def as_tree(flat, config):
    """`blocks/qkv/kernel` keys as nested dicts, vocabulary rows padded with noise."""
    tree = {}
    for name, array in flat.items():
        if name.endswith("embedding"):
            missing = config.padded_vocab_size - len(array)
            noise = np.random.default_rng(0).normal(size=(missing, array.shape[1]))
            array = np.concatenate([array, noise.astype(np.float32)])
        *parents, leaf = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = array
    return tree


def group(reference, prefix):
    """Theirs of a group, without the prefix."""
    return {
        name.removeprefix(prefix): array
        for name, array in reference.items()
        if name.startswith(prefix)
    }


def in_ours(reference, prefix, config):
    theirs = group(reference, prefix)
    return dict(gpt_neox_layout.in_our_layout(theirs.__getitem__, {*theirs}, config))


def make_forward(config, tokens):
    """parameters -> (mean loss, logits [B, T, V])."""
    assemble = Assembler(config)

    def forward(parameters):
        decoder = assemble(parameters)
        inputs, targets = jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:])
        positions = jnp.tile(jnp.arange(inputs.shape[1]), (len(inputs), 1))
        hidden = decoder(inputs, positions, jnp.ones_like(positions))
        logits = loss.logits(hidden, decoder.head_matrix(), config.vocab_size)
        return jnp.mean(loss.token_losses(logits, targets)), logits[:, :, : config.vocab_size]

    return forward


def check_logits(case, reference):
    config = make_gpt_neox_parity.config_of(case)
    with jax.set_mesh(mesh_of()), jax.default_matmul_precision("highest"):
        forward = jax.jit(make_forward(config, reference["tokens"]))
        _, logits = forward(as_tree(in_ours(reference, "parameters/", config), config))
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=FLOAT32_ATOL)


def check_gradients(case, reference):
    config = make_gpt_neox_parity.config_of(case)
    with jax.set_mesh(mesh_of()), jax.default_matmul_precision("highest"):
        forward = make_forward(config, reference["tokens"])
        value_and_grad = jax.jit(jax.value_and_grad(forward, has_aux=True))
        parameters = as_tree(in_ours(reference, "parameters/", config), config)
        (mean_loss, _), gradients = value_and_grad(parameters)
    assert float(mean_loss) == pytest.approx(float(reference["loss"]), rel=1e-6)
    vocabulary, expected_gradients = config.vocab_size, in_ours(reference, "gradients/", config)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        expected = expected_gradients[name]
        if name.endswith("embedding"):
            assert not np.any(gradient[vocabulary:]), f"{name}: padding rows learn"
            gradient = gradient[:vocabulary]
        difference = np.abs(gradient - expected).max() / np.abs(expected).max()
        assert difference < GRADIENT_RTOL, f"{name}: {difference:.1e}"


@pytest.mark.parametrize("case", make_gpt_neox_parity.CASES)
def test_logits_equal_the_golden_ones(case):
    check_logits(case, golden(case))


@pytest.mark.parametrize("case", make_gpt_neox_parity.CASES)
def test_gradients_equal_the_golden_ones(case):
    check_gradients(case, golden(case))


@pytest.mark.parametrize("case", make_gpt_neox_parity.CASES)
def test_logits_and_gradients_equal_a_live_model(case):
    """Where torch and transformers are installed (extra `peers`), on weights never stored."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    reference = make_gpt_neox_parity.reference(case, seed=1)
    check_logits(case, reference)
    check_gradients(case, reference)
