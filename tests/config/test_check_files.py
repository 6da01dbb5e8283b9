from pathlib import Path

import pytest
from mmengine.config import Config

from proteus.apis import ConfigError, load_config
from proteus.config.check_files import check_files, missing_files
from proteus.structures import DataError


@pytest.fixture
def cfg() -> Config:
    return load_config("configs/proteus/vit-ti_dinov2-s.py")


def test_feature_tables_are_files() -> None:
    table = {"type": "FeatureTable", "features": "x.npy", "labels": "y.npy"}
    assert [entry.path for entry in missing_files(Config({"train_dataloader": {"dataset": table}}))] == [
        "x.npy",
        "y.npy",
    ]


def test_missing_files_are_named_by_their_keys(cfg: Config, tmp_path: Path) -> None:
    names = {entry.key: entry.path for entry in missing_files(cfg)}
    assert names == {
        "model.teacher.backbone.checkpoint": "checkpoints/dinov2_vits14_pretrain.pth",
        "train_dataloader.dataset.data_root": "data/imagenet/train",
        "val_dataloader.dataset.data_root": "data/imagenet/val",
        "test_dataloader.dataset.data_root": "data/imagenet/val",
    }
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_files(cfg, ("model", "train_dataloader"))
    assert "model.teacher.backbone.checkpoint" in str(caught.value)
    assert "train_dataloader" not in str(caught.value)
    check_files(cfg, ("train_dataloader",))


def test_load_from_must_exist(cfg: Config, tmp_path: Path) -> None:
    (tmp_path / "iter_10.pth").touch()
    cfg.load_from = str(tmp_path / "iter_1O.pth")
    assert "load_from" in {entry.key for entry in missing_files(cfg)}
    with pytest.raises(ConfigError) as caught:
        check_files(cfg, ("load_from",))
    (problem,) = caught.value.problems
    assert problem == (
        f"load_from = '{tmp_path / 'iter_1O.pth'}' does not exist (there is '{tmp_path / 'iter_10.pth'}'); create "
        "it, or name another path with --cfg-options load_from=..."
    )
    for there in (str(tmp_path / "iter_10.pth"), "https://example.org/x.pth", None):
        cfg.load_from = there
        check_files(cfg, ("load_from",))


def test_paths_in_lists_are_found() -> None:
    cfg = Config({"train_dataloader": {"dataset": {"datasets": [{"data_root": "no/where"}, {"data_root": ""}]}}})
    (entry,) = missing_files(cfg)
    assert str(entry) == "train_dataloader.dataset.datasets[0].data_root = 'no/where'"


def test_urls_of_remote_shards_are_not_missing_and_hold_no_secrets(cfg: Config) -> None:
    cfg.train_dataloader.dataset = {"type": "WebShards", "data_root": "s3://bucket/set"}
    check_files(cfg, ("train_dataloader",))
    cfg.train_dataloader.dataset.data_root = "https://me:hunter2@host/set"
    with pytest.raises(DataError, match=r"train_dataloader\.dataset\.data_root: https://\*\*\*@host/set") as refused:
        check_files(cfg, ("train_dataloader",))
    assert "hunter2" not in str(refused.value)
    cfg.train_dataloader.dataset = {"type": "ImageFolder", "data_root": "s3://bucket/set"}
    with pytest.raises(ConfigError, match="does not exist"):
        check_files(cfg, ("train_dataloader",))
