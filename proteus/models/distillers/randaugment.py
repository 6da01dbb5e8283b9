"""RandAugment's operations on batches of bytes, each image with its own strength: PIL's arithmetic as tensors.

Where torchvision has an operation for batches it is taken. Its others take one strength for all images, and it has no
bicubic affine transform of tensors; PIL's cubic (a = -1) is not that of ``grid_sample`` (a = -0.75) either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

Group = tuple[str, Tensor, Tensor]


def apply_augment(images: Tensor, groups: Sequence[Group]) -> Tensor:
    """Apply operations to some of the images each.

    Nothing waits for the device: what is done depends on the groups' names and shapes alone.

    Args:
        images: ``(B, 3, H, W)`` uint8; they stay as they are.
        groups: What :func:`~proteus.datasets.transforms.device_rand_augment.group_operations` gives, on the same device.

    Returns:
        The images after all operations, ``(B, 3, H, W)`` uint8.

    Raises:
        TypeError: The images are no bytes.
    """
    if images.dtype != torch.uint8:
        raise TypeError(
            f"DeviceRandAugment changes bytes; the images are {images.dtype}: write dict(type='ToTensor', "
            "dtype='uint8'), and no RandomErasing(on_device=False)"
        )
    images = images.clone()
    for name, positions, values in groups:
        changed = OPERATIONS[name](images.index_select(0, positions), values)
        images.index_copy_(0, positions, changed)
    return images


def _number(values: Tensor) -> Tensor:
    """The one value of each image, to be broadcast over its pixels."""
    return values[:, :1, None, None]


def _posterize(images: Tensor, values: Tensor) -> Tensor:
    return images & _number(values).to(torch.uint8)


def _solarize(images: Tensor, values: Tensor) -> Tensor:
    return torch.where(images < _number(values), images, 255 - images)


def _solarize_add(images: Tensor, values: Tensor) -> Tensor:
    brighter = (images + _number(values).to(torch.int16)).clamp(max=255).to(torch.uint8)
    return torch.where(images < 128, brighter, images)


def _blend(plain: Tensor, images: Tensor, values: Tensor) -> Tensor:
    """From ``plain`` towards the images and, with values above 1, beyond them."""
    start = plain.to(torch.float32)
    return (start + _number(values) * (images - start)).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma in PIL's fixed point, ``(n, 1, H, W)`` int32."""
    red, green, blue = images.to(torch.int32).split(1, dim=1)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def _color(images: Tensor, values: Tensor) -> Tensor:
    return _blend(_grey(images), images, values)


def _contrast(images: Tensor, values: Tensor) -> Tensor:
    pixels = images.shape[-2] * images.shape[-1]
    mean = (2 * _grey(images).sum(dim=(2, 3), keepdim=True) + pixels) // (2 * pixels)
    return _blend(mean, images, values)


def _brightness(images: Tensor, values: Tensor) -> Tensor:
    return _blend(torch.zeros_like(images), images, values)


def _sharpness(images: Tensor, values: Tensor) -> Tensor:
    wide = images.to(torch.int16)
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
    smooth = wide.clone()
    smooth[:, :, 1:-1, 1:-1] = (2 * total + 13) // 26
    return _blend(smooth, images, values)


def _linear_weights(part: Tensor) -> list[Tensor]:
    return [1 - part, part]


def _cubic_weights(part: Tensor) -> list[Tensor]:
    square, cube = part * part, part * part * part
    return [2 * square - cube - part, 1 - 2 * square + cube, part + square - cube, cube - square]


def _affine(weights: Callable[[Tensor], list[Tensor]]) -> Callable[[Tensor, Tensor], Tensor]:
    def move(images: Tensor, values: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        columns = torch.arange(width, device=images.device) + 0.5
        rows = torch.arange(height, device=images.device)[:, None] + 0.5
        a, b, c, d, e, f = values[:, :6, None, None].unbind(1)
        x, y = a * columns + b * rows + c, d * columns + e * rows + f  # (n, H, W)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        left, top = (x - 0.5).floor(), (y - 0.5).floor()
        by_x, by_y = weights(x - 0.5 - left), weights(y - 0.5 - top)
        before = len(by_x) // 2 - 1
        flat = images.flatten(2).to(torch.float32)
        total = torch.zeros_like(flat)
        for number, weight_y in enumerate(by_y):
            row = (top.long() + number - before).clamp(0, height - 1) * width
            for other, weight_x in enumerate(by_x):
                index = row + (left.long() + other - before).clamp(0, width - 1)
                taken = flat.gather(2, index.flatten(1)[:, None].expand_as(flat))
                total += taken * (weight_y * weight_x).flatten(1)[:, None]
        # PIL cuts off fractions; what is a whole number but for float32's rounding must not lose one.
        moved = (total.view(images.shape) + 2e-3).clamp(0, 255)
        return torch.where(inside[:, None], moved, values[:, 6:9, None, None]).to(torch.uint8)

    return move


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AutoContrast": lambda images, _: functional.autocontrast(images),
    "Equalize": lambda images, _: functional.equalize(images),
    "Invert": lambda images, _: functional.invert(images),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "affine_bilinear": _affine(_linear_weights),
    "affine_bicubic": _affine(_cubic_weights),
}
"""By name: images ``(n, 3, H, W)`` uint8 and their values ``(n, V)`` to the changed images."""
