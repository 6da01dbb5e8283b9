import pytest
import torch

from proteus.engine.hooks.peak_flops import peak_flops

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("device", "dtype", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", BRAIN, 312),
        ("NVIDIA A100 80GB PCIe", FULL, 19.5),
        ("NVIDIA H100 80GB HBM3", BRAIN, 989.5),
        ("NVIDIA H100 PCIe", BRAIN, 756),
        ("NVIDIA H200", BRAIN, 989.5),
        ("NVIDIA L4", BRAIN, 121),
        ("NVIDIA L40S", BRAIN, 362.05),
        ("NVIDIA GeForce RTX 4090", BRAIN, 165.2),
        ("Tesla V100-SXM2-32GB", HALF, 125),
        ("Tesla V100-PCIE-16GB", HALF, 112),
        ("Tesla V100-PCIE-16GB", BRAIN, None),  # it has no bfloat16
        ("Tesla T4", HALF, 65),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", BRAIN, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", BRAIN, None),
        ("NVIDIA GeForce GTX 1080", FULL, None),
        ("NVIDIA A100-SXM4-80GB", torch.float64, None),
    ],
)
def test_peaks(device: str, dtype: torch.dtype, tera: float | None) -> None:
    assert peak_flops(device, dtype) == (None if tera is None else pytest.approx(tera * 1e12))


def test_tf32() -> None:
    assert peak_flops("NVIDIA A100-SXM4-40GB", FULL, tf32=True) == 156e12
    assert peak_flops("Tesla T4", FULL, tf32=True) == 8.1e12
