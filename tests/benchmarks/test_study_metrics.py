"""Metrics of the study on features worked out by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from proteus.structures import DataError, Features

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import study_pictures
from study_metrics import LinearMap, evaluate_features, linear_agreement
from study_pictures import FOLDERS, Labelled, Pictures, check_data, halves
from study_students import make_encoder


def colours(images: Tensor) -> Features:
    """Mean colours of images and of the four quarters of each: features that can be worked out by hand."""
    quarters = torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(2).transpose(1, 2)
    return Features(quarters.mean(1), quarters, (2, 2))


def plain(*values: int) -> Tensor:
    """Images ``(N, 3, 4, 4)`` that are pure red, green or blue by channel number, a little darker one by one."""
    images = torch.zeros(len(values), 3, 4, 4, dtype=torch.uint8)
    for row, value in enumerate(values):
        images[row, value] = 255 - row
    return images


def labelled(values: list[int], labels: list[int]) -> Labelled:
    return Labelled(plain(*values), np.array(labels))


def tiles(rows: list[list[int]]) -> Labelled:
    """Images of four coloured quarters, labelled by their colours; -1 is green without a label."""
    images = torch.zeros(len(rows), 3, 4, 4, dtype=torch.uint8)
    for image, row in zip(images, rows, strict=True):
        for place, value in enumerate(row):
            y, x = 2 * (place // 2), 2 * (place % 2)
            image[1 if value < 0 else value, y : y + 2, x : x + 2] = 255
    return Labelled(images, np.array(rows).reshape(-1, 2, 2))


@pytest.fixture
def pictures() -> Pictures:
    # Ten neighbours are all training images of three classes: six red, three green, one blue.
    cifar = {
        "train": labelled([0] * 6 + [1] * 3 + [2], [0] * 6 + [1] * 3 + [2]),
        "test": labelled([0, 1, 2, 0], [0, 1, 2, 1]),
    }
    camvid = {
        "train": tiles([[0, 0, 2, 2]] * 3),
        # Patches: 4 red, 3 blue, and one that has no label. The red ones labelled 2 are one of the errors.
        "test": tiles([[0, 0, 0, 2], [0, 2, 2, -1]]),
    }
    generator = torch.Generator().manual_seed(0)
    photographs = torch.randint(0, 256, (12, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return Pictures(cifar, camvid, photographs)


def test_knn_votes_of_all_neighbours(pictures: Pictures) -> None:
    # All ten training images vote for every test image, so that each is called red: right for two of four.
    figures = evaluate_features(colours, pictures)
    assert figures["cifar_knn"] == pytest.approx(25.0)


def test_logistic_regression_separates_colours(pictures: Pictures) -> None:
    many = [0] * 12 + [1] * 12 + [2] * 12
    # Three of four: the last image is red with the label of green.
    cifar = {"train": labelled(many, many), "test": labelled([0, 1, 2, 0], [0, 1, 2, 1])}
    figures = evaluate_features(colours, Pictures(cifar, pictures.camvid, pictures.photographs))
    assert figures["cifar_logistic"] == pytest.approx(75.0)


def test_miou_leaves_out_patches_without_label(pictures: Pictures) -> None:
    assert evaluate_features(colours, pictures)["camvid_miou"] == pytest.approx(100.0)


def test_miou_by_hand(pictures: Pictures) -> None:
    wrong = pictures.camvid["test"].labels.copy()
    wrong[0, 0, 0] = 2  # a red patch
    camvid = {**pictures.camvid, "test": Labelled(pictures.camvid["test"].images, wrong)}
    # Red: 3 right, 1 of another class: 3/4. Blue: 3 right, 1 missed: 3/4.
    figures = evaluate_features(colours, Pictures(pictures.cifar, camvid, pictures.photographs))
    assert figures["camvid_miou"] == pytest.approx(75.0)


def test_agreement_is_one_for_a_linear_image_of_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(60, 9, 6, generator=generator)
    student = teacher @ torch.randn(6, 6, generator=generator) + 3
    assert linear_agreement(student, teacher) > 0.98  # the ridge takes the rest


def test_agreement_is_about_zero_for_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, noise = (torch.randn(200, 9, 6, generator=generator) for _ in range(2))
    assert abs(linear_agreement(noise, teacher)) < 0.05


def test_linear_map_of_one_channel() -> None:
    # y = 2 x + 1 on x = -1, 1: the sum of squares is 2, and the ridge a hundredth of it.
    student = torch.tensor([[[-1.0]], [[1.0]]])
    fitted = LinearMap.fit(student, 2 * student + 1)
    assert fitted.weight.item() == pytest.approx(4 / 2.02)
    assert fitted.centre.item() == pytest.approx(1.0)
    assert fitted(torch.tensor([[[0.5]]])).item() == pytest.approx(0.5 * 4 / 2.02)


def test_tokens_of_another_grid_are_interpolated_to_the_patches() -> None:
    class Pixels(torch.nn.Module):
        def forward(self, images: Tensor) -> Features:
            return Features(images.mean((2, 3)), images.flatten(2).transpose(1, 2), (8, 8))

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = make_encoder(Pixels(), (0.0,) * 3, (1.0,) * 3, patch_size=2)(images)
    expected = torch.nn.functional.interpolate(images, (4, 4), mode="bilinear", antialias=True)
    assert found.grid == (4, 4)
    torch.testing.assert_close(found.patches, expected.flatten(2).transpose(1, 2))


def test_validation_uses_no_test_data(pictures: Pictures) -> None:
    camvid = tiles([[2, 2, 2, 2]])
    validation = pictures.validation(camvid)
    assert validation.cifar["test"].labels.tolist() == [0, 0, 1]  # training images 0, 4 and 8
    assert len(validation.cifar["train"].labels) == 7
    assert validation.camvid == {"train": pictures.camvid["train"], "test": camvid}
    fit, test = halves(12)
    assert torch.equal(validation.photographs, pictures.photographs[fit])
    assert not set(fit.tolist()) & set(test.tolist())


def test_patch_has_the_class_of_most_of_its_pixels() -> None:
    assert study_pictures._majority(torch.tensor([[3, 3], [3, 5]])) == 3
    assert study_pictures._majority(torch.tensor([[11, 11], [11, 0]])) == -1
    assert study_pictures._majority(torch.tensor([[255, 255], [11, 0]])) == -1


def test_missing_folder_is_named(tmp_path: Path) -> None:
    for name in FOLDERS[:-1]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    with pytest.raises(DataError, match=r"the folder camvid/annotations/test is missing; docs/study\.md"):
        check_data(tmp_path)
    (tmp_path / FOLDERS[-1]).mkdir()
    with pytest.raises(DataError, match="is empty"):
        check_data(tmp_path)
