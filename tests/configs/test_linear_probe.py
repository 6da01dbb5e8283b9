from pathlib import Path

import pytest

from proteus.apis import ConfigError, check, load_config

FOLDER = Path(__file__).parents[2] / "configs/linear_probe"
# Parameters of the backbone in millions, and its GFLOPs for an image of 224 px: twice the GMAC of
# docs/reproduction.md#compute-per-image.
SIZES = {"vit-ti": (5.51, 3.4), "vit-s": (21.63, 12.2), "vit-b": (85.72, 46.3), "vit-l": (303.23, 162.0)}
CNN = {"type": "TimmBackbone", "arch": "resnet10t", "_delete_": True}


def test_all_configs_are_covered() -> None:
    assert {path.stem for path in FOLDER.glob("vit-*.py")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_configs_build_without_data(name: str) -> None:
    text = check(load_config(FOLDER / f"{name}.py"))
    parameters, flops = SIZES[name]
    assert f"{parameters:.2f} M parameters, frozen, {flops:.1f} GFLOPs per image" in text
    assert "52 linear heads" in text
    for missing in (
        "data/imagenet/train",
        "data/imagenet/val",
        f"work_dirs/{name}_dinov2-",
        "model.backbone.checkpoint",
    ):
        assert missing in text


def test_protocol_settings() -> None:
    """The numbers of docs/reproduction.md#linear-probe."""
    cfg = load_config(FOLDER / "vit-s.py")
    assert (4 * cfg.train_dataloader.batch_size, cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (
        512,
        25020,
        1250,
    )
    assert (cfg.auto_scale_lr.base_batch_size, cfg.auto_scale_lr.enable) == (256, True)
    assert cfg.model.learning_rates == (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
    assert (cfg.model.layers, cfg.model.avgpool, cfg.model.num_classes) == ((1, 4), (False, True), 1000)
    sgd = {key: value for key, value in cfg.optim_wrapper.optimizer.items() if key != "_scope_"}
    assert sgd == {"type": "SGD", "momentum": 0.9, "weight_decay": 0.0}
    steps = cfg.val_dataloader.dataset.pipeline
    assert (steps[1].type, steps[1].scale, steps[1].interpolation) == ("ResizeEdge", 256, "bicubic")
    assert (steps[2].type, steps[2].crop_size) == ("CenterCrop", 224)


def test_other_backbones(tmp_path: Path) -> None:
    text = f"_base_ = {str(FOLDER / 'vit-s.py')!r}\nmodel = dict(backbone={CNN}, layers=(1,))\n"
    (tmp_path / "cnn.py").write_text(text)
    assert "26 linear heads" in check(load_config(tmp_path / "cnn.py"))
    (tmp_path / "cnn.py").write_text(text.replace("layers=(1,)", "layers=(1, 4)"))
    with pytest.raises(ConfigError, match=r"write model\.layers=\(1,\)"):
        check(load_config(tmp_path / "cnn.py"))
    with pytest.raises(ConfigError, match=r"optimizer\.lr.*model\.learning_rates"):
        check(load_config(FOLDER / "vit-s.py", {"optim_wrapper.optimizer.lr": 0.1}))
