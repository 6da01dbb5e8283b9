from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import write_images
from torch.utils.data import DataLoader

from proteus.apis import load_config
from proteus.datasets import CorruptImageError, ImageFolder, ProxySet, SampleKey

KEYS = [SampleKey(0, epoch, image, view) for epoch in (0, 1) for image in (3, 0, 5) for view in (0, 1)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("set"), 12)


@pytest.fixture(scope="module")
def recipe() -> list:
    """The paper's pipeline at a small size with all its random transforms, and the other mask."""
    pipeline = load_config("configs/proteus/vit-ti_dinov2-s.py").train_pipeline
    pipeline[0].scale = 56
    pipeline[4].erase_prob = 1.0
    pipeline[5] = dict(type="BlockMask", ratio=(0.1, 0.5))
    return [{**step, "type": f"proteus.{step['type']}"} for step in pipeline]


def flat(sample: dict) -> torch.Tensor:
    return torch.cat([sample["inputs"].flatten(), sample["mask"].float()])


def test_a_key_gives_one_view_in_any_order_and_worker(images: Path, recipe: list) -> None:
    proxy = ImageFolder(str(images), recipe)
    wanted = {key.parts: flat(proxy[key]) for key in KEYS}
    assert all(torch.equal(flat(proxy[key]), wanted[key.parts]) for key in reversed(KEYS))
    loader = DataLoader(proxy, batch_size=None, sampler=KEYS, num_workers=2, multiprocessing_context="fork")
    for key, sample in zip(KEYS, loader, strict=True):
        assert torch.equal(flat(sample), wanted[key.parts])
    unlike = torch.stack(list(wanted.values())).unique(dim=0)
    assert len(unlike) == len(KEYS)


def test_reading_keeps_the_global_random_state(images: Path, recipe: list) -> None:
    proxy = ImageFolder(str(images), recipe)
    before = torch.get_rng_state()
    proxy[KEYS[0]]
    assert torch.equal(torch.get_rng_state(), before)


def test_plain_indices_are_keys(images: Path, recipe: list) -> None:
    proxy = ImageFolder(str(images), recipe)
    assert torch.equal(flat(proxy[4]), flat(proxy[SampleKey(0, 0, 4)]))


def test_corrupt_images_have_a_deterministic_replacement(tmp_path: Path) -> None:
    steps = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
    root = write_images(tmp_path, 12)
    proxy = ImageFolder(str(root), steps)
    paths = [proxy.get_data_info(index)["img_path"] for index in range(12)]
    assert proxy[2]["data_samples"].metainfo == {"img_path": paths[2], "corrupt": []}
    Path(paths[2]).write_bytes(b"")
    first, again = proxy[SampleKey(0, 0, 2)], proxy[SampleKey(0, 0, 2)]
    assert torch.equal(first["inputs"], again["inputs"])
    assert first["data_samples"].img_path in set(paths) - {paths[2]}
    (line,) = first["data_samples"].corrupt
    assert line.startswith(f"{paths[2]} (UnidentifiedImageError: ")


@pytest.mark.parametrize("size", [7919, 2 * 7919])
def test_another_image_is_taken_in_a_set_of_any_size(tmp_path: Path, size: int) -> None:
    class Pair(ProxySet):
        def load_data_list(self) -> list[dict]:
            return [{"img_path": str(tmp_path / ("bad" if n % 7919 == 0 else "good.png"))} for n in range(size)]

    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad").write_bytes(b"")
    steps = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
    assert len(Pair(pipeline=steps)[0]["data_samples"].corrupt) == 1


def test_sets_without_readable_images_raise_an_error(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"nothing")
    words = r"50 images in a row cannot be read, from .*/0\.jpg \(.*\) to .*/\d\.jpg \(.*\): repair or replace them"
    with pytest.raises(CorruptImageError, match=words):
        ImageFolder(str(tmp_path), [{"type": "proteus.LoadImage"}])[0]


def test_large_indices_take_all_images_and_positions_out_of_range_are_refused(images: Path) -> None:
    assert len(ImageFolder(str(images), indices=1000)) == 12
    assert len(ImageFolder(str(images), indices=[0, 11, -12])) == 3
    for positions, shown in (([0, 12, 3], 12), ([-13], -13)):
        with pytest.raises(ValueError, match=rf"dataset\.indices=\[\.\.\., {shown}\]: the set has 12 images"):
            ImageFolder(str(images), indices=positions)
