"""Image and predicted depth at full size, for frames of a video."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

_GAP, _BAR, _TICKS = 8, 16, 5


def draw_depth_panel(image: np.ndarray, depth: np.ndarray, top: float) -> Image.Image:
    """Draw image, depth and a colour bar side by side, without resizing.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.
        depth: ``(H, W)``, metres.
        top: Metres at the upper end of the colours; the lower end is 0.
    """
    height, width = depth.shape
    colours = colormaps["turbo"]
    font = ImageFont.load_default(12)
    labels = [f"{top * step / (_TICKS - 1):.3g}" for step in range(_TICKS)]
    margin = int(max(font.getlength(f"{label} m") for label in labels)) + 8
    bar = 2 * (width + _GAP)
    sheet = Image.new("RGB", (bar + _BAR + margin, height), "white")
    sheet.paste(Image.fromarray(image), (0, 0))
    sheet.paste(_to_image(colours(np.clip(depth / top, 0.0, 1.0))), (width + _GAP, 0))
    ramp = np.repeat(np.linspace(1.0, 0.0, height)[:, None], _BAR, axis=1)
    sheet.paste(_to_image(colours(ramp)), (bar, 0))
    draw = ImageDraw.Draw(sheet)
    for step, label in enumerate(labels):
        y = round((height - 1) * (1 - step / (_TICKS - 1)))
        draw.line((bar + _BAR, y, bar + _BAR + 3, y), fill="black")
        draw.text((bar + _BAR + 5, min(max(y - 7, 0), height - 14)), f"{label} m", fill="black", font=font)
    return sheet


def _to_image(colours: np.ndarray) -> Image.Image:
    return Image.fromarray((colours[..., :3] * 255).round().astype(np.uint8))
