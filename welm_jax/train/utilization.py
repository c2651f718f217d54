"""Model FLOPs utilisation: what share of the devices' peak the model's arithmetic reaches."""

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


def peak_flops(device_kind: str) -> float | None:
    """A device's dense bfloat16 peak in FLOP/s, or None where we do not know it."""
    for kind, peak in PEAK_FLOPS.items():
        if device_kind.startswith(kind):
            return peak
    return None


def utilization(
    tokens_per_second: float, flops_per_token: int, device_kind: str, devices: int
) -> float | None:
    """MFU as a fraction of the peak of all devices, or None where that is not known.

    Args:
      tokens_per_second: of all devices together.
      flops_per_token: by ModelConfig.flops_per_token, the only count we use.
      device_kind: jax's name of the device.
      devices: how many there are.
    """
    peak = peak_flops(device_kind)
    return None if peak is None else tokens_per_second * flops_per_token / (peak * devices)
