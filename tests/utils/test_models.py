"""Models inside their wrappers."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from proteus.utils.models import unwrap_model


class Wrapper(nn.Module):
    """Registered below as a wrapper."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class Model(BaseModel):
    """Returns nothing."""

    def forward(self, inputs: Any) -> None:
        """Do nothing."""


class Augmented(BaseTTAModel):
    """Test-time augmentation that merges nothing."""

    def merge_preds(self, data_samples_list: Any) -> Any:
        """Return what it is given."""
        return data_samples_list


def test_wrappers_are_removed_and_test_time_augmentation_on_request() -> None:
    model = Model()
    MODEL_WRAPPERS.register_module(name="WrapperOfThisTest", module=Wrapper)
    try:
        assert unwrap_model(model) is model
        assert unwrap_model(Wrapper(model)) is model
        augmented = Augmented(module=model)
        assert unwrap_model(Wrapper(augmented)) is augmented
        assert unwrap_model(Wrapper(augmented), tta=True) is model
    finally:
        MODEL_WRAPPERS.module_dict.pop("WrapperOfThisTest")
