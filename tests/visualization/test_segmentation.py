from pathlib import Path

import numpy as np
from PIL import Image

from proteus.visualization import draw_segmentation
from proteus.visualization.segmentation import draw_examples


def test_panels_have_the_classes_colours() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    prediction, truth = np.zeros((20, 30), int), np.full((20, 30), 255)
    truth[:10] = 1
    sheet = np.asarray(
        draw_segmentation(image, prediction, truth, ["sky", "sea"], [(200, 0, 0), (0, 0, 200)], alpha=0.5)
    )
    panels = [sheet[18:38, left : left + 30] for left in (0, 38, 76)]
    assert sheet.shape[1] == 3 * 30 + 2 * 8
    assert (panels[0] == 100).all()
    assert (panels[1] == (150, 50, 50)).all()
    assert (panels[2][:10] == (50, 50, 150)).all()
    assert (panels[2][10:] == 35).all()  # unlabelled: darkened
    alone = np.asarray(draw_segmentation(image, prediction, None, ["sky", "sea"], [(200, 0, 0), (0, 0, 200)]))
    assert alone.shape[1] == 2 * 30 + 8


def test_examples_are_reduced_and_drawn_below_each_other(tmp_path: Path) -> None:
    example = np.full((90, 130, 3), 50, np.uint8), np.zeros((90, 130), int), np.full((90, 130), -1)
    with Image.open(draw_examples([example, example], 2, tmp_path / "a/examples.png", side=50)) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] == 3 * 44 + 2 * 8  # every third pixel of 130
    half = len(pixels) // 2
    assert np.array_equal(pixels[:half], pixels[half:])
