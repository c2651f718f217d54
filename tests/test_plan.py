"""`welm plan`: what it says and refuses; with the extras installed, what it compiles."""

import importlib.util
import re
import subprocess
import sys

import pytest

from welm_jax import ahead_of_time, gin_files, launch, plan
from welm_jax.configurables import TRAINING
from welm_jax.failures import InputError
from welm_jax.model.config import ModelConfig
from welm_jax.train import accelerators

TEN = ModelConfig(num_layers=32, num_heads=40, d_model=5120)


def question(**changes):
    asked = {"model": TEN, "target": "a100-40gb", "devices": 128, "batch_size": 2048}
    return plan.Question(**{**asked, "sequence_tokens": 2048, "tokens": 3e11, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": "a100"}, "a100 is no device known here; take one of a100-40gb, a100-80gb, h1"),
        ({"devices": 0}, "--devices 0; it must be 1 or more"),
        ({"tokens": -5.0}, "--tokens -5; it must be 1 or more"),
        ({"sequence_tokens": 100}, "--sequence_tokens 100; make it a multiple of 16"),
        ({"tokens": float("nan")}, "--tokens nan; it must be 1 or more"),
        ({"devices": 12}, "12 devices are no whole number of hosts of 8; take 8 or 16"),
        (
            {"devices": 7},
            "batch of 2048 sequences does not divide over 7 devices .* a multiple of 7",
        ),
        (
            {"devices": 4},
            r"does not fit: at the least 49.\d GiB of the 34.7 GiB .* 14.\d GiB too much; nearest "
            r"that should: 8 x a100-40gb, data 1 x fsdp",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_would_do(changes, text):
    with pytest.raises(InputError, match=text):
        plan.plan(question(**changes), 1)


def test_a_step_that_compiles_larger_than_said_gives_way_to_one_that_has_room(monkeypatch, capsys):
    """The fastest compiles to 36 GiB; what would be too large by as much is not compiled at all."""
    compiled = []

    def compiled_to(console, asked, how):
        compiled.append(how)
        return 36 * 2**30 if len(compiled) == 1 else asked.bytes_of(how)

    monkeypatch.setattr(plan, "_compiled", compiled_to)
    plan.plan(question(), 1)
    asked, out = question(), capsys.readouterr().out
    first, *others = asked.ordered()
    error = 36 * 2**30 / asked.bytes_of(first)
    expected = next(how for how in others if asked.bytes_of(how) * error <= asked.room)
    assert compiled == [first, expected]
    lines = list(plan.gin_lines(asked, expected))
    assert out.endswith("\n".join(lines) + "\n")
    assert "BATCH_SIZE = 2048" in lines and f"MeshConfig.data = {expected.data}" in lines
    assert re.search(r"MFU \d\d\.\d% of 312 TFLOP/s .* billion tokens a day", out)


def test_its_gin_lines_make_a_run(tmp_path):
    asked = question()
    how = asked.ordered()[0]
    file = tmp_path / "run.gin"
    files = ["include 'runs/pretrain.gin'", "include 'models/welm_10b.gin'"]
    rest = [
        "TOKENS_DIR = 'tokens'",
        "TRAIN_STEPS = 10",
        "MAX_LEARNING_RATE = 1e-4",
        "WARMUP_STEPS = 1",
    ]
    file.write_text("\n".join([*files, *rest, *plan.gin_lines(asked, how)]))
    config = gin_files.load([str(file)], [], TRAINING)
    assert config["ModelConfig"] == asked.model and config["MeshConfig"].fsdp == how.fsdp
    step = config["StepConfig"]
    assert (step.batch_size, step.microbatches, step.remat) == (2048, how.microbatches, how.remat)


def test_where_no_compiled_candidate_fits_it_says_what_should(monkeypatch):
    monkeypatch.setattr(plan, "_compiled", lambda _, asked, how: 20 * asked.bytes_of(how))
    text = r"does not fit: at the least .* of the 34.7 GiB .* nearest that should: \d+ x a100-40gb"
    with pytest.raises(InputError, match=text):
        plan.plan(question(), 1)


def test_where_none_should_fit_but_nearly_the_smallest_is_compiled(monkeypatch, capsys):
    """Made too large by little: less of the device is called usable than the smallest way needs."""
    model = ModelConfig(num_layers=24, num_heads=16, d_model=2048, compute_dtype="float32")
    asked = question(model=model, devices=1, batch_size=64, sequence_tokens=4096)
    least = min(asked.ways(), key=asked.bytes_of)
    monkeypatch.setattr(plan, "USABLE", 0.97 * asked.bytes_of(least) / asked.device.memory_bytes)
    assert not asked.ordered()
    monkeypatch.setattr(plan, "_compiled", lambda _, asked, how: 0.20 * asked.bytes_of(how))
    plan.plan(asked, 1)
    assert f"MICROBATCHES = {least.microbatches}\n" in capsys.readouterr().out
    monkeypatch.setattr(plan, "_compiled", lambda _, asked, how: 1.1 * asked.bytes_of(how))
    with pytest.raises(InputError, match="does not fit: .* too much; nearest that should: 2 x"):
        plan.plan(asked, 1)


def test_what_would_do_comes_in_numbers_that_there_are():
    huge = ModelConfig(num_layers=96, num_heads=96, d_model=12288)
    with pytest.raises(InputError, match="too much; no power of two of them would do"):
        plan.plan(question(model=huge, target="tpu-v5e", devices=256), 1)


def test_a_run_file_is_no_models_file():
    line = ["--gin_file", "runs/welm_10b.gin", "--target", "h100", "--devices", "8"]
    with pytest.raises(InputError, match="plan takes a model's file alone, such as models/welm_1"):
        launch.dispatch(["plan", *line])


def test_as_many_candidates_are_compiled_as_asked(monkeypatch, capsys):
    compiled = []
    monkeypatch.setattr(plan, "_compiled", lambda *of: compiled.append(of) or 0)
    plan.plan(question(), 3)
    assert len(compiled) == 3 and "fits: use these gin lines" in capsys.readouterr().out


def test_a_missing_compiler_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for target, extra in (("h100", "plan-gpu"), ("tpu-v4", "plan-tpu")):
        with pytest.raises(InputError, match=rf"\({extra}\); pip install --no-deps --req"):
            ahead_of_time.devices_of(accelerators.named(target), 8)


def test_devices_come_in_nodes_and_slices(monkeypatch):
    monkeypatch.setattr(ahead_of_time, "_require", lambda *_: None)
    monkeypatch.setattr(ahead_of_time, "_has_libdevice", lambda: True)
    with pytest.raises(InputError, match="12 devices are no whole number of hosts of 8; take 8 or"):
        ahead_of_time.devices_of(accelerators.named("h100"), 12)
    with pytest.raises(InputError, match="a slice of TPU v5 lite has at most 256 devices, not 512"):
        ahead_of_time.devices_of(accelerators.named("tpu-v5e"), 512)
    with pytest.raises(InputError, match="slices here are of 1, 2, 4, ... devices, not 12; take 8"):
        ahead_of_time.devices_of(accelerators.named("tpu-v5p"), 12)


def test_without_libdevice_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(ahead_of_time, "_require", lambda *_: None)
    monkeypatch.setattr(ahead_of_time, "_has_libdevice", lambda: False)
    with pytest.raises(InputError, match="libdevice of CUDA is not here"):
        ahead_of_time.devices_of(accelerators.named("h100"), 8)


def test_a_description_holds_what_xla_asks_for():
    text = ahead_of_time._target_config(accelerators.named("h100").description)
    assert text.count("{") == text.count("}")
    for field in (
        "core_count: 132",
        "device_memory_size: 84942979072",
        "cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }",
        'platform_version: "Compute Capability 9.0a"',
        "device_interconnect_info { active_links: 18 }",
    ):
        assert field in text
    assert "interconnect" not in ahead_of_time._target_config(
        accelerators.named("a100-40gb").description
    )


def needs(module):
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"{module} is not installed (extra plan-*)"
    )


# Compiles a small step for a device, and tells which calls of kernels are in it.
KERNELS = """
import os, re, sys
os.environ["JAX_PLATFORMS"] = "cpu"
from welm_jax import ahead_of_time
from welm_jax.model.config import ModelConfig
from welm_jax.train import accelerators
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.step import StepConfig

for target in sys.argv[1:]:
    config = {
        "ModelConfig": ModelConfig(num_layers=2, num_heads=2, d_model=256, vocab_size=1000),
        "OptimizerConfig": ahead_of_time.ANY_OPTIMIZER,
        "LossScaleConfig": LossScaleConfig(),
        "StepConfig": StepConfig(batch_size=64, loss_chunks=2, masks_documents=True),
    }
    devices = ahead_of_time.devices_of(accelerators.named(target), 128)
    mesh = make_mesh(MeshConfig(data=8, fsdp=8, tensor=2), devices)
    text = ahead_of_time.lowered_step(config, mesh, 256).compile().as_text()
    found = set(re.findall(r'custom_call_target="(tpu_custom_call|__cudnn.fmha\\w*)', text))
    print(target, *sorted(found))
"""


def kernels(targets):
    """Target -> its kernel calls; documents are masked, all axes used."""
    line = [sys.executable, "-c", KERNELS, *targets]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {words[0]: set(words[1:]) for words in map(str.split, done.stdout.splitlines())}


@needs("jax_cuda12_plugin")
def test_a_gpu_compiles_to_cudnns_attention_and_all_are_known_to_the_compiler():
    """The two others that are compiled for, A100 and H100, are so elsewhere."""
    (found,) = kernels(["b200"]).values()
    assert any(name.endswith("Backward") for name in found) and len(found) == 2
    for row in accelerators.ACCELERATORS.values():
        if row.description:
            assert ahead_of_time.devices_of(row, 16)[0].device_kind == row.kind


@needs("libtpu")
def test_a_tpu_compiles_to_the_splash_kernel():
    targets = ["tpu-v5e", "tpu-v5p"]
    assert kernels(targets) == dict.fromkeys(targets, {"tpu_custom_call"})


@needs("jax_cuda12_plugin")
def test_ten_billion_parameters_fit_128_devices_of_40_gb():
    arguments = ["--gin_file", "models/welm_10b.gin", "--target", "a100-40gb", "--devices", "128"]
    line = [sys.executable, "-c", "from welm_jax.launch import main; main()", "plan", *arguments]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    live = float(re.search(r"([\d.]+) GiB a device of 34.69 usable", out)[1])
    said = float(re.search(r"the closed form said ([\d.]+)", out)[1])
    assert 20 < live < 34.69 and "fits: use these gin lines" in out
    assert said == pytest.approx(live, rel=0.1)
    assert not re.search(r"in loops .* over \S*data", out)
    assert re.search(r"once +reduce-scatter +over data", out)
