"""The devices that models train on, as their data sheets have them: one row each.

Peaks and bandwidths are the vendors' figures, not measured here. Links and networks are per device
and direction; a network's is what such nodes are usually built with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from welm_jax.failures import InputError

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One kind of device.

    Attributes:
      kind: jax's `device_kind`.
      peak_flops: dense bfloat16 products, FLOP/s.
      memory_bytes: its own memory.
      memory_bandwidth: bytes/s.
      link_bandwidth: bytes/s to the devices of the same node or slice.
      network_bandwidth: bytes/s to those of others.
      devices_per_host: in the usual node.
      most_devices: in the largest slice of TPUs.
      topology: XLA's name of a TPU generation; none for GPUs.
      description: what XLA has to know of a GPU to compile for it.
    """

    kind: str
    peak_flops: float
    memory_bytes: int
    memory_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    devices_per_host: int
    most_devices: int = 2**20
    topology: str | None = None
    description: Mapping[str, int | float | str] | None = None


def _gpu(
    kind,
    peak,
    memory_bytes,
    bandwidth,
    link,
    network,
    *,
    capability,
    cores,
    clock_ghz,
    l2_bytes,
    shared_bytes,
    fpus=128,
):
    accelerated = capability >= 9
    return Accelerator(
        kind=kind,
        peak_flops=peak * TERA,
        memory_bytes=memory_bytes,
        memory_bandwidth=bandwidth * GIGA,
        link_bandwidth=link * GIGA,
        network_bandwidth=network * GIGA,
        devices_per_host=8,
        description={
            "name": kind,
            "core_count": cores,
            "fpus_per_core": fpus,
            "clock_rate_ghz": clock_ghz,
            "memory_bandwidth": int(bandwidth * GIGA),
            "device_memory_size": memory_bytes,
            "l2_cache_size": l2_bytes,
            "shared_memory_per_core": shared_bytes,
            "shared_memory_per_block_optin": shared_bytes - 1024,
            "capability": capability,
            "feature_extension": "ACCELERATED_FEATURES" if accelerated else "NONE",
            "platform_version": f"Compute Capability {capability}.0{'a' if accelerated else ''}",
            "pcie_bandwidth": 2 ** (36 if capability > 9 else 35),
            "active_links": 18 if accelerated else 0,
        },
    )


def _tpu(kind, topology, peak, gibibytes, bandwidth, link, network, most_devices):
    return Accelerator(
        kind=kind,
        peak_flops=peak * TERA,
        memory_bytes=gibibytes * 2**30,
        memory_bandwidth=bandwidth * GIGA,
        link_bandwidth=link * GIGA,
        network_bandwidth=network * GIGA,
        devices_per_host=4,
        most_devices=most_devices,
        topology=topology,
    )


_A100 = {
    "capability": 8,
    "cores": 108,
    "clock_ghz": 1.41,
    "l2_bytes": 41_943_040,
    "shared_bytes": 167_936,
    "fpus": 64,
}
_HOPPER = {
    "capability": 9,
    "cores": 132,
    "clock_ghz": 1.98,
    "l2_bytes": 52_428_800,
    "shared_bytes": 233_472,
}
_H20 = {"cores": 78, "l2_bytes": 62_914_560}
_BLACKWELL = {
    "capability": 10,
    "cores": 148,
    "clock_ghz": 1.965,
    "l2_bytes": 132_644_864,
    "shared_bytes": 233_472,
}

ACCELERATORS = {
    "a100-40gb": _gpu("NVIDIA A100-SXM4-40GB", 312, 42_331_013_120, 1555.2, 300, 25, **_A100),
    "a100-80gb": _gpu("NVIDIA A100-SXM4-80GB", 312, 85_100_068_864, 2039.04, 300, 25, **_A100),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 989.4, 84_942_979_072, 3352.32, 450, 50, **_HOPPER),
    "h200": _gpu("NVIDIA H200", 989.4, 151_397_597_184, 4800, 450, 50, **_HOPPER),
    "b200": _gpu("NVIDIA B200", 2250, 191_514_411_008, 7672.32, 900, 50, **_BLACKWELL),
    # For China: A800 and H800 with slower links, H20 with fewer cores.
    "a800-80gb": _gpu("NVIDIA A800-SXM4-80GB", 312, 85_100_068_864, 2039.04, 200, 25, **_A100),
    "h800": _gpu("NVIDIA H800", 989.4, 84_942_979_072, 3352.32, 200, 50, **_HOPPER),
    "h20": _gpu("NVIDIA H20", 148, 102_625_181_696, 4000, 450, 50, **{**_HOPPER, **_H20}),
    "tpu-v4": _tpu("TPU v4", "v4", 275, 32, 1228, 150, 6, 4096),
    "tpu-v5e": _tpu("TPU v5 lite", "v5e", 197, 16, 819, 100, 6, 256),
    "tpu-v5p": _tpu("TPU v5", "v5p", 459, 95, 2765, 300, 6, 4096),
    "tpu-v6e": _tpu("TPU v6 lite", "v6e", 918, 32, 1640, 224, 12, 256),
}


def named(name: str) -> Accelerator:
    """The row of a name.

    Raises:
      InputError: there is none; lists those that there are.
    """
    if name not in ACCELERATORS:
        raise InputError(f"{name} is no device known here; take one of {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]


def of_kind(device_kind: str) -> Accelerator | None:
    """The row of a device by what jax calls it, or None: near relatives have other peaks."""
    return next((one for one in ACCELERATORS.values() if one.kind == device_kind), None)


def utilization(
    tokens_per_second: float, flops_per_token: int, device_kind: str, devices: int
) -> float | None:
    """Model FLOPs utilisation: the share of all devices' peak, or None where we do not know it.

    Args:
      tokens_per_second: of all devices together.
      flops_per_token: by ModelConfig.flops_per_token, the only count we use.
      device_kind: jax's name of the device.
      devices: how many there are.
    """
    row = of_kind(device_kind)
    return row and tokens_per_second * flops_per_token / (row.peak_flops * devices)
