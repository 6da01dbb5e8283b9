"""torchvision's FCOS on a student, as a model of MMEngine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator

from projects.detection.pyramid import DetectorBackbone
from proteus.checkpoints import prefix_checkpoint_errors
from proteus.compat import fix_nms
from proteus.models.backbones import DenseTimm, DenseViT, build_backbone
from proteus.registry import MODELS
from proteus.structures import DataError

fix_nms()


@MODELS.register_module()
class FCOSDetector(BaseModel):
    """Boxes and classes of objects: FCOS (Tian et al. 2019, arXiv:1904.01355) of torchvision on a backbone of ours.

    FCOS resizes and normalises images itself, so that the model takes images as they are in the files.

    Args:
        backbone: Config of a ``DenseViT`` with four ``out_indices``, or of a ``DenseTimm``. ``frozen=True`` in it
            trains the pyramid and the head alone.
        num_classes: Number of categories of the data set.
        out_channels: Width of the pyramid and the head, a multiple of 32.
        min_size: Side in pixels that the shorter side of an image is resized to.
        max_size: Limit of the longer side in pixels.
        mean: Channel means for images in [0, 1], as the backbone was trained.
        std: Channel standard deviations, likewise.
        score_thresh: Boxes of lower scores are not predicted.
        detections_per_img: Largest number of boxes of an image.

    Raises:
        ValueError: The backbone gives no maps, or not as many as the pyramid takes.
        CheckpointError: The backbone's weights cannot be read, or are another model's.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        num_classes: int,
        out_channels: int = 256,
        min_size: int = 800,
        max_size: int = 1333,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        score_thresh: float = 0.05,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        with prefix_checkpoint_errors("model.backbone.checkpoint"):
            student: Any = build_backbone(backbone)
        if not isinstance(student, (DenseViT, DenseTimm)):
            raise ValueError(
                f"model.backbone.type: {type(student).__name__} gives no maps of several blocks or stages; write "
                "type='DenseViT' or type='DenseTimm'"
            )
        if getattr(student, "mask_token", None) is not None:
            # No image is masked here, and a parameter without gradient would stop distributed training.
            student.mask_token.requires_grad_(False)
        levels = DetectorBackbone(student, out_channels)
        self.fcos = FCOS(
            levels,
            num_classes=num_classes,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(mean),
            image_std=list(std),
            # FCOS has one anchor per cell, of the size of the cell.
            anchor_generator=AnchorGenerator(
                tuple((stride,) for stride in levels.strides), ((1.0,),) * len(levels.strides)
            ),
            score_thresh=score_thresh,
            detections_per_img=detections_per_img,
            size_divisible=levels.strides[-1],
        )

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def forward(
        self,
        inputs: Sequence[Tensor],
        boxes: Sequence[Tensor] | None = None,
        labels: Sequence[Tensor] | None = None,
        image_id: Sequence[int] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: Images ``(3, H, W)`` in [0, 255], of any sizes.
            boxes: Ground truth of each image ``(N, 4)``: left, top, right, bottom in pixels.
            labels: Position ``(N,)`` of each box's category in the list of categories.
            image_id: Number of each image in the file of annotations.
            mode: ``loss`` (in training mode), ``predict`` or ``tensor`` (in eval mode).

        Returns:
            ``loss``: a loss by name. ``tensor``: for each image ``boxes``, ``scores`` and ``labels``, best first.
            ``predict``: the same, with ``image_id``, ``gt_boxes`` and ``gt_labels``.

        Raises:
            DataError: The ground truth is missing, or has more than ``num_classes``
                categories.
        """
        images = [image.float() / 255 for image in inputs]
        if mode == "tensor":
            return self.fcos(images)
        if boxes is None or labels is None or image_id is None:
            raise DataError("the batch has no boxes: use a data set that has them, such as type='CocoBoxes'")
        if mode == "loss":
            largest = max((int(label.max()) for label in labels if len(label)), default=-1)
            if largest >= self.num_classes:
                raise DataError(
                    f"model.num_classes={self.num_classes}: the data set has more categories, at least {largest + 1}; "
                    "write their number"
                )
            targets = [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]
            return {f"loss_{name}": value for name, value in self.fcos(images, targets).items()}
        return [
            {**each, "gt_boxes": box, "gt_labels": label, "image_id": number}
            for each, box, label, number in zip(self.fcos(images), boxes, labels, image_id, strict=True)
        ]
