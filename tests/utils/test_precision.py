"""Autocast on and off."""

from __future__ import annotations

import pytest
import torch

from proteus.utils.precision import cpu_has_bfloat16, has_bfloat16, no_autocast


def test_no_autocast_switches_a_surrounding_autocast_off() -> None:
    weight = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (weight @ weight).dtype == torch.bfloat16
        with no_autocast(weight.device):
            assert (weight @ weight).dtype == torch.float32
    with no_autocast("meta"):
        pass


def test_bfloat16_is_for_gpus_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says by default that GPUs that emulate it support it, too."""
    for supported in (True, False):
        answer = {False: supported, True: True}
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, said=answer: said[including_emulation]
        )
        assert has_bfloat16("cuda:0") is supported
        assert not has_bfloat16(torch.device("cpu"))


def test_bfloat16_of_a_cpu_is_amx_or_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, expected in (
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "arm64"}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert cpu_has_bfloat16() is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not cpu_has_bfloat16()
