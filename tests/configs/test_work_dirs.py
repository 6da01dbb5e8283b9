"""Where the released configs train by default."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmengine.config import Config

from proteus.apis.training import set_work_dir
from proteus.config.locate import config_names


def test_no_two_configs_train_in_one_folder(tmp_path: Path) -> None:
    """Checkpoints of different tasks would replace each other."""
    folders = {}
    for name, path in config_names().items():
        cfg = Config({}, filename=str(path))
        set_work_dir(cfg, None)
        folders[name] = cfg.work_dir
    assert not [folder for folder, count in Counter(folders.values()).items() if count > 1]
    assert folders["vit-s_dinov2-b"] == "work_dirs/vit-s_dinov2-b"
    assert folders["linear_probe/vit-s"] == "work_dirs/linear_probe/vit-s"
    assert folders["finetune/vit-s"] == "work_dirs/finetune/vit-s"
    (tmp_path / "vit-s.py").touch()
    own = Config.fromfile(tmp_path / "vit-s.py")
    set_work_dir(own, None)
    assert own.work_dir == "work_dirs/vit-s"
