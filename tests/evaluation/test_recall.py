"""Ranks and recalls of image-text retrieval, by hand."""

from __future__ import annotations

import pytest
import torch

from proteus.evaluation import recall as module
from proteus.evaluation.recall import recall, retrieval_ranks

# Cosines of 3 images (rows) with 5 captions (columns), of images 0, 0, 1, 1 and 2.
COSINES = torch.tensor(
    [
        [0.1, 0.7, 0.8, 0.0, 0.2],
        [0.5, 0.4, 0.3, 0.3, 0.2],
        [0.6, 0.6, 0.1, 0.0, 0.6],
    ]
)
IMAGE_OF = [0, 0, 1, 1, 2]


@pytest.mark.parametrize("at_once", [2, 512])
def test_ranks_by_hand(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", at_once)
    # With the identity as images, the cosines are what they are.
    text_ranks, image_ranks = retrieval_ranks(torch.eye(3), COSINES.T, IMAGE_OF)
    # Image 0: its better caption (0.7) is second. Image 1: its captions are third and fourth. Image 2: its caption has
    # the same cosine as two others, which come before it.
    assert text_ranks.tolist() == [2, 3, 3]
    # Caption 0 (0.1, 0.5, 0.6) and 1 (0.7, 0.4, 0.6) are of image 0; 2 (0.8, 0.3, 0.1) and 3 (0, 0.3, 0) of image 1;
    # 4 (0.2, 0.2, 0.6) of image 2.
    assert image_ranks.tolist() == [3, 1, 2, 1, 1]
    assert recall(text_ranks, 1) == 0
    assert recall(text_ranks, 2) == pytest.approx(100 / 3)
    assert recall(image_ranks, 1) == pytest.approx(60)
    assert recall(image_ranks, 3) == 100


def test_equal_cosines_keep_the_order_of_the_set() -> None:
    """Constant embeddings find what chance finds: of 4 images with 2 captions each, the first."""
    constant = torch.ones(1, 3) / 3**0.5
    image_of = [0, 0, 1, 1, 2, 2, 3, 3]
    text_ranks, image_ranks = retrieval_ranks(constant.expand(4, 3), constant.expand(8, 3), image_of)
    assert text_ranks.tolist() == [1, 3, 5, 7]
    assert image_ranks.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert recall(image_ranks, 1) == 25


def test_equal_captions_of_one_image_do_not_count_against_it() -> None:
    captions = torch.eye(2)[[1, 1, 0]]
    text_ranks, _ = retrieval_ranks(torch.eye(2), captions, [1, 1, 0])
    assert text_ranks.tolist() == [1, 1]
