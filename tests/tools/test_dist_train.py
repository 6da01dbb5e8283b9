from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import ROOT, log_lines, options, trained, weights, write_teacher

pytestmark = pytest.mark.slow

MASKS: dict[str, dict[str, Any]] = {
    "uniform": {},
    # Ranks then mask different numbers of patches.
    "block": {
        "train_dataloader.dataset.pipeline.5.type": "BlockMask",
        "train_dataloader.dataset.pipeline.5.ratio": "(0.1,0.5)",
    },
}


@pytest.mark.parametrize("masks", MASKS)
def test_two_processes_are_one(config: Path, tmp_path: Path, masks: str) -> None:
    # The gradient of the keys' biases is rounding and nothing else, which AdamW's usual eps would blow up to steps.
    values = {**MASKS[masks], "optim_wrapper.optimizer.eps": 1e-6, "default_hooks.checkpoint.interval": 2}
    values["train_dataloader.sampler.repeats"] = 1  # with more, one process draws other images than two
    one = trained("train.py", config, "--work-dir", tmp_path / "1", *options(values))
    halves = ("--work-dir", tmp_path / "2", *options({**values, "train_dataloader.batch_size": 4}))
    if masks == "uniform":
        two = trained("dist_train.sh", config, 2, *halves)
    else:
        two = trained("train.py", config, *halves, ranks=2)

    early, alone, together = (weights(tmp_path / name) for name in ("1/iter_2.pth", "1/iter_5.pth", "2/iter_5.pth"))
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: name + text)
    # The agreement says something: training moved the weights hundreds of times further.
    assert all((alone[name] - early[name]).abs().max() > 1e-3 for name in alone if name.endswith("weight"))
    assert len(log_lines(one)) == len(log_lines(two)) == 5  # one rank alone writes


def test_the_largest_recipe_on_two_cpu_ranks(place: Path, tmp_path: Path) -> None:
    """``vit-l_dinov2-g`` trains when sizes, places and the number of steps alone are overridden."""
    teacher = {"embed_dim": 96, "depth": 1, "num_heads": 4}
    student = {"embed_dim": 48, "depth": 1, "num_heads": 3}
    loaders = ("train_dataloader", "val_dataloader")
    values: dict[str, Any] = {
        "model.teacher.backbone.checkpoint": write_teacher(
            tmp_path / "teacher.safetensors", arch="giant", img_size=518, **teacher
        ),
        **{f"model.teacher.backbone.{key}": value for key, value in teacher.items()},
        **{f"model.student.{key}": value for key, value in student.items()},
        **{f"{loader}.batch_size": 2 for loader in loaders},
        **{f"{loader}.num_workers": 0 for loader in loaders},
        **{f"{loader}.persistent_workers": False for loader in loaders},
        **{f"{loader}.dataset.data_root": place / "images" for loader in loaders},
        "val_dataloader.dataset.indices": 4,
        "train_cfg.max_iters": 2,
        "default_hooks.logger.interval": 1,
    }
    recipe = ROOT / "configs/proteus/vit-l_dinov2-g.py"
    output = trained("train.py", recipe, "--work-dir", tmp_path / "run", *options(values), ranks=2)
    assert len(log_lines(output)) == 2
    assert "centered_cosine/patch" in output
    assert (tmp_path / "run/iter_2.pth").is_file()
    assert (tmp_path / "run/student.safetensors").is_file()
