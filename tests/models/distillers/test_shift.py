from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from two_ranks import on_two_ranks

from proteus.config.check_consistency import check_sizes
from proteus.config.load import load_config
from proteus.models import Distiller, MultiStudentDistiller, ShiftDataPreprocessor
from proteus.models.backbones.features import features_of_map
from proteus.models.distillers.shift import Shift
from proteus.models.objectives import StepFeatures
from proteus.structures import ConfigError, DataError, Features, UserError

SIZE = dict(type="ViT", arch="tiny", img_size=56, patch_size=14, depth=1, interpolate_offset=0.0)
TEACHER = dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4))
ONE = dict(
    student=dict(**SIZE, embed_dim=24, num_heads=3, mask_token=True),
    objectives=dict(
        token=dict(type="TokenObjective"),
        feature=dict(type="FeatureObjective", cls_term="token"),
        patch=dict(type="PatchObjective"),
        gram=dict(type="PatchRelationObjective"),
    ),
)
PREPROCESSOR = dict(type="ShiftDataPreprocessor", shift=2)


def built(**options: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(copy.deepcopy(TEACHER), **copy.deepcopy(ONE), data_preprocessor=PREPROCESSOR, **options)


def batch(images: Sequence[int] = range(8)) -> dict[str, Any]:
    """Eight images of 6 x 6 patches, or some of them; the first half is masked."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(4, 36, generator=generator).argsort(1) < torch.tensor([18, 9, 0, 27])[:, None]
    masks = masks[[image for image in images if image < 4]]
    return {
        "inputs": torch.rand(8, 3, 84, 84, generator=generator)[list(images)],
        "masks": masks,
        "mask_indices": masks.flatten().nonzero().squeeze(1),
        "data_samples": data_samples(*[{}] * len(images)),
    }


def stepped(model: Any, wrapped: Any = None, images: Sequence[int] = range(8)) -> dict[str, Tensor]:
    """Losses and gradients of a step; the seed draws the shift."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    wrapper.zero_grad = lambda **_: None  # type: ignore[method-assign]
    torch.manual_seed(5)
    log = (wrapped or model).train_step(batch(images), wrapper)
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {**log, **gradients}


def test_common_patches_by_hand() -> None:
    # Columns 0 to 2 of the larger image for the student, 1 to 3 for the teacher; rows 1 to 2, and 0 to 1.
    shift = Shift(student=(1, 0), teacher=(0, 1))
    student = Features(torch.zeros(1, 1), torch.tensor([[10.0, 11, 12, 20, 21, 22]])[..., None], (2, 3))
    teacher = Features(torch.zeros(1, 1), torch.tensor([[1.0, 2, 3, 11, 12, 13]])[..., None], (2, 3))
    for features, own in ((student, shift.student), (teacher, shift.teacher)):
        common = shift.common(features, own)
        assert common.patches.flatten().tolist() == [11, 12]
        assert common.grid == (1, 2)
    masks = torch.zeros(1, 3, 4, dtype=torch.bool)
    masks[0, 1, 2] = masks[0, 2, 0] = True
    assert shift.common_masks(masks, (2, 3)).tolist() == [[False, True]]
    assert shift[2:5] == shift


def test_a_step_equals_a_naive_one() -> None:
    model, reference = built(), built()
    found = stepped(model)
    data = batch()
    torch.manual_seed(5)
    sy, sx, ty, tx = torch.randint(3, (4,)).tolist()
    assert (sy, sx) != (ty, tx)
    images = (data["inputs"] - reference.data_preprocessor.mean) / reference.data_preprocessor.std
    own, other = (
        images[:, :, 14 * y : 14 * y + 56, 14 * x : 14 * x + 56] for y, x in ((sy, sx), (ty, tx))
    )  # fmt: skip
    masks = data["masks"].view(4, 6, 6)[:, sy : sy + 4, sx : sx + 4].flatten(1)
    clean, masked, teacher = reference.student(own), reference.student(own[:4], masks), reference.teacher(other)
    common = [
        (row, column)
        for row in range(6)
        for column in range(6)
        if 0 <= row - sy < 4 and 0 <= row - ty < 4 and 0 <= column - sx < 4 and 0 <= column - tx < 4
    ]
    ours = [(row - sy) * 4 + column - sx for row, column in common]
    theirs = [(row - ty) * 4 + column - tx for row, column in common]
    objectives: Any = reference.objectives
    token = F.mse_loss(objectives["token"].head(clean.cls), teacher.cls)
    patches = F.mse_loss(objectives["feature"].head(clean.patches[:, ours]), teacher.patches[:, theirs])
    hidden = masks[:, ours]
    recovered = F.mse_loss(
        objectives["patch"].head(masked.patches[:, ours][hidden]), teacher.patches[:4, theirs][hidden]
    )
    grams = [F.normalize(each, dim=-1) for each in (clean.patches[:, ours], teacher.patches[:, theirs])]
    gram = F.mse_loss(*(each @ each.mT for each in grams))
    feature = (token + len(common) * patches) / (1 + len(common))
    expected = {"loss_token": token, "loss_feature": feature, "loss_patch": recovered, "loss_gram": gram}
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term.detach(), atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    sum(expected.values()).backward()  # type: ignore[union-attr]
    for name, value in reference.named_parameters():
        torch.testing.assert_close(found[name], value.grad, atol=1e-5, rtol=1e-5)
    assert all(parameter.grad is None for parameter in model.teacher.backbone.parameters())


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_step(parts: int) -> None:
    whole, found = stepped(built()), stepped(built(micro_batches=parts))
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value.detach(), atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_hidden_states_are_those_of_the_common_patches() -> None:
    states = [Features(torch.rand(2, 3), torch.rand(2, 16, 3), (4, 4)) for _ in range(4)]
    shift = Shift(student=(0, 2), teacher=(1, 0))
    step = shift.restrict(StepFeatures(*states[:2], teacher_hidden=(states[2],), student_hidden=(states[3],)))
    assert step.masked is None
    for found, given, own in (
        (step.teacher_hidden[0], states[2], shift.teacher),
        (step.student_hidden[0], states[3], shift.student),
    ):
        assert found.grid == (3, 2)
        torch.testing.assert_close(found.patches, shift.common(given, own).patches, atol=0, rtol=0)
        assert found.cls is given.cls


def test_each_of_several_students_has_the_same_views() -> None:
    torch.manual_seed(0)
    model = MultiStudentDistiller(
        TEACHER, copy.deepcopy({"first": ONE, "second": ONE}), data_preprocessor=PREPROCESSOR, micro_batches=2
    )
    alone, found = stepped(built()), stepped(model)
    for name in ("first", "second"):
        for term in ("token", "feature", "patch", "gram"):
            torch.testing.assert_close(
                found[f"{name}.loss_{term}"], alone[f"loss_{term}"].detach(), atol=1e-5, rtol=1e-5
            )


RANK = """
from test_shift import built, stepped
from proteus.engine import DataParallel

model = built()
images = [2 * rank, 2 * rank + 1, 2 * rank + 4, 2 * rank + 5]
result = stepped(model, DataParallel(model), images)
"""


@pytest.mark.slow
def test_two_ranks_with_one_shift_learn_as_one(tmp_path: Path) -> None:
    first, second = on_two_ranks(RANK, __file__, tmp_path)
    for name, value in stepped(built()).items():
        mean = (first[name] + second[name]) / 2
        torch.testing.assert_close(mean, value.detach(), atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_evaluations_see_whole_images() -> None:
    preprocessor = ShiftDataPreprocessor()
    data = preprocessor({"inputs": torch.rand(1, 3, 70, 70)}, False)
    assert data.keys() == {"inputs"}
    assert data["inputs"].shape[-1] == 70


def test_what_is_refused() -> None:
    preprocessor = ShiftDataPreprocessor()
    with pytest.raises(ValueError, match="the batch has its cached tokens"):
        preprocessor({"inputs": torch.rand(1, 3, 56, 56), "teacher_cls": torch.rand(1, 4)}, True)
    for side in (28, 60):
        with pytest.raises(DataError, match=f"images of {side}x{side} px; crop them to the student's img_size plus 28"):
            preprocessor({"inputs": torch.rand(1, 3, side, side)}, True)


class Stride14(nn.Module):
    """A convolution as student; it takes images of any size, and has no ``img_size``."""

    embed_dim = 24

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 14, 14)

    def grid_for(self, img_size: tuple[int, int]) -> tuple[int, int]:
        return img_size[0] // 14, img_size[1] // 14

    def forward(self, images: Tensor) -> Features:
        return features_of_map(self.stem(images))


def test_patches_of_a_student_for_any_size_are_checked_in_the_first_step() -> None:
    objectives = dict(feature=dict(type="FeatureObjective"))
    images = {"inputs": torch.rand(2, 3, 84, 84)}
    for patch in (14, 28):
        preprocessor = dict(type="ShiftDataPreprocessor", shift=1, patch_size=patch)
        model = Distiller(copy.deepcopy(TEACHER), dict(type=Stride14), copy.deepcopy(objectives), preprocessor)
        data = model.data_preprocessor(dict(images), True)
        if patch == 14:
            assert model(**data, mode="loss")["loss_feature"].isfinite()
            continue
        words = r"patch_size=28: model\.student has 4x4 patches of images of 56x56 px; write patch_size=14"
        with pytest.raises(UserError, match=words):
            model(**data, mode="loss")


def test_sizes_in_a_config() -> None:
    cfg: Config = load_config(
        "configs/proteus/vit-s_dinov2-b.py", {"model.data_preprocessor.type": "ShiftDataPreprocessor"}
    )
    with pytest.raises(ConfigError, match=r"scale = 224: write 252, model\.student\.img_size and the 28 px"):
        check_sizes(cfg)
    cfg.train_pipeline[0]["scale"] = cfg.train_dataloader.dataset.pipeline[0]["scale"] = 252
    check_sizes(cfg)
    cfg.model.data_preprocessor.patch_size = 16
    with pytest.raises(ConfigError, match=r"data_preprocessor\.patch_size = 16: model\.student\.patch_size is 14"):
        check_sizes(cfg)
