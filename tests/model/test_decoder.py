import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import FLOAT32_ATOL
from tests.tiny_decoder import UNTIED, mesh_of, random_parameters
from welm_jax.model.decoder import Assembler

LENGTH = 6
PARAMETERS = random_parameters(UNTIED)


def influence(segments):
    """|d hidden[t] / d embedding[s]| summed over both widths, [T, T]; exact zeros mean none.

    Every token is another id and the head is untied, so a row of the embedding is one token.
    """
    assemble = Assembler(UNTIED)
    tokens = jnp.arange(LENGTH)[None]

    def hidden(rows):
        table = jnp.asarray(PARAMETERS["embed"]["embedding"]).at[:LENGTH].set(rows)
        decoder = assemble({**PARAMETERS, "embed": {"embedding": table}})
        return decoder(tokens, tokens, jnp.asarray(segments)[None])

    with jax.set_mesh(mesh_of()):
        rows = jnp.asarray(PARAMETERS["embed"]["embedding"][:LENGTH])
        jacobian = jax.jit(jax.jacfwd(hidden))(rows)
    return np.abs(jacobian[0]).sum((1, 3))


def test_no_output_depends_on_a_later_token_and_each_on_all_before():
    depends = influence([1] * LENGTH) > 0
    np.testing.assert_array_equal(depends, np.tri(LENGTH, dtype=bool))


def test_nothing_flows_between_segments():
    depends = influence([1, 1, 1, 2, 2, 3]) > 0
    expected = np.zeros((LENGTH, LENGTH), bool)
    for start, end in ((0, 3), (3, 5), (5, 6)):
        expected[start:end, start:end] = np.tri(end - start)
    np.testing.assert_array_equal(depends, expected)


@pytest.fixture(scope="module")
def run():
    assemble = Assembler(UNTIED)
    compiled = jax.jit(lambda parameters, *inputs: assemble(parameters)(*inputs))

    def run(tokens, positions, segments):
        arrays = (np.array([row], np.int32) for row in (tokens, positions, segments))
        with jax.set_mesh(mesh_of()):
            return np.asarray(compiled(PARAMETERS, *arrays))[0]

    return run


def test_outputs_depend_on_differences_of_positions_only(run):
    tokens, ones = [5, 9, 3, 9, 4, 1], [1] * LENGTH
    plain = run(tokens, range(LENGTH), ones)
    shifted = run(tokens, range(100, 100 + LENGTH), ones)
    np.testing.assert_allclose(shifted, plain, atol=10 * FLOAT32_ATOL)
    assert np.abs(run(tokens, range(0, 2 * LENGTH, 2), ones) - plain).max() > 0.01


def test_a_packed_document_is_computed_as_if_alone(run):
    """Two documents in one row, positions starting over, against the second one by itself."""
    packed = run([7, 8, 5, 9, 3, 2], [0, 1, 0, 1, 2, 3], [1, 1, 2, 2, 2, 2])
    alone = run([5, 9, 3, 2, 0, 0], [0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(packed[2:], alone[:4], atol=FLOAT32_ATOL)


def test_only_without_remat_are_the_scores_of_all_layers_kept():
    """Six layers of 4 heads over 256 tokens have scores of 6 MiB in float32.

    No policy computes a layer's softmax more than twice: forward, and once again.
    """
    config = dataclasses.replace(UNTIED, num_layers=6)
    assemble = Assembler(config)

    def temporaries(remat):
        def total(parameters):
            rows = jnp.zeros((1, 256), jnp.int32)
            return jnp.sum(assemble(parameters)(rows, rows, remat=remat))

        with jax.set_mesh(mesh_of()):
            parameters = random_parameters(config)
            compiled = jax.jit(jax.grad(total)).lower(parameters).compile()
        softmaxes = re.findall(r"f32\[1,4,256,256\]\S* exponential\(", compiled.as_text())
        assert len(softmaxes) <= (1 if remat == "none" else 2)
        return compiled.memory_analysis().temp_size_in_bytes

    none, dots, full = map(temporaries, ("none", "dots", "full"))
    assert full < dots < none - 5 * 2**20
