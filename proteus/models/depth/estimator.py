"""A backbone and a depth head, trained and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.backbones import DenseViT, build_backbone
from proteus.models.depth.inference import flipped, padded, slide
from proteus.registry import MODELS
from proteus.structures import DataError, Features
from proteus.utils.argument_checks import check_whole

MODES = ("whole", "whole_flip", "slide", "slide_flip")
_WHOLE = {"mode": "whole"}


@MODELS.register_module()
class DepthEstimator(BaseModel):
    """Depth in metres from one image.

    This is MMEngine's ``BaseModel`` and needs no mmseg. The ``DepthEstimator`` of mmseg has no DPT head and ignores
    windows, and its metric refuses a choice of metrics.

    Args:
        backbone: Config of a ``DenseViT``: its ``out_indices`` are the blocks that the head reads, each with its cls
            token, without the final norm unless its ``final_norm`` is set.
        decode_head: Config of the head.
        freeze_backbone: Train the head alone. The backbone then stays in evaluation mode and without gradients, and
            is the same to the bit after training.
        test_cfg: How images are predicted. ``mode`` is ``whole``, ``slide``, or either with ``_flip`` behind it, which
            averages with the mirror image's; ``slide`` takes ``crop_size`` and ``stride`` in pixels, each a number or
            ``(down, across)``.
        data_preprocessor: Config of the data preprocessor.

    Raises:
        ValueError: Parts do not fit each other, or an argument makes no sense.
        CheckpointError: The backbone's weights cannot be read, or are another model's.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        decode_head: Mapping[str, Any],
        freeze_backbone: bool = False,
        test_cfg: Mapping[str, Any] = _WHOLE,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        # Built here: MMEngine would look the name up in its own registry where no default scope is set.
        super().__init__(data_preprocessor=MODELS.build(dict(data_preprocessor or {"type": "DepthDataPreprocessor"})))
        with prefix_checkpoint_errors("model.backbone.checkpoint"):
            self.backbone: Any = build_backbone(backbone)
        self.decode_head: Any = MODELS.build(dict(decode_head))
        self._check_parts()
        self.test_cfg = _checked(test_cfg, self.backbone.patch_size)
        if freeze_backbone:
            self.backbone.freeze()
        elif self.backbone.mask_token is not None:
            # No image is masked here, and a parameter without gradient would stop distributed training.
            self.backbone.mask_token.requires_grad_(False)

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        depths: Tensor | Sequence[Tensor] | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``, or a list of ``(3, H, W)``.
            depths: The ground truth in metres, ``(B, H, W)`` or a list of ``(H, W)``; 0 where it is not known.
            data_samples: For each image, its path and size as metainfo.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: a loss by name. ``predict``: see :meth:`predict`. ``tensor``: the depth ``(B, H, W)`` at the
            images' size, predicted as ``test_cfg`` says.

        Raises:
            DataError: The batch to train on has no ground truth, or images of several sizes.
        """
        if mode == "loss":
            return self.losses(inputs, depths)
        if mode == "predict":
            return self.predict(inputs, depths, data_samples or [BaseDataElement() for _ in inputs])
        return self.infer(_stacked(inputs, "images"))

    def features(self, images: Tensor) -> tuple[Features, ...]:
        """The tapped blocks' tokens, for images ``(B, 3, H, W)`` with sides that are multiples of the patch size."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone.frozen):
            return self.backbone.levels(images, self.backbone.out_indices, norm=self.backbone.final_norm)

    def losses(self, images: Tensor | Sequence[Tensor], depths: Tensor | Sequence[Tensor] | None) -> dict[str, Tensor]:
        """Return the head's losses.

        Raises:
            DataError: The batch has no depth, or its images differ in size or do not divide into patches.
        """
        if depths is None:
            raise DataError("the batch has no depth: use a data set that has it, such as type='NYUDepth'")
        batch, target = _stacked(images, "images"), _stacked(depths, "depths")
        patch = self.backbone.patch_size
        height, width = batch.shape[-2:]
        if height % patch or width % patch:
            raise DataError(
                f"training images are {height}x{width} px, which do not divide into patches of {patch} px: crop them "
                f"to {height // patch * patch}x{width // patch * patch}"
            )
        return self.decode_head.losses(self.features(batch), target)

    @torch.no_grad()
    def predict(
        self,
        images: Tensor | Sequence[Tensor],
        depths: Tensor | Sequence[Tensor] | None,
        data_samples: Sequence[BaseDataElement],
    ) -> list[dict[str, Any]]:
        """Predict image by image.

        Returns:
            For each image its metainfo with ``depth`` ``(H, W)``, in metres, and, where it is known, ``gt_depth``
            ``(H, W)``. The size is that of the ground truth, or else ``ori_shape`` of the metainfo, or the image's.
        """
        maps = self.infer(images) if isinstance(images, Tensor) else [self.infer(image[None])[0] for image in images]
        results = []
        for index, (depth, data_sample) in enumerate(zip(maps, data_samples, strict=True)):
            truth = None if depths is None else depths[index]
            size = data_sample.get("ori_shape", depth.shape) if truth is None else truth.shape
            result = {**data_sample.metainfo, "depth": _resized(depth, (int(size[0]), int(size[1])))}
            results.append(result if truth is None else {**result, "gt_depth": truth})
        return results

    def infer(self, images: Tensor) -> Tensor:
        """Predict the depth ``(B, H, W)`` of images ``(B, 3, H, W)`` of any size, as ``test_cfg`` says."""
        predict = padded(self._predict, self.backbone.patch_size)
        if self.test_cfg["flip"]:
            predict = flipped(predict)
        if self.test_cfg["window"] is None:
            return predict(images)
        return slide(predict, images, self.test_cfg["window"], self.test_cfg["stride"])

    def _predict(self, images: Tensor) -> Tensor:
        return self.decode_head.predict(self.features(images), (images.shape[-2], images.shape[-1]))

    def _check_parts(self) -> None:
        backbone, head = self.backbone, self.decode_head
        if not isinstance(backbone, DenseViT):
            raise ValueError(
                f"model.backbone.type: {type(backbone).__name__} does not give the cls tokens of several blocks, which "
                "a DPT head reads; write type='DenseViT' with out_indices=(3, 5, 7, 11)"
            )
        if backbone.center_padding is not None:
            raise ValueError(
                f"model.backbone.center_padding={backbone.center_padding}: DepthEstimator pads the images that it "
                "predicts for, and trains on none that need padding; remove center_padding"
            )
        if head.embed_dims != backbone.embed_dim:
            raise ValueError(
                f"model.decode_head.embed_dims={head.embed_dims}, but model.backbone has width {backbone.embed_dim}: "
                f"write {backbone.embed_dim}"
            )
        if len(backbone.out_indices) != head.levels:
            raise ValueError(
                f"model.backbone.out_indices={backbone.out_indices}: the head reads {head.levels} blocks; name as many"
            )


