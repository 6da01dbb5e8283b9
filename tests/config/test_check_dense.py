from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from proteus.apis import ConfigError, load_config
from proteus.config.check_dense import batch_norm_for_cpus, check_dense, show_in, use_tta

pytest.importorskip("mmseg")
FOLDER = Path(__file__).parents[2] / "configs/ade20k"


def upernet(**overrides: Any) -> Config:
    return load_config(FOLDER / "vit-s_upernet.py", {key.replace("__", "."): value for key, value in overrides.items()})


def test_sizes_that_do_not_divide_or_do_not_agree() -> None:
    check_dense(upernet())
    with pytest.raises(ConfigError, match=r"model\.test_cfg\.crop_size = \(512, 512\): .*14 px wide; write 504 or 518"):
        check_dense(upernet(model__test_cfg__crop_size=(512, 512)))
    with pytest.raises(
        ConfigError, match=r"pipeline\[4\]\.crop_size = \(504, 504\): model\.data_preprocessor\.size is"
    ):
        check_dense(upernet(train_dataloader__dataset__dataset__pipeline__4__crop_size=(504, 504)))
    with pytest.raises(
        ConfigError, match=r"test_cfg\.size = \(504, 504\), but model\.test_cfg\.crop_size = \(518, 518\)"
    ):
        check_dense(upernet(model__data_preprocessor__test_cfg__size=(504, 504)))
    check_dense(load_config(FOLDER / "vit-s_linear-dinov2.py"))  # 512 px, padded


@pytest.mark.parametrize("stride", [(519, 300), (300, 519)])
def test_windows_that_leave_pixels_out_are_refused(stride: tuple[int, int]) -> None:
    check_dense(upernet(model__test_cfg__stride=(518, 518)))
    with pytest.raises(
        ConfigError, match=r"model\.test_cfg\.stride: found \(.*519.*\), expected at most crop_size \(518"
    ):
        check_dense(upernet(model__test_cfg__stride=stride))


def test_tta_and_pictures_are_added() -> None:
    cfg = upernet()
    use_tta(cfg)
    assert (cfg.model.type, cfg.model.module.type) == ("SegTTAModel", "EncoderDecoder")
    views = cfg.test_dataloader.dataset.dataset.pipeline[1]
    assert views.type == "TestTimeAug"
    assert len(views.transforms[0]) * len(views.transforms[1]) == 12
    show_in(cfg, "there")
    ours = {"type": "proteus.SegmentationVisualizationHook", "draw": True, "out_dir": "there"}
    assert cfg.default_hooks.visualization == ours
    cfg.default_hooks.visualization = {"type": "SegVisualizationHook", "interval": 5}  # mmseg's
    show_in(cfg, "there")
    assert cfg.default_hooks.visualization == ours


def test_a_config_without_tta_or_pictures_is_refused() -> None:
    probe = load_config(FOLDER.parent / "linear_probe/vit-s.py")
    with pytest.raises(ConfigError, match="--tta: the config has no tta_model and no tta_pipeline"):
        use_tta(probe)
    with pytest.raises(ConfigError, match=r"--show-dir: the config has no default_hooks\.visualization"):
        show_in(probe, "there")


def test_sync_bn_on_several_processes_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = upernet()
    batch_norm_for_cpus(cfg)
    assert cfg.model.neck.norm_cfg.type == "SyncBN"  # MMEngine sees to a single process
    cfg.launcher = "pytorch"
    batch_norm_for_cpus(cfg)
    assert {cfg.model[key].norm_cfg.type for key in ("neck", "decode_head", "auxiliary_head")} == {"BN"}


def test_sync_bn_by_default_on_several_processes_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    linear, pyramid = load_config(FOLDER / "vit-s_linear-dinov2.py"), upernet()
    assert "norm_cfg" not in linear.model.decode_head
    del pyramid.model.neck["norm_cfg"]
    pyramid.model.neck.type = "Feature2Pyramid"  # mmseg's
    for cfg in (linear, pyramid):
        cfg.launcher = "pytorch"
        batch_norm_for_cpus(cfg)
    assert linear.model.decode_head.norm_cfg == {"type": "BN"}
    assert pyramid.model.neck.norm_cfg == {"type": "BN", "requires_grad": True}
