"""The compiled program of the 1.3B step for a GPU that is not here: what it does and what not.

    python -m benchmarks.hlo_shape --target h100

Needs no GPU; requirements/plan.txt brings the compiler, in an environment of its own. The
step of one device is compiled, and for the reduction that of eight that share a batch. Prints the
matrix products, the largest temporaries and what moves without computing; then one JSON line for
each bar; the exit status is 0 if all hold.
"""

import argparse
import collections
import math
import os
import re
import sys

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax: no GPU is looked for

import jax

from benchmarks import bars
from welm_jax import ahead_of_time, gin_files, hlo
from welm_jax.configurables import TRAINING
from welm_jax.train import accelerators
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.state import initial_parameters
from welm_jax.train.step import StepConfig

MICROBATCH, MICROBATCHES, SEQUENCE_TOKENS = 8, 4, 2048
# What makes no array of its own: it names, carries or fills one that something else made.
NAMING = ("parameter", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call")
FILLING = ("broadcast", "dynamic-update-slice", "fusion-start", "fusion-done")
SHOWN = 12


def compiled_text(target: str, devices: int) -> tuple[str, dict, jax.sharding.Mesh]:
    """The program, the configuration, and the mesh that it was compiled for."""
    classes = {name: TRAINING[name] for name in ("ModelConfig", "LossScaleConfig")}
    config = dict(gin_files.load(["models/welm_1b3.gin"], [], classes).objects)
    config["OptimizerConfig"] = ahead_of_time.ANY_OPTIMIZER
    config["StepConfig"] = StepConfig(
        batch_size=MICROBATCH * MICROBATCHES * devices,
        microbatches=MICROBATCHES,
        loss_chunks=8,
        remat="dots",
    )
    targets = ahead_of_time.devices_of(accelerators.named(target), devices)
    mesh = make_mesh(MeshConfig(), targets)
    lowered = ahead_of_time.lowered_step(config, mesh, SEQUENCE_TOKENS)
    return lowered.compile().as_text(), config, mesh


def sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions in no order, for a transposition changes it, and without those of 1."""
    return tuple(sorted(size for size in shape if size > 1))


def weight_sizes(config: dict, mesh: jax.sharding.Mesh) -> set[tuple[int, ...]]:
    """The dimensions of each matrix, for all layers and for one, heads apart and as one axis."""
    with jax.set_mesh(mesh):
        tree = jax.eval_shape(lambda: initial_parameters(config["ModelConfig"], 0))
    width, found = config["ModelConfig"].d_model, set()
    for leaf in jax.tree.leaves(tree):
        if leaf.size >= width**2:
            for shape in (leaf.shape, leaf.shape[1:]):
                found |= {sizes(shape), sizes((math.prod(shape) // width, width))}
    return {shape for shape in found if math.prod(shape) >= width**2}


def operand_types(one: hlo.Instruction, types: dict[str, str]) -> list[str]:
    """Types of an operation's operands, written with them or looked up by name."""
    operands = one.details.partition(")")[0]
    return [types.get(name, "") for name in re.findall(r"%([\w.-]+)", operands)]


def main(target: str) -> int:
    """Compiles, prints, judges."""
    text, config, mesh = compiled_text(target, 1)
    model, found = config["ModelConfig"], hlo.instructions(text)
    types = {one.name: one.shapes[0][0] for one in found if one.shapes}
    layers = model.num_layers * MICROBATCHES

    attention = collections.Counter()
    for one in found:
        if match := re.search(r'custom_call_target="__cudnn\$fmha\w*?(Backward)?"', one.details):
            attention["backward" if match[1] else "forward"] += one.times
    products = [one for one in found if one.operation in ("dot", "custom-call")]
    products = [one for one in products if "dot_product_attention" not in one.name]
    wide = [one for one in products if "f32" in operand_types(one, types)]
    print(f"{target}, 1.3B, {MICROBATCHES} microbatches of {MICROBATCH} x {SEQUENCE_TOKENS}")
    print("\nmatrix products (type and shape of the result, times a step):")
    for one in products:
        print(f"  {one.shapes[0][0]}{list(one.shapes[0][1])} x {one.times}")

    large = weight_sizes(config, mesh)
    moved = [
        one
        for one in found
        if one.operation in ("copy", "copy-start", "transpose")
        and (sizes(one.shapes[0][1]) in large or model.padded_vocab_size in one.shapes[0][1])
    ]
    print("\nweights or logits that are copied or transposed:", len(moved))
    for one in moved:
        print(f"  {one.operation} {one.shapes} x {one.times}")
    print("\nlargest results that lie in memory, the new state among them, fills not:")
    results = [
        one
        for one in found
        if not (one.is_fused or one.operation in (*NAMING, *FILLING) or "broadcast" in one.name)
    ]
    for one in sorted(results, key=lambda one: -one.result_bytes)[:SHOWN]:
        size = f"{one.result_bytes / 2**20:8.0f} MiB"
        print(f"  {size} {one.operation} {one.shapes[0][0]}{list(one.shapes[0][1])} x {one.times}")

    text, config, mesh = compiled_text(target, 8)
    shared = [one for one in hlo.collectives(text, mesh.shape) if "data" in one.axes]
    print("\nwith eight devices along data:", *map(str, shared), sep="\n  ")
    in_loops = [
        one
        for one in shared
        if one.instruction.in_loop and any(len(size) > 1 for _, size in one.instruction.shapes)
    ]
    width = config["ModelConfig"].d_model
    once = [
        one
        for one in shared
        if not one.instruction.in_loop
        and one.kind in ("reduce-scatter", "all-reduce")
        and one.bytes >= width**2
    ]
    return bars.ended(
        [
            ("attention_forward_calls_per_layer", attention["forward"] / layers, "== 1"),
            ("attention_backward_calls_per_layer", attention["backward"] / layers, "== 1"),
            ("matrix_products", len(products), ">= 15"),  # 4 forward, 3 x 4 backward, the head's
            ("float32_matrix_products", len(wide), "== 0"),
            ("weights_or_logits_copied_or_transposed", len(moved), "== 0"),
            ("data_reductions_of_matrices_once_a_step", len(once), "== 5"),
            ("data_reductions_of_tensors_in_loops", len(in_loops), "== 0"),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="h100", choices=("a100-80gb", "h100", "h200", "b200"))
    sys.exit(main(parser.parse_args().target))
