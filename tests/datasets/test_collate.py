import pytest
import torch

from proteus.datasets import distill_collate
from proteus.datasets.collate import smallest_batch


def samples(count: int, masks: bool = True) -> list[dict]:
    made = []
    for number in range(count):
        sample = {"image": torch.full((3, 2, 2), float(number)), "meta": {"img_path": f"{number}.jpg"}}
        if masks:
            sample["mask"] = torch.arange(4) < number
        made.append(sample)
    return made


def test_the_first_half_is_masked() -> None:
    batch = distill_collate(samples(5))
    assert batch["images"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert [meta["img_path"] for meta in batch["metas"]] == [f"{n}.jpg" for n in range(5)]
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
    assert set(distill_collate(samples(1, masks=False))) == {"images", "metas"}


@pytest.mark.parametrize(("probability", "wanted"), [(0.5, 2), (1.0, 1), (0.3, 4), (0.1, 10)])
def test_a_batch_too_small_says_what_would_do(probability: float, wanted: int) -> None:
    assert smallest_batch(probability) == wanted
    distill_collate(samples(wanted), probability)
    if wanted > 1:
        with pytest.raises(ValueError, match=rf"train_dataloader\.batch_size to at least {wanted},"):
            distill_collate(samples(wanted - 1), probability)
