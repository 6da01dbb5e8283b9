"""The linear protocol: the config of its run, and the accuracy it reads from it."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from protocol_runs import PIPELINE, SETS, eval_context, saved, with_several_labels
from runs import ROOT, weights

from proteus.apis import load_config, train
from proteus.apis import test as run_test
from proteus.checkpoints.export import export_backbone
from proteus.evaluation.protocols import LinearProbing
from proteus.evaluation.report import main_score
from proteus.models import ViT

SMALL = {"model.learning_rates": (1e-3, 0.1), "default_hooks.logger.interval": 1000}


@lru_cache
def config() -> Config:
    return load_config(ROOT / "configs/linear_probe/protocol.py", SMALL)


def protocol(sets: Any = None, **options: Any) -> LinearProbing:
    return LinearProbing(sets=sets or SETS, pipeline=PIPELINE, **options)


def run_config(place: Path, backbone: str = "random:test_vit", cfg: Config | None = None, **options: Any) -> Config:
    """Make the config of the run on ``colours``."""
    split = {**SETS["colours"], "data_root": str(place / "data/colours"), "pipeline": PIPELINE}
    return protocol(**options).run_config("colours", split, eval_context(place, backbone, cfg or config()))


@pytest.mark.parametrize(
    ("options", "batch", "iterations", "every"),
    [
        ({}, 24, 1000, 50),  # 24 images are one batch; 10 epochs are too few iterations
        ({"batch_size": 8, "min_iterations": 4}, 8, 30, 1),  # three full batches per epoch
        ({"batch_size": 8, "min_iterations": 4, "epochs": 100}, 8, 300, 15),
        ({"batch_size": 24, "epochs": 25, "min_iterations": 1, "validations": 4}, 24, 25, 6),
    ],
)
def test_the_schedule_follows_the_number_of_images(
    place: Path, options: dict[str, int], batch: int, iterations: int, every: int
) -> None:
    cfg = run_config(place, **options)
    assert cfg.train_dataloader.batch_size == batch
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (iterations, every)
    assert (cfg.default_hooks.checkpoint.interval, cfg.default_hooks.checkpoint.max_keep_ckpts) == (every, 1)
    assert cfg.resume is True
    assert "protocol" not in cfg


def test_the_config_has_backbone_data_and_statistics(place: Path) -> None:
    own = config()
    found = eval_context(place, cfg=own)
    cfg = run_config(place, cfg=own)
    assert cfg.model.num_classes == 3
    assert (cfg.model.backbone.type, cfg.model.backbone.img_size) == ("ViT", 32)
    assert tuple(cfg.model.data_preprocessor.mean) == tuple(found.spec.mean)
    parts = {key: (cfg[f"{key}_dataloader"].dataset.split) for key in ("train", "val", "test")}
    assert parts == {"train": "train", "val": "val", "test": "test"}
    kinds = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]
    assert "RandomResizedCrop" in kinds  # the run's pipeline, not the protocol's
    assert own.model.num_classes == 1000  # the protocol's config is unchanged
    other = run_config(place, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    assert tuple(other.model.data_preprocessor.mean) == (0.5, 0.4, 0.3)
    assert tuple(other.model.data_preprocessor.std) == (0.1, 0.2, 0.3)


def test_imagenet_is_validated_on_its_test_images_and_own_sets_are_not(place: Path) -> None:
    """DINOv2's protocol for ImageNet-1K; on other sets the choice of a head would bias the result."""
    own = run_config(place)
    assert [step.type for step in own.test_evaluator] == ["Top1Accuracy"]
    (place / "data/colours/test").rename(place / "data/colours/val")
    split = {"type": "ImageNet1K", "data_root": str(place / "data/colours"), "pipeline": PIPELINE}
    cfg = protocol().run_config("imagenet", split, eval_context(place, cfg=config()))
    parts = {key: (cfg[f"{key}_dataloader"].dataset.split) for key in ("train", "val", "test")}
    assert parts == {"train": "trainval", "val": "test", "test": "test"}
    assert cfg.test_evaluator == config().test_evaluator


def test_a_set_that_is_too_small_to_validate_on_fails(place: Path) -> None:
    for path in (place / "data/colours/train").glob("*/0[1-9].png"):
        path.unlink()
    result = protocol().run(eval_context(place, cfg=config()))
    assert "3 training images, 0 of them for validation; both parts need one" in result.failed["colours"]


