import numpy as np
import pytest
import torch

from proteus.datasets import distill_collate
from proteus.datasets.transforms.erasing import ErasedBox
from proteus.utils.masked_batches import smallest_batch


def samples(count: int, masks: bool = True) -> list[dict]:
    made = []
    for number in range(count):
        sample = {"inputs": torch.full((3, 2, 2), float(number)), "data_samples": {"img_path": f"{number}.jpg"}}
        if masks:
            sample["mask"] = torch.arange(4) < number
        made.append(sample)
    return made


def test_the_first_half_is_masked() -> None:
    batch = distill_collate(samples(5))
    assert batch["inputs"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert [each.img_path for each in batch["data_samples"]] == [f"{n}.jpg" for n in range(5)]
    assert batch["masks"].tolist() == [[False] * 4, [True, False, False, False]]
    assert batch["mask_indices"].tolist() == [4]
    assert batch["mask_indices"].dtype == torch.int64


def test_indices_are_the_masked_positions() -> None:
    batch = distill_collate(samples(8), probability=0.75)
    assert batch["masks"].shape == (6, 4)
    where = torch.zeros(24, dtype=torch.bool)
    where[batch["mask_indices"]] = True
    assert torch.equal(where.view(6, 4), batch["masks"])


def test_without_masks() -> None:
    assert set(distill_collate(samples(1, masks=False))) == {"inputs", "data_samples"}


@pytest.mark.parametrize(("probability", "wanted"), [(0.5, 2), (1.0, 1), (0.3, 4), (0.1, 10)])
def test_a_batch_too_small_says_what_would_do(probability: float, wanted: int) -> None:
    assert smallest_batch(probability) == wanted
    distill_collate(samples(wanted), probability)
    if wanted > 1:
        with pytest.raises(ValueError, match=rf"train_dataloader\.batch_size to at least {wanted},"):
            distill_collate(samples(wanted - 1), probability)


def test_what_is_left_for_the_device_names_its_image() -> None:
    made = samples(4, masks=False)
    made[1]["erase"] = ErasedBox(2, 3, 4, 5, seed=2**62)
    made[3]["erase"] = ErasedBox(0, 0, 1, 1, seed=7)
    batch = distill_collate(made)
    assert batch["erase"] == [(1, 2, 3, 4, 5, 2**62), (3, 0, 0, 1, 1, 7)]


def test_the_teachers_outputs_where_every_sample_has_them() -> None:
    made = samples(3, masks=False)
    for number, sample in enumerate(made):
        sample["teacher_cls"] = np.full(5, number, np.float16)
        sample["teacher_patches"] = torch.full((4, 5), number, dtype=torch.bfloat16)
    batch = distill_collate(made)
    assert batch["teacher_cls"].dtype == torch.float16
    assert batch["teacher_cls"][:, 0].tolist() == [0, 1, 2]
    assert batch["teacher_patches"].shape == (3, 4, 5)
    del made[1]["teacher_cls"]
    assert "teacher_cls" not in distill_collate(made)


def test_mixed_bytes_and_floats_become_floats() -> None:
    made = samples(2, masks=False)
    made[1]["inputs"] = torch.full((3, 2, 2), 51, dtype=torch.uint8)
    batch = distill_collate(made)
    assert batch["inputs"].dtype == torch.float32
    torch.testing.assert_close(batch["inputs"][:, 0, 0, 0], torch.tensor([0.0, 0.2]))
