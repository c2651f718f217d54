"""The reader of compiled programs, and what it finds in the train step's."""

import json
import math
import subprocess
import sys

import pytest

from welm_jax import hlo

MESH = {"data": 4, "tensor": 2}
PROGRAM = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%inner (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %whole = f32[8,4]{1,0} all-reduce(%x), replica_groups=REPLICA_GROUPS, to_apply=%add
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%p, %whole)
}

%until (p: (s32[], f32[8,4])) -> pred[] {
  %p.1 = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p.1), index=0
  %bound = s32[]{:T(128)} constant(24)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

%outer (q: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %q = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %turned = (s32[], f32[8,4]{1,0}) while(%q), condition=%until, body=%inner
}

ENTRY %main (s: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %s = (s32[], f32[8,4]{1,0}) parameter(0)
  %once = bf16[2]{0} all-gather-start(%s), replica_groups={{0,1},{2,3},{4,5},{6,7}}
  ROOT %w = (s32[], f32[8,4]{1,0}) while(%s), condition=%until, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("{{0,2,4,6},{1,3,5,7}}", {"data"}),
        ("[4,2]<=[8]", {"tensor"}),
        ("[2,4]<=[4,2]T(1,0)", {"data"}),
        ("{}", {"data", "tensor"}),
        ("mesh['a'=4,'b'=2] {'b'}", {"tensor"}),
        ("mesh['a'=1,'b'=2,'c'=4], device_ids=([4,2]T(1,0)) {'c'}", {"data"}),
    ],
)
def test_collectives_their_axes_and_how_often_they_run(groups, axes):
    """72 times: three turns of the outer loop, as noted, of 24 of the inner one, as compared."""
    found = hlo.collectives(PROGRAM.replace("REPLICA_GROUPS", groups), MESH)
    by_kind = {one.kind: one for one in found}
    assert set(by_kind) == {"all-reduce", "all-gather"}
    reduced = by_kind["all-reduce"]
    assert (reduced.axes, reduced.instruction.times) == (axes, 72)
    assert reduced.instruction.in_loop and reduced.instruction.result_bytes == 8 * 4 * 4
    assert by_kind["all-gather"].axes == {"tensor"}
    assert not by_kind["all-gather"].instruction.in_loop
    assert str(by_kind["all-gather"]) == "all-gather over tensor of bf16[2], once"


def test_operands_of_an_asynchronous_start_do_not_count():
    """XLA writes them into its result, for a reduction to all only in a second pair of brackets."""
    for result, operation in (
        ("((bf16[8]), bf16[8])", "all-reduce-start"),
        ("bf16[8]", "all-reduce-start"),
        ("(bf16[4], bf16[8])", "all-gather-start"),
        ("(bf16[8], bf16[8], u32[], u32[])", "collective-permute-start"),
    ):
        line = f"%once = {result} {operation}(%s), replica_groups=" + "{}"
        old = next(one for one in PROGRAM.splitlines() if one.startswith("  %once = "))
        text = PROGRAM.replace(old, f"  {line}").replace("REPLICA_GROUPS", "{}")
        found = hlo.collectives(text, MESH)
        [once] = [one for one in found if not one.instruction.in_loop]
        assert once.bytes == 16 and str(once).endswith(" of bf16[8], once")


def test_groups_of_one_device_exchange_nothing_and_unknown_forms_are_refused():
    alone = "{{0},{1},{2},{3},{4},{5},{6},{7}}"
    found = hlo.collectives(PROGRAM.replace("REPLICA_GROUPS", alone), MESH)
    assert [one.kind for one in found] == ["all-gather"]
    with pytest.raises(ValueError, match="of a form that is not known: mesh"):
        hlo.collectives(PROGRAM.replace("REPLICA_GROUPS", "mesh['a'=8] {'a':(2)4}"), MESH)


# In a process of its own: abstract states do not pass the run-time checks of annotations.
COMPILE = """
import json, sys
import jax
from tests.tiny_decoder import mesh_of
from welm_jax import ahead_of_time
from welm_jax.model import axes
from welm_jax.model.config import ModelConfig
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.step import StepConfig

config = {
    "ModelConfig": ModelConfig(num_layers=3, num_heads=4, d_model=64, vocab_size=1000),
    "OptimizerConfig": ahead_of_time.ANY_OPTIMIZER,
    "LossScaleConfig": LossScaleConfig(),
    "StepConfig": StepConfig(batch_size=16, microbatches=2, loss_chunks=4, remat="dots"),
}
mesh = mesh_of(*json.loads(sys.argv[1]))

def compiled():
    return ahead_of_time.lowered_step(config, mesh, 32).compile().as_text()

plain = compiled()
# A mutant: no weight is typed reduced, so each use of it sums its gradient.
in_step = axes.in_step
axes.in_step = lambda path: jax.P(*in_step(path).partitions)
axes.in_use = lambda name, weight: jax.reshard(weight, axes.spec(*axes.PARAMETERS[name]))
axes.gradient_sums = axes.in_step
axes.spread = lambda name, vector, rows: vector
print(json.dumps([plain, compiled()]))
"""


@pytest.fixture(scope="module", params=[(2, 2, 2), pytest.param((4, 1, 2), marks=pytest.mark.slow)])
def compiled_steps(request):
    """What is exchanged on a mesh, and what by the mutant."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, json.dumps(request.param)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    mesh = dict(zip(("data", "fsdp", "tensor"), request.param, strict=True))
    return [hlo.collectives(text, mesh) for text in json.loads(done.stdout)]


def tensors(found, in_loop, *kinds):
    """Shapes of two or more axes that are exchanged over data."""
    return [
        size
        for one in found
        if "data" in one.axes and one.instruction.in_loop == in_loop and one.kind in kinds
        for _, size in one.instruction.shapes
        if len(size) > 1
    ]


def test_data_parallel_devices_exchange_matrices_once_a_step(compiled_steps):
    """In the loops over microbatches, layers and chunks, data is summed as scalars alone.

    Before them four matrices of the blocks and the embedding are gathered, and after them reduced;
    a CPU's compiler reduces to all and slices. Of the biases only that of q, k and v has more than
    one axis for a layer.
    """
    found, _ = compiled_steps
    assert tensors(found, True, *hlo.COLLECTIVES) == []
    assert all(
        not size
        for one in found
        if one.instruction.in_loop and "data" in one.axes
        for _, size in one.instruction.shapes
    )
    large = [size for size in tensors(found, False, "all-gather") if math.prod(size) > 2_000]
    assert len(large) == 5
    reduced = tensors(found, False, "all-reduce", "reduce-scatter")
    large = [size for size in reduced if math.prod(size) > 2_000]
    assert len(large) == 5


def test_a_reduction_in_each_layer_would_be_seen(compiled_steps):
    _, mutant = compiled_steps
    assert tensors(mutant, True, "all-reduce", "reduce-scatter")