def test_a_shallow_backbone_contributes_all_its_blocks(place: Path, tmp_path: Path) -> None:
    assert list(run_config(place).model.layers) == [1, 4]
    assert list(run_config(place, "random:test_resnet").model.layers) == [1]
    # The feature table holds the last four blocks, here both.
    vit = ViT("tiny", img_size=32, patch_size=16, embed_dim=48, depth=2, num_heads=3)
    arguments = dict(vit.timm_args)
    about = {"architecture": arguments.pop("model_name"), "arguments": arguments, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    shallow = export_backbone(vit.timm_state(), tmp_path / "shallow.safetensors", about)
    assert list(run_config(place, str(shallow)).model.layers) == [1, 2]


@pytest.mark.slow
def test_runs_with_other_inputs_have_other_folders(place: Path) -> None:
    first = run_config(place).work_dir
    assert run_config(place).work_dir == first
    assert Path(first).parent == place / "out/linear"
    other = copy.deepcopy(config())
    other.model.learning_rates = (1e-3,)
    others = [
        run_config(place, "random:test_vit:1").work_dir,
        run_config(place, cfg=other).work_dir,
        run_config(place, cached=True).work_dir,
    ]
    (place / "data/colours/test/class0/00.png").unlink()
    others.append(run_config(place).work_dir)
    assert len({first, *others}) == 5
    assert Path(others[2]).parent == place / "out/linear-cached"


def test_runs_with_other_statistics_or_precision_have_other_folders(place: Path) -> None:
    def folder(device: str = "cpu", **statistics: Any) -> str:
        context = eval_context(place, cfg=config())
        context.spec, context.store.device = replace(context.spec, **statistics), torch.device(device)
        split = {**SETS["colours"], "data_root": str(place / "data/colours"), "pipeline": PIPELINE}
        return str(protocol().run_config("colours", split, context).work_dir)

    assert len({folder(), folder(mean=(0.5,) * 3), folder(std=(0.5,) * 3), folder("cuda")}) == 4


def test_a_multi_label_set_fails(place: Path) -> None:
    result = protocol(with_several_labels()).run(eval_context(place, cfg=config()))
    assert result.failed["colours"].startswith("images of several labels: the probe needs one label per image")
    assert not (place / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("with_val", [False, True], ids=["a fifth", "val"])
def test_the_head_is_chosen_on_validation_images_and_tested(place: Path, with_val: bool) -> None:
    cfg = config()
    settings = {"cached": True, "batch_size": 16, "epochs": 1, "min_iterations": 12, "validations": 2}
    probing = protocol(**settings)
    if with_val:
        for name in ("class0", "class1", "class2"):
            (place / "data/colours/val" / name).mkdir(parents=True)
            for number in "789":
                moved = f"{name}/0{number}.png"
                (place / "data/colours/train" / moved).rename(place / "data/colours/val" / moved)
    context = eval_context(place, cfg=cfg, train=train)
    context.test = run_test
    result = probing.run(context)
    assert not result.failed
    row = result.rows["colours"]
    chosen, images = ("val", "21 / 9 / 18") if with_val else ("a random fifth of train", "24 / 6 / 18")
    assert (row["iterations"], row["head chosen on"], row["train / val / test images"]) == (12, chosen, images)
    folder = place / "out" / row["run"]
    state = weights(folder / "iter_12.pth")

    def accuracies(part: str) -> list[float]:
        features, truth = saved(place, part, "probe")
        # Four blocks' cls tokens and the mean patch, and the slices that the heads of each bank read.
        reads = [features[:, start:stop].reshape(len(truth), -1) for start, stop in ((3, 4), (3, 5), (0, 4), (0, 5))]
        banks = list(dict.fromkeys(key.split(".")[1] for key in state if key.startswith("heads.")))
        found = []
        for name, read in zip(banks, reads, strict=True):
            for rate in range(2):
                weight, bias = (state[f"heads.{name}.{part}.{rate}"].numpy() for part in ("weights", "biases"))
                found.append(100 * ((read @ weight.T + bias).argmax(1) == truth).mean())
        return found

    validated, tested = accuracies("val"), accuracies("test")
    assert len(set(validated)) > 1
    best = int(state["best_head"])
    assert row["val top-1"] == pytest.approx(max(validated)) == pytest.approx(validated[best])
    assert row["test top-1"] == pytest.approx(tested[best])
    assert main_score(row) == row["test top-1"]
    assert (folder / "probe_grid.png").is_file()
    assert result.pictures == [f"{row['run']}/probe_grid.png"]
    assert result.notes == [
        "test top-1: of the best head on validation images, which are not trained on",
        "one view of each image, extracted once: not the paper's protocol",
    ]

    # The finished run is reused: nothing is trained a second time.
    (place / "out/results/linear-cached/colours.json").unlink()
    written = (folder / "iter_12.pth").stat().st_mtime_ns
    again = probing.run(context)
    assert again.rows == result.rows
    assert (folder / "iter_12.pth").stat().st_mtime_ns == written
