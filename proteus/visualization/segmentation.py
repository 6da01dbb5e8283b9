"""Pictures of segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from proteus.utils.pictures import save_picture
from proteus.visualization.class_names import names_and_colours

_GAP, _ROW = 8, 18
_LEGEND = 24


def draw_segmentation(
    image: np.ndarray,
    prediction: np.ndarray,
    truth: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    alpha: float = 0.6,
) -> Image.Image:
    """Draw image, prediction and ground truth side by side, with the names of the largest 24 classes below.

    Pixels without a class (ignored in the ground truth) show the darkened image.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.
        prediction: ``(H, W)`` classes.
        truth: ``(H, W)`` classes; None omits the panel.
        classes: Names of the classes.
        palette: Colours of the classes, RGB from 0 to 255.
        alpha: Opacity of the colours over the image.
    """
    colours = np.asarray(palette, dtype=np.float32)
    panels = [("image", image), ("prediction", _overlay(image, prediction, colours, alpha))]
    maps = [prediction]
    if truth is not None:
        panels.append(("ground truth", _overlay(image, truth, colours, alpha)))
        maps.append(truth)
    height, width = image.shape[:2]
    shown = _by_area(np.stack(maps), len(classes))[:_LEGEND]
    across = (width + _GAP) * len(panels) - _GAP
    columns = max(1, across // 160)
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (across, _ROW + height + _GAP + rows * _ROW), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (title, pixels) in enumerate(panels):
        left = number * (width + _GAP)
        draw.text((left + 2, 2), title, fill="black", font=font)
        sheet.paste(Image.fromarray(pixels), (left, _ROW))
    for number, index in enumerate(shown):
        left, top = number % columns * 160, _ROW + height + _GAP + number // columns * _ROW
        colour = tuple(int(value) for value in palette[index])
        draw.rectangle((left, top + 2, left + 12, top + 14), fill=colour, outline="black")
        draw.text((left + 18, top + 1), classes[index][:20], fill="black", font=font)
    return sheet


def draw_examples(
    examples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], num_classes: int, path: Path, side: int = 480
) -> Path:
    """Draw predictions next to the ground truth, one image below the other, into a file.

    Args:
        examples: Image, prediction and truth of each, as for :func:`draw_segmentation`.
        num_classes: Number of classes; they are named by their numbers.
        path: File to write.
        side: Longer side of an image in pixels; larger ones are reduced.
    """
    names, palette = names_and_colours({}, num_classes)
    sheets = []
    for example in examples:
        image, prediction, truth = (_reduced(pixels, side) for pixels in example)
        sheets.append(draw_segmentation(image, prediction, truth, names, palette))
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return save_picture(whole, path)


def _reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    step = -(-max(pixels.shape[:2]) // side)
    return pixels[::step, ::step]


def _overlay(image: np.ndarray, labels: np.ndarray, colours: np.ndarray, alpha: float) -> np.ndarray:
    known = (labels >= 0) & (labels < len(colours))
    blended = image * 0.35
    blended[known] = image[known] * (1 - alpha) + colours[labels[known]] * alpha
    return blended.round().astype(np.uint8)


def _by_area(maps: np.ndarray, count: int) -> list[int]:
    areas = np.bincount(maps[(maps >= 0) & (maps < count)].ravel(), minlength=count)
    return [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
