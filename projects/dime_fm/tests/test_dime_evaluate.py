"""The core's evaluation of a run's ``student.safetensors``, for a ViT and a CNN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, tool, trained, write_images
from timm.data import ImageNetInfo

CONFIG = """
_base_ = "{recipe}"

encoder = dict(context_length=16, width=32, layers=1, heads=2)
model = dict(
    teacher=dict(
        seed=0,
        encoder=dict(embed_dim=16, img_size=32, checkpoint=None,
                     image=dict(arch="clip-base", patch_size=16, embed_dim=64, depth=1, num_heads=1), text=encoder),
    ),
    student=dict(embed_dim=16, img_size=32, image=dict(_delete_=True, {image})),
    zero_shot=None,
)
pipeline = [
    dict(type="LoadImage"),
    dict(type="RandomResizedCrop", scale=32),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
sentences = dict(type="SentenceSet", list_file="{folder}/sentences.txt", context_length=16)
train_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False, pin_memory=False,
    dataset=dict(_delete_=True, type="UnpairedSet", sentences=sentences,
                 dataset=dict(type="ImageFolder", data_root="{folder}/images", pipeline=pipeline)),
)
val_dataloader = val_cfg = val_evaluator = test_dataloader = test_cfg = test_evaluator = None
optim_wrapper = dict(optimizer=dict(lr=1e-3, fused=False))
param_scheduler = dict(_delete_=True, type="ConstantLR", factor=1.0, by_epoch=False)
train_cfg = dict(max_iters=2, val_interval=100)
"""
IMAGES = {
    "vit": 'type="ViT", arch="tiny", patch_size=16, embed_dim=48, depth=2, num_heads=3',
    "cnn": 'type="TimmBackbone", arch="mobilenetv4_conv_small_050"',
}


def put(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.random.default_rng(number).integers(0, 255, 3).astype(np.uint8)
    Image.fromarray(np.broadcast_to(colour, (32, 32, 3)).copy()).save(path)


@pytest.mark.slow
@pytest.mark.parametrize("image", ["vit", "cnn"])
def test_knn_probe_and_robustness_of_the_students_image_tower(tmp_path: Path, image: str) -> None:
    write_images(tmp_path / "images")
    (tmp_path / "sentences.txt").write_text("\n".join(f"sentence {number}" for number in range(40)))
    config = tmp_path / "small.py"
    recipe = ROOT / "projects/dime_fm/configs/recipe.py"
    config.write_text(CONFIG.format(recipe=recipe, folder=tmp_path, image=IMAGES[image]))
    trained("train.py", config, "--work-dir", tmp_path / "run")

    wnids = ImageNetInfo().label_names()
    subset = json.loads((ROOT / "proteus/datasets/robustness/imagenet_subsets.json").read_text())["imagenet_a_classes"]
    for part, count in (("train", 8), ("val", 2)):
        for number in subset[:3]:
            for copy in range(count):
                put(tmp_path / f"data/imagenet/{part}/{wnids[number]}/{copy}.png", number)
    for number in subset:
        put(tmp_path / f"data/imagenet-a/{wnids[number]}/0.png", number)
    common: list[Any] = ["--backbone", tmp_path / "run/student.safetensors", "--data-root", tmp_path / "data"]
    common += ["--out", tmp_path / "out", "--img-size", "32", "--workers", "0", "--device", "cpu"]
    options = ["--cfg-options", "protocol.min_iterations=4", "protocol.validations=1"]
    trained("evaluate.py", *common, "--protocols", "linear", *options)
    # Refuses the small validation set in place of the published one, and reports it.
    assert tool("evaluate.py", *common, "--protocols", "knn,robustness").returncode == 1
    found = json.loads((tmp_path / "out/report.json").read_text())
    assert found["backbone"]["config"]["type"] == ("ViT" if image == "vit" else "TimmBackbone")
    assert found["protocols"]["linear"]["rows"]["imagenet"]
    # Three uniform colours, which even a random tower separates.
    knn = next(value for value in found["protocols"]["knn"]["rows"]["imagenet"].values() if isinstance(value, float))
    assert knn > 60
    assert set(found["protocols"]["robustness"]["rows"]) == {"imagenet-a"}
