"""`welm plan`: what it says and refuses; with the extras installed, what it compiles."""

import importlib.util
import re
import subprocess
import sys
import time

import pytest

from welm_jax import ahead_of_time, plan
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
        (
            {"devices": 6},
            "2048 sequences and a model of 40 heads and width 5120 do not divide over",
        ),
        (
            {"devices": 4},
            r"does not fit: at the least 49.\d GiB of the 34.7 GiB .* 14.\d GiB too much; nearest "
            r"that does: 8 x a100-40gb, data 1 x fsdp",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_would_do(changes, text):
    with pytest.raises(InputError, match=text):
        plan.plan(question(**changes), 1)


def test_a_step_that_compiles_larger_than_said_gives_way_to_one_that_has_room(monkeypatch, capsys):
    """The fastest compiles to 36 GiB; what would be too large by as much is not compiled at all."""
    compiled = []

    def half_more_than_said(console, asked, how, room):
        compiled.append(how)
        return 36 * 2**30 if len(compiled) == 1 else plan._bytes(asked, how)

    monkeypatch.setattr(plan, "_compiled", half_more_than_said)
    plan.plan(question(), 1)
    asked, out = question(), capsys.readouterr().out
    room = plan.USABLE * asked.device.memory_bytes
    first, *others = plan._ordered(asked, room)
    error = 36 * 2**30 / plan._bytes(asked, first)
    expected = next(how for how in others if plan._bytes(asked, how) * error <= room)
    assert compiled == [first, expected]
    lines = list(plan.gin_lines(asked, expected))
    assert out.endswith("\n".join(lines) + "\n")
    assert "StepConfig.batch_size = 2048" in lines and f"MeshConfig.data = {expected.data}" in lines
    assert re.search(r"MFU \d\d\.\d% of 312 TFLOP/s .* billion tokens a day", out)


def test_where_no_compiled_candidate_fits_it_says_what_would(monkeypatch):
    monkeypatch.setattr(plan, "_compiled", lambda *_: 40 * 2**30)
    text = r"does not fit: at the least .* of the 34.7 GiB .* nearest that does: \d+ x a100-40gb"
    with pytest.raises(InputError, match=text):
        plan.plan(question(), 1)


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


def planned(*arguments):
    began = time.monotonic()
    line = [sys.executable, "-c", "from welm_jax.launch import main; main()", "plan", *arguments]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, time.monotonic() - began


@needs("jax_cuda12_plugin")
def test_ten_billion_parameters_fit_128_devices_of_40_gb():
    arguments = ["--gin_file", "models/welm_10b.gin", "--target", "a100-40gb", "--devices", "128"]
    out, _ = planned(*arguments)
    live = float(re.search(r"([\d.]+) GiB a device of 34.69 usable", out)[1])
    assert 20 < live < 34.69 and "fits: use these gin lines" in out
    assert not re.search("in loops .* over data ", out)
    assert re.search(r"once +reduce-scatter +over data", out)


@needs("jax_cuda12_plugin")
def test_every_gpu_has_a_description_that_compiles(tmp_path):
    model = tmp_path / "small.gin"
    model.write_text(
        "ModelConfig.num_layers = 2\nModelConfig.num_heads = 2\nModelConfig.d_model = 256\n"
        "ModelConfig.vocab_size = 1000\nModelConfig.compute_dtype = 'float32'\n"
    )
    for target, row in accelerators.ACCELERATORS.items():
        if row.description:
            arguments = ["--gin_file", str(model), "--target", target, "--devices", "2"]
            out, _ = planned(*arguments, "--batch_size", "4", "--sequence_tokens", "128")
            assert "fits: use these gin lines" in out, target


@needs("libtpu")
def test_every_tpu_compiles_the_splash_kernel(tmp_path):
    """Heads of 128, so that attention is splash's; with the reduction of two replicas."""
    model = tmp_path / "small.gin"
    model.write_text(
        "ModelConfig.num_layers = 2\nModelConfig.num_heads = 2\nModelConfig.d_model = 256\n"
        "ModelConfig.vocab_size = 1000\n"
    )
    for target, row in accelerators.ACCELERATORS.items():
        if row.topology:
            arguments = ["--gin_file", str(model), "--target", target, "--devices", "4"]
            out, _ = planned(*arguments, "--batch_size", "8", "--sequence_tokens", "256")
            assert "fits: use these gin lines" in out, target