def _checked(test_cfg: Mapping[str, Any], patch: int) -> dict[str, Any]:
    unknown = set(test_cfg) - {"mode", "crop_size", "stride", "_scope_"}
    mode = test_cfg.get("mode", "whole")
    if unknown or mode not in MODES:
        raise ValueError(
            f"model.test_cfg={dict(test_cfg)}: write mode ({', '.join(MODES)}) and, to slide, crop_size and stride"
        )
    if mode.startswith("whole"):
        return {"flip": mode.endswith("_flip"), "window": None}
    if "crop_size" not in test_cfg or "stride" not in test_cfg:
        raise ValueError(f"model.test_cfg.mode={mode!r} needs crop_size and stride in pixels, such as 518 and 129")
    window, stride = (_pair(f"model.test_cfg.{key}", test_cfg[key]) for key in ("crop_size", "stride"))
    if any(side % patch for side in window):
        raise ValueError(f"model.test_cfg.crop_size={window} does not divide into patches of {patch} px")
    if any(not 0 < step <= side for step, side in zip(stride, window, strict=True)):
        raise ValueError(f"model.test_cfg.stride={stride}: from 1 to crop_size {window}, or pixels would be left out")
    return {"flip": mode.endswith("_flip"), "window": window, "stride": stride}


def _pair(name: str, value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, (list, tuple)) else (value, value)
    if len(sides) != 2:
        raise ValueError(f"{name}={value!r}: write pixels, or (down, across)")
    return check_whole(name, sides[0]), check_whole(name, sides[1])


def _stacked(batch: Tensor | Sequence[Tensor], name: str) -> Tensor:
    if isinstance(batch, Tensor):
        return batch
    sizes = sorted({tuple(item.shape[-2:]) for item in batch})
    if len(sizes) > 1:
        raise DataError(f"{name} of one batch have several sizes {sizes}: crop them to one, or set batch_size=1")
    return torch.stack(list(batch))


def _resized(depth: Tensor, size: tuple[int, int]) -> Tensor:
    if depth.shape == size:
        return depth
    return F.interpolate(depth[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
