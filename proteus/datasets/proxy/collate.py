"""Collate samples into a batch, and check the samples of a user's own data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.registry import FUNCTIONS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_number
from proteus.utils.masked_batches import more_masks

_WANTED = (
    "return dict(inputs=..., data_samples=dict(img_path=...)) with inputs (3, H, W), RGB, uint8 or float32 in [0, 1], "
    "as dict(type='proteus.PackInputs') does; mask (N,) bool and label are optional"
)


@FUNCTIONS.register_module()
def distill_collate(samples: Sequence[Any], probability: float = 0.5) -> dict[str, Any]:
    """Stack images, and the masks of the first ``int(B * probability)`` of them.

    The released code masks the first half of each rank's batch (docs/reproduction.md#masking). The other masks are
    dropped here, so that the student never encodes a masked image that reaches no loss.

    Args:
        samples: Samples in any form of :func:`as_sample`, optionally with ``mask`` ``(N,)``, ``erase``,
            ``teacher_cls`` ``(D,)`` and ``teacher_patches`` ``(N, D)``.
        probability: Fraction of the batch that is also seen with patches masked.

    Returns:
        A batch with OpenMMLab's keys:

        - ``inputs`` ``(B, 3, H, W)``, and ``data_samples``, one ``BaseDataElement`` per image;
        - ``labels`` ``(B,)`` int64, if the samples are labelled;
        - ``masks`` ``(M, N)`` bool and ``mask_indices`` ``(K,)`` int64, if they have masks. The indices are those of
          ``masks.flatten()``; counted here, they spare the training step a wait for the device;
        - ``teacher_cls`` ``(B, D)`` and ``teacher_patches`` ``(B, N, D)``, if all have the teacher's cached tokens; of
          several teachers, by name;
        - ``erase``, if any box is to be erased: the position of its image in the batch, followed by the fields of
          :class:`~proteus.datasets.transforms.erasing.ErasedBox`.

    Raises:
        DataError: The batch is too small for one masked image, a sample has no image, or the samples differ in size
            or keys.
    """
    check_number("collate_fn.probability", probability, 0, 1)
    samples = [as_sample(sample) for sample in samples]
    data_samples = [sample["data_samples"] for sample in samples]
    batch: dict[str, Any] = {
        "inputs": stack_images([sample["inputs"] for sample in samples]),
        "data_samples": data_samples,
    }
    if _all_or_none(["label" in data_sample for data_sample in data_samples], "a label"):
        batch["labels"] = torch.as_tensor(np.stack([data_sample.label for data_sample in data_samples]))
    for key in ("teacher_cls", "teacher_patches"):
        if all(key in sample for sample in samples):
            batch[key] = _stack_tokens([sample[key] for sample in samples])
    boxes = [(position, *sample["erase"]) for position, sample in enumerate(samples) if "erase" in sample]
    if boxes:
        batch["erase"] = boxes
    if _all_or_none(["mask" in sample for sample in samples], "a mask"):
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
    """Convert a sample of any supported form to that of :class:`~proteus.datasets.PackInputs`.

    Args:
        sample: A dict with ``inputs``, the image, and optionally ``data_samples`` (a dict or a ``BaseDataElement`` with
            what is known of the image), ``label`` and ``mask``; a tensor image; or a tensor image and its label, as
            torchvision's data sets return.

    Returns:
        A dict with ``inputs`` ``(3, H, W)``, ``data_samples`` (a ``BaseDataElement``, with ``label`` in its metainfo if
        known), ``mask`` ``(N,)`` bool if there is one, and all other entries of the sample.

    Raises:
        DataError: The sample has no image, or an image of another form; the message lists the keys that are needed.
    """
    if isinstance(sample, Tensor):
        sample = {"inputs": sample}
    elif isinstance(sample, (tuple, list)) and len(sample) == 2 and isinstance(sample[0], Tensor):
        label = sample[1].item() if isinstance(sample[1], Tensor) and sample[1].ndim == 0 else sample[1]
        sample = {"inputs": sample[0], "data_samples": {"label": label} if isinstance(label, (int, np.integer)) else {}}
    if not isinstance(sample, Mapping):
        raise DataError(f"a sample of the data set is {_described(sample)}: {_WANTED}")
    if "inputs" not in sample:
        raise DataError(f"a sample of the data set has no 'inputs' but {', '.join(map(str, sample))}: {_WANTED}")
    _check_image(sample["inputs"])
    data_sample = _data_sample(sample.get("data_samples", {}))
    if "label" in sample and "label" not in data_sample:
        data_sample.set_metainfo({"label": sample["label"]})
    result = {**sample, "data_samples": data_sample}
    if "mask" in sample:
        result["mask"] = _mask(sample["mask"])
    return result


def check_sample(sample: Any) -> None:
    """Check a sample of a user's data set more closely than each batch is checked.

    Raises:
        DataError: As for :func:`as_sample`, or the image is normalised, scaled to 255, or not finite.
    """
    image = as_sample(sample)["inputs"]
    if not image.is_floating_point():
        return
    low, high = image.min().item(), image.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise DataError(
            f"a sample's 'inputs' is float32 from {low:.3g} to {high:.3g}: give pixels in [0, 1], or bytes, without "
            "Normalize; model.data_preprocessor normalises them"
        )


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images ``(3, H, W)``; if some are bytes and others floats in [0, 1], all as floats."""
    if len({image.dtype for image in images}) > 1:
        images = [functional.to_dtype(image, torch.float32, scale=True) for image in images]
    return _stack(images, "images", "end the pipeline's resizing with a crop")


