"""Models inside their wrappers."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper


def unwrap_model(model: Any, tta: bool = False) -> Any:
    """Return the model inside wrappers such as ``DistributedDataParallel``.

    Args:
        model: A model, wrapped or not.
        tta: Also unwrap MMEngine's test-time augmentation.
    """
    while is_model_wrapper(model) or (tta and isinstance(model, BaseTTAModel)):
        model = model.module
    return model
