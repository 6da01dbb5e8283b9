"""What GPUs can do at most, from their makers' data sheets."""

from __future__ import annotations

import torch

# Dense TFLOP/s of the matrix units (two a multiply-add, without sparsity), accumulated in float32: float16 and, where
# the chip has it, bfloat16; TF32, where it has that; float32. The first name that occurs in the device's counts.
_PEAKS: tuple[tuple[str, float, bool, float | None, float], ...] = (
    ("H200 NVL", 835.5, True, 417.5, 60),
    ("H200", 989.5, True, 494.5, 67),
    ("H100 PCIe", 756, True, 378, 51),
    ("H100 NVL", 835.5, True, 417.5, 60),
    ("H100", 989.5, True, 494.5, 67),
    ("A100", 312, True, 156, 19.5),
    ("A30", 165, True, 82, 10.3),
    ("L40S", 362.05, True, 183, 91.6),
    ("L4", 121, True, 60, 30.3),
    ("RTX 4090", 165.2, True, 82.6, 82.6),
    ("RTX 3090", 71, True, 35.6, 35.6),
    ("RTX A6000", 154.8, True, 77.4, 38.7),
    ("V100-PCIE", 112, False, None, 14),
    ("V100", 125, False, None, 15.7),
    ("T4", 65, False, None, 8.1),
)
# A part of a GPU, or a slower one of the same name.
_OTHERS = {"MIG", "Laptop", "D", "Max-Q", "GRID"}


def peak_flops(device: str, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """FLOP/s that a GPU reaches at most in dense matrix products.

    Args:
        device: Its name, as ``torch.cuda.get_device_name`` gives it.
        dtype: In which products are computed.
        tf32: Whether float32 products may use TF32.

    Returns:
        Two a multiply-add; ``None`` where the GPU or what it does in ``dtype`` is not known.
    """
    words = set(device.replace("-", " ").split())
    if words & _OTHERS:
        return None
    for name, half, has_bfloat16, reduced, single in _PEAKS:
        if not set(name.replace("-", " ").split()) <= words:
            continue
        if dtype == torch.float16 or (dtype == torch.bfloat16 and has_bfloat16):
            return half * 1e12
        if dtype == torch.float32:
            return (reduced if tf32 and reduced is not None else single) * 1e12
        return None
    return None
