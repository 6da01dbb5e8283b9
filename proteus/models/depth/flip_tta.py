"""What ``proteus test --tta`` does with a depth estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseTTAModel
from torch import nn

from proteus.models.depth.estimator import DepthEstimator
from proteus.registry import MODELS


@MODELS.register_module()
class DepthFlipTTA(BaseTTAModel):
    """Average each prediction with the mirror image's, whether or not the model's ``test_cfg`` says so.

    The image is mirrored by the model itself, so that ``tta_pipeline`` is the test's.

    Args:
        module: The estimator, or its config; ``proteus test`` fills it in.

    Raises:
        TypeError: It is another model.
    """

    module: Any

    def __init__(self, module: dict[str, Any] | nn.Module) -> None:
        super().__init__(module if isinstance(module, nn.Module) else MODELS.build(dict(module)))
        if not isinstance(self.module, DepthEstimator):
            raise TypeError(f"tta_model.type='DepthFlipTTA' is for DepthEstimator, not {type(self.module).__name__}")
        self.module.test_cfg = {**self.module.test_cfg, "flip": True}

    def test_step(self, data: Any) -> list[dict[str, Any]]:
        """Predict one batch; see :meth:`DepthEstimator.predict`."""
        return self.module.test_step(data)

    def merge_preds(self, data_samples_list: Sequence[Any]) -> list[Any]:
        """Nothing is left to merge."""
        return list(data_samples_list)
