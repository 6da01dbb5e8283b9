"""The run that the linear protocol asks for, and the figure that it reads from it."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from protocol_runs import PIPELINE, SETS, bench, saved, with_several_labels
from runs import ROOT, weights

from proteus.apis import load_config, train
from proteus.checkpoints.export import export_backbone
from proteus.evaluation.protocols import LinearProbing
from proteus.models import ViT

SMALL = {"model.learning_rates": (1e-3, 0.1), "default_hooks.logger.interval": 1000}


@lru_cache
def config() -> Config:
    return load_config(ROOT / "configs/linear_probe/protocol.py", SMALL)


def protocol(sets: Any = None, **options: Any) -> LinearProbing:
    return LinearProbing(sets=sets or SETS, pipeline=PIPELINE, **options)


def planned(place: Path, backbone: str = "random:test_vit", cfg: Config | None = None, **options: Any) -> Config:
    """The config of the run on ``colours``."""
    split = {**SETS["colours"], "data_root": str(place / "data/colours"), "pipeline": PIPELINE}
    return protocol(**options).run_config("colours", split, bench(place, backbone, cfg or config()))


@pytest.mark.parametrize(
    ("options", "batch", "iterations", "every"),
    [
        ({}, 30, 1000, 50),  # 30 images are one batch; 10 epochs are too few steps
        ({"batch_size": 8, "min_iterations": 4}, 8, 30, 1),  # three whole batches an epoch
        ({"batch_size": 8, "min_iterations": 4, "epochs": 100}, 8, 300, 15),
        ({"batch_size": 30, "epochs": 25, "min_iterations": 1, "validations": 4}, 30, 25, 6),
    ],
)
def test_the_schedule_follows_the_number_of_images(
    place: Path, options: dict[str, int], batch: int, iterations: int, every: int
) -> None:
    cfg = planned(place, **options)
    assert cfg.train_dataloader.batch_size == batch
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (iterations, every)
    assert (cfg.default_hooks.checkpoint.interval, cfg.default_hooks.checkpoint.max_keep_ckpts) == (every, 1)
    assert cfg.resume is True
    assert "protocol" not in cfg


def test_backbone_data_and_statistics_are_put_in(place: Path) -> None:
    own = config()
    found = bench(place, cfg=own)
    cfg = planned(place, cfg=own)
    assert cfg.model.num_classes == 3
    assert (cfg.model.backbone.type, cfg.model.backbone.img_size) == ("ViT", 32)
    assert tuple(cfg.model.data_preprocessor.mean) == tuple(found.spec.mean)
    parts = {key: (cfg[f"{key}_dataloader"].dataset.split) for key in ("train", "val", "test")}
    assert parts == {"train": "trainval", "val": "test", "test": "test"}
    kinds = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]
    assert "RandomResizedCrop" in kinds  # the run's own, not the protocol's
    assert own.model.num_classes == 1000  # and the protocol's config is as it was
    other = planned(place, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    assert tuple(other.model.data_preprocessor.mean) == (0.5, 0.4, 0.3)
    assert tuple(other.model.data_preprocessor.std) == (0.1, 0.2, 0.3)


def test_a_backbone_with_fewer_blocks_is_read_as_far_as_it_goes(place: Path, tmp_path: Path) -> None:
    assert list(planned(place).model.layers) == [1, 4]
    assert list(planned(place, "random:test_resnet").model.layers) == [1]
    # The feature table keeps the last four blocks, or as many as there are: two.
    vit = ViT("tiny", img_size=32, patch_size=16, embed_dim=48, depth=2, num_heads=3)
    arguments = dict(vit.timm_args)
    about = {"architecture": arguments.pop("model_name"), "arguments": arguments, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    shallow = export_backbone(vit.timm_state(), tmp_path / "shallow.safetensors", about)
    assert list(planned(place, str(shallow)).model.layers) == [1, 2]


@pytest.mark.slow
def test_a_run_of_something_else_has_another_folder(place: Path) -> None:
    first = planned(place).work_dir
    assert planned(place).work_dir == first
    assert Path(first).parent == place / "out/linear"
    other = copy.deepcopy(config())
    other.model.learning_rates = (1e-3,)
    others = [
        planned(place, "random:test_vit:1").work_dir,
        planned(place, cfg=other).work_dir,
        planned(place, cached=True).work_dir,
    ]
    (place / "data/colours/test/class0/00.png").unlink()
    others.append(planned(place).work_dir)
    assert len({first, *others}) == 5
    assert Path(others[2]).parent == place / "out/linear-cached"


def test_images_of_several_labels_have_no_probe(place: Path) -> None:
    outcome = protocol(with_several_labels()).run(bench(place, cfg=config()))
    assert outcome.failed["colours"].startswith("images of several labels: the probe needs one label an image")
    assert not (place / "out").exists()


@pytest.mark.slow
def test_the_figure_is_that_of_the_best_head_on_the_saved_features(place: Path) -> None:
    cfg = config()
    settings = {"cached": True, "batch_size": 16, "epochs": 1, "min_iterations": 12, "validations": 2}
    judged = protocol(**settings)
    outcome = judged.run(bench(place, cfg=cfg, train=train))
    assert not outcome.failed
    row = outcome.rows["colours"]
    assert (row["iterations"], row["train"], row["test"]) == (12, 30, 18)
    folder = place / "out" / row["run"]
    state = weights(folder / "iter_12.pth")
    features, truth = saved(place, "test", "probe")
    # Four blocks' cls tokens and the mean patch; what the heads of each bank read of them.
    reads = [features[:, start:stop].reshape(18, -1) for start, stop in ((3, 4), (3, 5), (0, 4), (0, 5))]
    banks = list(dict.fromkeys(key.split(".")[1] for key in state if key.startswith("heads.")))
    accuracies = []
    for name, read in zip(banks, reads, strict=True):
        for rate in range(2):
            weight, bias = (state[f"heads.{name}.{part}.{rate}"].numpy() for part in ("weights", "biases"))
            accuracies.append(100 * ((read @ weight.T + bias).argmax(1) == truth).mean())
    assert len(set(accuracies)) > 1
    assert row["best"] == pytest.approx(max(accuracies))
    assert accuracies[int(state["best_head"])] == pytest.approx(row["best"])
    assert (folder / "probe_grid.png").is_file()
    assert outcome.pictures == [f"{row['run']}/probe_grid.png"]
    assert outcome.notes == ["one view of each image, extracted once: not the paper's protocol"]

    # What is kept of the run is enough: nothing is trained a second time.
    (place / "out/results/linear-cached/colours.json").unlink()
    written = (folder / "iter_12.pth").stat().st_mtime_ns
    again = judged.run(bench(place, cfg=cfg, train=train))
    assert again.rows == outcome.rows
    assert (folder / "iter_12.pth").stat().st_mtime_ns == written
