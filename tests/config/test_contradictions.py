from typing import Any

import pytest
from mmengine.optim import CosineAnnealingLR
from torch.optim import AdamW
from torch.utils.data import DataLoader

from proteus.config import registry_lookup as k
from proteus.config.signatures import keys_of
from proteus.config.validate import check_values
from proteus.models import ViT


@pytest.mark.parametrize(
    ("target", "kind", "value"),
    [
        (AdamW, k.OPTIMIZER, {"type": "AdamW", "lr": 1e-3, "betas": (0.9, 0.95)}),
        (ViT, k.MODEL, {"patch_size": 14, "img_size": 224, "embed_dim": 384, "num_heads": 6}),
        (CosineAnnealingLR, k.SCHEDULER, {"begin": 5, "end": 10, "T_max": 5}),
        (DataLoader, None, {"batch_size": 2, "num_workers": 2, "persistent_workers": True}),
        (DataLoader, None, {"batch_size": 2, "num_workers": 0, "prefetch_factor": None}),
    ],
)
def test_valid_values_pass(target: Any, kind: k.Kind | None, value: dict[str, Any]) -> None:
    assert check_values(value, target.__name__, keys_of(target), kind) == []


@pytest.mark.parametrize(
    ("target", "kind", "value", "key", "words"),
    [
        (AdamW, k.OPTIMIZER, {"lr": -1}, "lr", "found -1, expected a positive number"),
        (AdamW, k.OPTIMIZER, {"lr": "1e-3"}, "lr", "found '1e-3', expected a positive number; write 1e-3 without"),
        (AdamW, k.OPTIMIZER, {"lr": float("nan")}, "lr", "found nan, expected a positive number"),
        (ViT, k.MODEL, {"patch_size": 14, "img_size": 225}, "img_size", "found 225, expected a multiple of"),
        (ViT, k.MODEL, {"embed_dim": 384, "num_heads": 5}, "num_heads", "found 5, expected a divisor of embed_dim=384"),
        (CosineAnnealingLR, k.SCHEDULER, {"begin": 5, "end": 5}, "end", "found 5 with begin=5, expected an integer"),
        (DataLoader, None, {"batch_size": 0}, "batch_size", "found 0, expected a positive integer"),
        (DataLoader, None, {"prefetch_factor": 2}, "prefetch_factor", "found 2 with num_workers=0, expected None, or"),
    ],
)
def test_wrong_values_are_named(target: Any, kind: k.Kind | None, value: dict[str, Any], key: str, words: str) -> None:
    ((found, text),) = check_values(value, target.__name__, keys_of(target), kind)
    assert found == key
    assert text.startswith(words)


def test_the_nearest_sizes_are_named() -> None:
    ((_, text),) = check_values({"img_size": 225, "patch_size": 14}, "ViT", keys_of(ViT), k.MODEL)
    assert text == "found 225, expected a multiple of patch_size=14, such as 224 or 238"


def test_depths_are_compared_with_defaults() -> None:
    class Head:
        def __init__(self, min_depth: float = 0.001, max_depth: float = 10.0) -> None: ...

    keys = keys_of(Head)
    assert check_values({"min_depth": 9.0}, "Head", keys, k.MODEL) == []
    ((key, text),) = check_values({"min_depth": 10.0}, "Head", keys, k.MODEL)
    assert (key, text) == ("max_depth", "found 10.0, expected more than min_depth=10.0")
