"""Robustness of a probe from the command line, on small copies of the sets, with a classifier of known answers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import ROOT, options, tool, trained

from proteus.apis import load_config, set_work_dir
from proteus.apis import test as run_test
from proteus.datasets.robustness import imagenet_wnids, subset_classes
from proteus.evaluation.scores import ALEXNET_ERRORS
from proteus.registry import MODELS

pytestmark = pytest.mark.slow

CONFIG = """
_base_ = "{root}/configs/robustness/{name}.py"
model = dict(
    backbone=dict(arch="tiny", img_size=42, embed_dim=32, depth=4, num_heads=2),
    layers=(1,),
    avgpool=(False,),
    learning_rates=(0.1,),
)
test_dataloader = dict(batch_size=64, num_workers=0, persistent_workers=False)
"""
# Of both subsets, and what it would rather say: of neither.
ANSWER, OUTSIDE = 13, 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configs, and ``probe.pth``, which says class 13 to everything unless it may say 0."""
    folder = tmp_path_factory.mktemp("robustness")
    for path in (ROOT / "configs/robustness").glob("imagenet*.py"):
        (folder / path.name).write_text(CONFIG.format(root=ROOT, name=path.stem))
    model = MODELS.build(load_config(folder / "imagenet-val.py", {}).model)
    with torch.no_grad():
        for name, parameter in model.heads.named_parameters():
            parameter.zero_()
            if "biases" in name:
                parameter[OUTSIDE], parameter[ANSWER] = 9.0, 5.0
    model.best_head.fill_(0)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "probe.pth")
    model.heads.blocks1.biases[0].data[OUTSIDE] = 0.0
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "sure.pth")
    return folder


def write_classes(root: Path, classes: tuple[int, ...] | range) -> Path:
    Image.new("RGB", (40, 40), (90, 120, 60)).save(root.with_suffix(".jpg"))
    for number in classes:
        (root / imagenet_wnids()[number]).mkdir(parents=True)
        shutil.copy(root.with_suffix(".jpg"), root / imagenet_wnids()[number] / "x.JPEG")
    return root


def keys(name: str, **values: object) -> dict[str, object]:
    """Overrides of the data set, and of the sizes that the backbone needs."""
    sizes = {"2.scale": 42} if name == "imagenet-c" else {"1.scale": 48, "2.crop_size": 42}
    if name == "imagenet-c_generated":
        sizes["4.scale"] = 42
    crop = {f"test_dataloader.dataset.pipeline.{key}": size for key, size in sizes.items()}
    return crop | {f"test_dataloader.dataset.{key}": value for key, value in values.items()}


def evaluated(place: Path, name: str, checkpoint: str, **values: object) -> dict[str, float]:
    """What tools/test.py would log, without the cost of a process."""
    cfg = load_config(place / f"{name}.py", keys(name, **values))
    set_work_dir(cfg, str(place / f"work_{name}_{checkpoint}"))
    return run_test(cfg, place / checkpoint)


def test_a_is_restricted_to_its_classes_and_the_validation_set_is_not(place: Path, tmp_path: Path) -> None:
    root = write_classes(tmp_path / "a", subset_classes("imagenet_a"))
    arguments = ("test.py", place / "imagenet-a.py", place / "probe.pth", "--work-dir", tmp_path / "work")
    overrides = options(keys("imagenet-a", data_root=root))
    output = trained(*arguments, *overrides)
    assert float(re.findall(r"accuracy/top1: (\d+\.\d+)", output)[-1]) == pytest.approx(100 / 200)
    assert "ImageNet-A, " in output
    assert "(200 images in the folder, 7,500 in the published set)" in output
    write_classes(tmp_path / "val", range(1000))
    # Here it says 0, which is right as often, for the other class.
    found = evaluated(place, "imagenet-val", "probe.pth", data_root=str(tmp_path / "val"))
    assert found["accuracy/top1"] == pytest.approx(100 / 1000)
    shutil.rmtree(root / imagenet_wnids()[ANSWER])
    done = tool(*arguments, *overrides)
    assert done.returncode == 2
    lacks = rf"ImageNet-A has 200 class folders; .* has 199: it lacks {imagenet_wnids()[ANSWER]}"
    assert re.search(f"error: .*{lacks}", done.stderr)


def test_c_generated_on_the_fly_and_on_disk(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("imagecorruptions")
    root = write_classes(tmp_path / "val", (ANSWER, 99, 3, 4))
    found = evaluated(place, "imagenet-c_generated", "sure.pth", data_root=str(root), all_classes=False)
    # Three of four classes are always wrong.
    expected = 100 / 15 * sum(0.75 / error for error in ALEXNET_ERRORS.values())
    assert found["imagenet-c/mCE"] == pytest.approx(expected)
    arguments = (root, tmp_path / "c", "--any-classes", "--corruptions", "fog", "jpeg_compression")
    output = trained("generate_imagenet_c.py", *arguments)
    assert "2/4 " in output
    assert "has fog, jpeg_compression of 4 images, with imagecorruptions-imaug" in output
    found = evaluated(place, "imagenet-c", "sure.pth", data_root=str(tmp_path / "c"), all_classes=False)
    assert found == {"imagenet-c/fog": 75, "imagenet-c/jpeg_compression": 75}
    log = max((place / "work_imagenet-c_sure.pth").rglob("*.log")).read_text()
    assert "ImageNet-C generated with imagecorruptions-imaug" in log
    assert "no mCE, which needs 15 corruptions at 5 severities; missing: gaussian_noise 1" in log
