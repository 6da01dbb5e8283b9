"""From samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.datasets.transforms.randaugment_draw import group_operations
from proteus.registry import FUNCTIONS


@FUNCTIONS.register_module()
def distill_collate(samples: Sequence[dict[str, Any]], probability: float = 0.5) -> dict[str, Any]:
    """Stack images, and the masks of the first ``int(B * probability)`` of them.

    The released code masks the first half of each rank's batch (protocols A.7, ``--mask_first_n``). Masks of the
    other half are left out here, so that the student never encodes an image whose masked view counts for nothing.

    Args:
        samples: Packed samples; their ``mask`` ``(N,)`` is optional, and so are ``augment``, ``erase``, ``teacher_cls``
            ``(D,)`` and ``teacher_patches`` ``(N, D)``.
        probability: Share of the batch that gets a masked view.

    Returns:
        ``images`` ``(B, 3, H, W)``, ``metas``, where images have labels ``labels`` ``(B,)`` int64, and where samples
        have masks ``masks`` ``(M, N)`` bool and
        ``mask_indices`` ``(K,)`` int64, which saves the step from counting masked patches on the device. Where every
        sample has the teacher's outputs, ``teacher_cls`` ``(B, D)`` and ``teacher_patches`` ``(B, N, D)``. Where any
        is left for the device to do, ``augment``
        (:func:`~proteus.datasets.transforms.randaugment_draw.group_operations`) and ``erase``, for each rectangle
        its image's position and the :class:`~proteus.datasets.transforms.erasing.Erase`.

    Raises:
        ValueError: The batch is too small for one masked image.
    """
    batch: dict[str, Any] = {
        "images": stack_images([sample["image"] for sample in samples]),
        "metas": [sample["meta"] for sample in samples],
    }
    if "label" in samples[0]["meta"]:
        batch["labels"] = torch.as_tensor(np.stack([sample["meta"]["label"] for sample in samples]))
    for key in ("teacher_cls", "teacher_patches"):
        if all(key in sample for sample in samples):
            batch[key] = torch.stack([torch.as_tensor(sample[key]) for sample in samples])
    augment = group_operations([sample.get("augment", ()) for sample in samples])
    if augment:
        batch["augment"] = augment
    erase = [(position, *sample["erase"]) for position, sample in enumerate(samples) if "erase" in sample]
    if erase:
        batch["erase"] = erase
    if "mask" in samples[0]:
        masked = int(len(samples) * probability)
        if masked == 0:
            raise ValueError(
                f"a batch of {len(samples)} has no masked image at collate_fn.probability={probability}: set "
                f"train_dataloader.batch_size to at least {smallest_batch(probability)}, or remove the mask transform"
            )
        batch["masks"] = torch.stack([sample["mask"] for sample in samples[:masked]])
        batch["mask_indices"] = batch["masks"].flatten().nonzero().squeeze(1)
    return batch


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images ``(3, H, W)``; where some are bytes and others floats in [0, 1], all as floats."""
    if len({image.dtype for image in images}) > 1:
        images = [functional.to_dtype(image, torch.float32, scale=True) for image in images]
    return torch.stack(list(images))


def smallest_batch(probability: float) -> int:
    """The smallest batch in which at least one image is masked."""
    batch = 1
    while int(batch * probability) == 0:
        batch += 1
    return batch