def _stack(tensors: Sequence[Tensor], what: str, remedy: str) -> Tensor:
    other = next((tensor.shape for tensor in tensors if tensor.shape != tensors[0].shape), None)
    if other is not None:
        raise DataError(f"{what} of one batch differ in size, {tuple(tensors[0].shape)} and {tuple(other)}: {remedy}")
    return torch.stack(list(tensors))


def _stack_tokens(tokens: Sequence[Any]) -> Any:
    if isinstance(tokens[0], Mapping):
        return {name: torch.stack([each[name] for each in tokens]) for name in tokens[0]}
    return torch.stack([torch.as_tensor(each) for each in tokens])


def _all_or_none(has: Sequence[bool], what: str) -> bool:
    if any(has) and not all(has):
        raise DataError(f"{sum(has)} of {len(has)} samples of a batch have {what}: give it to all of them, or to none")
    return all(has)


def _check_image(image: Any) -> None:
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise DataError(f"a sample's 'inputs' is {_described(image)}: {_WANTED}")
    if image.dtype not in (torch.uint8, torch.float32):
        raise DataError(f"a sample's 'inputs' is of {image.dtype}: {_WANTED}")
    if image.layout != torch.strided or image.is_meta:
        kind = "has no values (device='meta')" if image.is_meta else f"has the layout {image.layout}"
        raise DataError(f"a sample's 'inputs' {kind}: {_WANTED}")


def _data_sample(value: Any) -> BaseDataElement:
    if type(value) is BaseDataElement:
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return BaseDataElement(metainfo=dict(value))
    # Most likely a sample of mmpretrain: images in BGR would only show in bad results.
    raise DataError(f"a sample's 'data_samples' is {_described(value)} (mmpretrain's PackInputs leaves BGR): {_WANTED}")


def _mask(mask: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(mask).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"a sample's 'mask' is {_described(mask)}: write one bool for each patch") from None
    if tensor.dtype != torch.bool:
        if tensor.is_floating_point() or not bool(((tensor == 0) | (tensor == 1)).all()):
            raise DataError(f"a sample's 'mask' is {_described(mask)}: write one bool for each patch, True if masked")
        tensor = tensor.bool()
    return tensor


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    name = type(value).__name__
    return f"a {name} of {len(value)}" if isinstance(value, (tuple, list)) else f"of type {name}"
