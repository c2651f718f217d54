"""Model FLOPs utilisation: what share of the devices' peak the model's arithmetic reaches."""

import jax

# Dense bfloat16 peak of one device in FLOP/s, by the start of its `device_kind`; data sheets.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989.4e12,
    "NVIDIA H200": 989.4e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """The device's dense bfloat16 peak in FLOP/s, or None where we do not know it."""
    for kind, peak in PEAK_FLOPS.items():
        if device.device_kind.startswith(kind):
            return peak
    return None


def utilization(
    tokens_per_second: float, flops_per_token: int, devices: list[jax.Device]
) -> float | None:
    """MFU as a fraction of all devices' peak, by ModelConfig.flops_per_token; None if unknown."""
    peak = peak_flops(devices[0])
    return None if peak is None else tokens_per_second * flops_per_token / (peak * len(devices))
