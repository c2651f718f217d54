"""The train step compiled for devices that are not here.

Needs the compiler of the target and nothing else of it: the extra plan-gpu or plan-tpu. Set
JAX_PLATFORMS=cpu before jax is imported, or the plugins look for devices.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from welm_jax.failures import InputError
from welm_jax.model.decoder import Assembler
from welm_jax.train.accelerators import Accelerator
from welm_jax.train.optimizer import OptimizerConfig, make_adam
from welm_jax.train.state import TrainState, abstract_tree
from welm_jax.train.step import abstract_batch, make_train_step

# Without these libtpu looks for the TPU it runs on, and complains that there is none.
QUIET_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two plans at one time
}
# XLA of jax 0.12 aborts where it compiles this kernel, for Hopper and later, for a sum of scalars
# over 64 devices; over 32 it does not.
NO_ONE_SHOT = "--xla_gpu_unsupported_use_all_reduce_one_shot_kernel=false"
INSTALL = "pip install --no-deps --require-hashes -r requirements/plan.txt brings what is needed"
# No setting of the optimizer changes the program.
ANY_OPTIMIZER = OptimizerConfig(max_learning_rate=1e-4, warmup_steps=1, decay_steps=2)
# Of all NVIDIA devices that we describe.
_SAME_FOR_ALL = """
threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
threads_per_core_limit: 2048 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
block_dim_limit_z: 65535 registers_per_core_limit: 65536 registers_per_block_limit: 65536
thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
device_vendor: "NVIDIA Corporation" device_address_bits: 64 ecc_enabled: true
driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
dnn_version: "9.10.0" cub_version: "3.1.2"
"""


def devices_of(accelerator: Accelerator, count: int) -> Sequence[jax.Device]:
    """Devices to compile for, as many as asked, in nodes or a slice of their usual form.

    Raises:
      InputError: there is no compiler for them here, or they do not come in that number.
    """
    check_count(accelerator, count)
    if accelerator.topology:
        return _tpus(accelerator, count)
    _require("plan-gpu", "jax_cuda12_plugin", "jax_cuda13_plugin")
    if not _has_libdevice():  # without it the compiler ends in a segmentation fault
        raise InputError(f"libdevice of CUDA is not here; {INSTALL}")
    if NO_ONE_SHOT not in os.environ.get("XLA_FLAGS", ""):  # which XLA reads when it first compiles
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {NO_ONE_SHOT}"
    on_host = min(count, accelerator.devices_per_host)
    topology = f"1x{count // on_host}x{on_host}"
    return topologies.get_topology_desc(
        platform="cuda", target_config=_target_config(accelerator.description), topology=topology
    ).devices


def check_count(accelerator: Accelerator, count: int) -> None:
    """Refuses numbers in which devices do not come.

    Raises:
      InputError: says in which they do.
    """
    on_host = min(count, accelerator.devices_per_host)
    if not accelerator.topology and count % on_host:
        below = count // on_host * on_host
        raise InputError(
            f"{count} devices are no whole number of hosts of {on_host}; take {below} or "
            f"{below + on_host}"
        )
    if accelerator.topology and count > accelerator.most_devices:
        raise InputError(
            f"a slice of {accelerator.kind} has at most {accelerator.most_devices} devices, not "
            f"{count}; plan one slice, with its share of --batch_size"
        )
    if accelerator.topology and count & (count - 1):
        below = 2 ** (count.bit_length() - 1)
        raise InputError(
            f"TPU slices here are of 1, 2, 4, ... devices, not {count}; take {below} or {2 * below}"
        )


def _tpus(accelerator: Accelerator, count: int) -> Sequence[jax.Device]:
    _require("plan-tpu", "libtpu")
    for name, value in QUIET_TPU.items():
        os.environ.setdefault(name, value)
    dimensions = 2 if accelerator.topology in ("v5e", "v6e") else 3
    bits = count.bit_length() - 1
    sides = [2 ** ((bits + at) // dimensions) for at in range(dimensions)]
    sides.sort(key=lambda side: (side == 1, side))  # 2x2x1, but 2x2x4
    name = f"{accelerator.topology}:{'x'.join(map(str, sides))}"
    of_chip = {"chip_config_name": "megacore"} if accelerator.topology == "v4" else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **of_chip).devices


def _require(extra: str, *modules: str) -> None:
    """Refuses to go on without any of the modules."""
    if not any(map(importlib.util.find_spec, modules)):
        raise InputError(f"planning for this device needs {modules[0]} ({extra}); {INSTALL}")


def _has_libdevice() -> bool:
    roots = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))]
    if nvidia := importlib.util.find_spec("nvidia"):
        parts = ("cuda_nvcc", "cu13")
        roots += [Path(at) / part for at in nvidia.submodule_search_locations for part in parts]
    return any(list((root / "nvvm/libdevice").glob("libdevice*.bc")) for root in roots)


def _target_config(described: Mapping[str, Any]) -> str:
    """The text form of XLA's GpuTargetConfigProto."""
    fields = dict(described)
    capability, links = fields.pop("capability"), fields.pop("active_links")
    extension, name = fields.pop("feature_extension"), fields["name"]
    written = " ".join(
        f"{field}: " + (f'"{value}"' if isinstance(value, str) else str(value))
        for field, value in fields.items()
    )
    if links:
        written += f" device_interconnect_info {{ active_links: {links} }}"
    return (
        f"gpu_device_info {{ {_SAME_FOR_ALL} {written} cuda_compute_capability {{ "
        f"major: {capability} feature_extension: {extension} }} }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 patch: 0 } '
        f'device_description_str: "{name}"'
    )


def lowered_step(config: Mapping[str, Any], mesh: Mesh, sequence_tokens: int) -> jax.stages.Lowered:
    """The step that training runs, for a mesh of any devices; no array is made.

    Args:
      config: objects of the classes of a training configuration.
      mesh: where it would run.
      sequence_tokens: T.
    """
    step_config, model = config["StepConfig"], config["ModelConfig"]
    adam = make_adam(config["OptimizerConfig"])
    state = TrainState.from_tree(abstract_tree(model, adam, mesh))
    with jax.set_mesh(mesh):
        step = make_train_step(
            Assembler(model), config["OptimizerConfig"], step_config, config["LossScaleConfig"]
        )
        batch = abstract_batch(step_config.batch_size, sequence_tokens, mesh)
        return step.lower(state, batch, np.float32(1))


def live_bytes(compiled: jax.stages.Compiled) -> int | None:
    """What a device holds at its fullest: arguments, results that do not reuse them, the rest.

    Not in it: the runtime's own context, buffers of its communication, fragmentation. None where
    the compiler does not tell.
    """
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
