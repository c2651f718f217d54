import pytest

from welm_jax.train import accelerators


def test_utilisation_is_the_stated_formula_on_known_devices_and_unknown_on_others():
    # Half the peak of two devices: 989.4e12 FLOP/s at 8.617e9 FLOPs a token.
    speed, flops = 989.4e12 / 8.617e9, 8_617_000_000
    mfu = accelerators.utilization(speed, flops, "NVIDIA H100 80GB HBM3", 2)
    assert mfu == pytest.approx(0.5)
    assert accelerators.utilization(speed, flops, "NVIDIA H100 PCIe", 2) is None
