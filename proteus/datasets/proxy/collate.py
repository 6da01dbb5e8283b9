"""From samples to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.registry import FUNCTIONS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_number
from proteus.utils.masked_batches import more_masks

_WANTED = (
    "return dict(image=..., meta=dict(img_path=...)) with image (3, H, W), RGB, uint8 or float32 in [0, 1], as "
    "dict(type='proteus.PackInputs') does; mask (N,) bool and meta['label'] are optional"
)


@FUNCTIONS.register_module()
def distill_collate(samples: Sequence[Any], probability: float = 0.5) -> dict[str, Any]:
    """Stack images, and the masks of the first ``int(B * probability)`` of them.

    The released code masks the first half of each rank's batch (docs/reproduction.md#masking). Masks of the
    other half are left out here, so that the student never encodes an image whose masked view counts for nothing.

    Args:
        samples: Samples as :func:`as_sample` takes them; their ``mask`` ``(N,)`` is optional, and so are ``erase``,
            ``teacher_cls`` ``(D,)`` and ``teacher_patches`` ``(N, D)``.
        probability: Share of the batch that gets a masked view.

    Returns:
        ``images`` ``(B, 3, H, W)``, ``metas``, where images have labels ``labels`` ``(B,)`` int64, and where samples
        have masks ``masks`` ``(M, N)`` bool and
        ``mask_indices`` ``(K,)`` int64, which saves the step from counting masked patches on the device. Where every
        sample has the teacher's outputs, ``teacher_cls`` ``(B, D)`` and ``teacher_patches`` ``(B, N, D)``. Where
        any box is to be erased, ``erase``: for each box the position of its image in the batch and the
        :class:`~proteus.datasets.transforms.erasing.ErasedBox`.

    Raises:
        DataError: The batch is too small for one masked image, a sample has no image, or the samples differ in size or
            in what they hold.
    """
    check_number("collate_fn.probability", probability, 0, 1)
    samples = [as_sample(sample) for sample in samples]
    batch: dict[str, Any] = {
        "images": stack_images([sample["image"] for sample in samples]),
        "metas": [sample["meta"] for sample in samples],
    }
    if _all_or_none(["label" in sample["meta"] for sample in samples], "meta['label']"):
        batch["labels"] = torch.as_tensor(np.stack([sample["meta"]["label"] for sample in samples]))
    for key in ("teacher_cls", "teacher_patches"):
        if all(key in sample for sample in samples):
            batch[key] = torch.stack([torch.as_tensor(sample[key]) for sample in samples])
    erase = [(position, *sample["erase"]) for position, sample in enumerate(samples) if "erase" in sample]
    if erase:
        batch["erase"] = erase
    if _all_or_none(["mask" in sample for sample in samples], "mask"):
        masked = int(len(samples) * probability)
        if masked == 0:
            raise DataError(
                f"a batch of {len(samples)} has no masked image at collate_fn.probability={probability}: "
                f"{more_masks(probability, 'train_dataloader.batch_size')}, or remove the mask transform"
            )
        batch["masks"] = _stack([sample["mask"] for sample in samples[:masked]], "masks", "draw masks of one size")
        batch["mask_indices"] = batch["masks"].flatten().nonzero().squeeze(1)
    return batch


def as_sample(sample: Any) -> dict[str, Any]:
    """Convert a sample of a data set to the form of :class:`~proteus.datasets.PackInputs`.

    Args:
        sample: A dict with ``image``; a tensor image; or a tensor image and its label, as torchvision's data sets
            return with a transform that ends in a tensor.

    Returns:
        A dict with ``image`` ``(3, H, W)``, ``meta`` (a dict; with ``label`` if known), and all other entries of
        the sample; a ``mask`` is ``(N,)`` bool.

    Raises:
        DataError: The sample has no image, or an image of another form; the message lists the keys that are needed.
    """
    if isinstance(sample, Tensor):
        sample = {"image": sample}
    elif isinstance(sample, (tuple, list)) and len(sample) == 2 and isinstance(sample[0], Tensor):
        label = sample[1].item() if isinstance(sample[1], Tensor) and sample[1].ndim == 0 else sample[1]
        sample = {"image": sample[0], "meta": {"label": label} if isinstance(label, (int, np.integer)) else {}}
    if not isinstance(sample, Mapping):
        raise DataError(f"a sample of the data set is {_named(sample)}: {_WANTED}")
    if "image" not in sample:
        bgr = " (mmpretrain's PackInputs leaves BGR)" if "inputs" in sample else ""
        raise DataError(f"a sample of the data set has no 'image' but {', '.join(map(str, sample))}{bgr}: {_WANTED}")
    image, meta = sample["image"], sample.get("meta", {})
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise DataError(f"a sample's 'image' is {_named(image)}: {_WANTED}")
    if image.dtype not in (torch.uint8, torch.float32):
        raise DataError(f"a sample's 'image' is of {image.dtype}: {_WANTED}")
    if image.layout != torch.strided or image.is_meta:
        kind = "has no values (device='meta')" if image.is_meta else f"has the layout {image.layout}"
        raise DataError(f"a sample's 'image' {kind}: {_WANTED}")
    if not isinstance(meta, Mapping):
        raise DataError(f"a sample's 'meta' is {_named(meta)}: {_WANTED}")
    if "label" in sample and "label" not in meta:
        meta = {**meta, "label": sample["label"]}
    result = {**sample, "meta": meta}
    if "mask" in sample:
        result["mask"] = _mask(sample["mask"])
    return result


def check_sample(sample: Any) -> None:
    """Refuse the first sample of a user's data set if training on it would fail or be wrong.

    Raises:
        DataError: As for :func:`as_sample`, or the image is normalised, scaled to 255, or not finite.
    """
    image = as_sample(sample)["image"]
    if not image.is_floating_point():
        return
    low, high = image.min().item(), image.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise DataError(
            f"a sample's 'image' is float32 from {low:.3g} to {high:.3g}: give pixels in [0, 1], or bytes, without "
            "Normalize; model.data_preprocessor normalises them"
        )


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images ``(3, H, W)``; where some are bytes and others floats in [0, 1], all as floats."""
    if len({image.dtype for image in images}) > 1:
        images = [functional.to_dtype(image, torch.float32, scale=True) for image in images]
    return _stack(images, "images", "end the pipeline's resizing with a crop")


def _stack(tensors: Sequence[Tensor], what: str, remedy: str) -> Tensor:
    other = next((tensor.shape for tensor in tensors if tensor.shape != tensors[0].shape), None)
    if other is not None:
        raise DataError(f"{what} of one batch differ in size, {tuple(tensors[0].shape)} and {tuple(other)}: {remedy}")
    return torch.stack(list(tensors))


def _all_or_none(has: Sequence[bool], what: str) -> bool:
    if any(has) and not all(has):
        raise DataError(f"{sum(has)} of {len(has)} samples of a batch have {what}: give it to all of them, or to none")
    return all(has)


def _mask(mask: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(mask).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"a sample's 'mask' is {_named(mask)}: write one bool for each patch") from None
    if tensor.dtype != torch.bool:
        if tensor.is_floating_point() or not bool(((tensor == 0) | (tensor == 1)).all()):
            raise DataError(f"a sample's 'mask' is {_named(mask)}: write one bool for each patch, True where masked")
        tensor = tensor.bool()
    return tensor


def _named(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    name = type(value).__name__
    return f"a {name} of {len(value)}" if isinstance(value, (tuple, list)) else f"of type {name}"
