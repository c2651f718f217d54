import pytest

from welm_jax.train import accelerators


def test_utilisation_is_the_stated_formula_on_known_devices_and_unknown_on_others():
    # Half the peak of two devices: 989.4e12 FLOP/s at 8.617e9 FLOPs a token.
    speed, flops = 989.4e12 / 8.617e9, 8_617_000_000
    mfu = accelerators.utilization(speed, flops, "NVIDIA H100 80GB HBM3", 2)
    assert mfu == pytest.approx(0.5)
    assert accelerators.utilization(speed, flops, "NVIDIA H100 PCIe", 2) is None


@pytest.mark.parametrize(
    ("kind", "peak", "gigabytes", "link"),
    [
        ("NVIDIA A800-SXM4-80GB", 312, 85, 200),
        ("NVIDIA H800", 989.4, 85, 200),
        ("NVIDIA H20", 148, 103, 450),
        ("NVIDIA H200", 989.4, 151, 450),
    ],
)
def test_devices_by_what_jax_calls_them(kind, peak, gigabytes, link):
    row = accelerators.of_kind(kind)
    assert row.peak_flops == peak * 1e12 and row.link_bandwidth == link * 1e9
    assert round(row.memory_bytes / 1e9) == gigabytes
