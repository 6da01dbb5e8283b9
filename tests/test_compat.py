import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from PIL import Image, ImageOps
from timm.data import auto_augment

from proteus import compat
from proteus.apis import ConfigError, load_config


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that looks for packages in ``folder`` first."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_after_proteus_torchvision_and_timm_can_be_imported(tmp_path: Path) -> None:
    code = "import proteus, torchvision.transforms.v2, timm; print(torchvision.__version__)"
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.slow
def test_other_faults_of_torchvision_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('built for another planet')")
    result = run("import proteus, torchvision", tmp_path)
    assert result.returncode != 0
    assert "built for another planet" in result.stderr


def test_working_torchvision_is_not_patched() -> None:
    import torchvision  # works, since proteus is imported

    assert torchvision.transforms is not None
    assert compat.fix_torchvision() is False


def test_posterize_at_zero_bits_is_black_as_it_was_before_pillow_13(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_augment, "NAME_TO_OP", dict(auto_augment.NAME_TO_OP))
    applied = compat.fix_posterize()
    image = Image.effect_noise((8, 8), 100).convert("RGB")
    try:
        ImageOps.posterize(image, 0)
        assert not applied
    except ValueError:
        assert applied
    names = [name for name in auto_augment.NAME_TO_OP if name.startswith("Posterize")]
    assert len(names) >= 3
    for name in names:
        black = auto_augment.NAME_TO_OP[name](image, 0)
        assert (black.mode, black.size, black.getextrema()) == ("RGB", (8, 8), ((0, 0),) * 3)
        for bits in (1, 4, 8):
            assert auto_augment.NAME_TO_OP[name](image, bits).tobytes() == ImageOps.posterize(image, bits).tobytes()


def test_log_lines_that_name_files_which_are_not_utf_8_are_written(tmp_path: Path) -> None:
    compat.fix_log_encoding()
    logger = MMLogger("names", logger_name="names", log_file=str(tmp_path / "a.log"))
    logger.warning("corrupt: caf\udce9.jpg")
    for handler in logger.handlers:
        handler.flush()
    assert "corrupt: caf\\udce9.jpg\n" in (tmp_path / "a.log").read_text(encoding="utf-8")
    assert compat.fix_log_encoding() is False


def test_a_config_elsewhere_takes_one_of_ours_as_its_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text('_base_ = "proteus::proteus/vit-s_dinov2-b.py"\nmodel = dict(student=dict(drop_path_rate=0.1))\n')
    wanted = load_config("configs/proteus/vit-s_dinov2-b.py", {"model.student.drop_path_rate": 0.1}).model
    found = load_config(path).model
    # MMEngine notes the package's scope in each part.
    assert _without_scope(found.to_dict()) == wanted.to_dict()
    assert Config.fromfile(path).model.student.drop_path_rate == 0.1
    path.write_text('_base_ = "proteus::proteus/nothing.py"\n')
    with pytest.raises(ConfigError, match=r"_base_: no such config file: .*proteus/nothing\.py"):
        load_config(path)


def _without_scope(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_scope(item) for key, item in value.items() if key != "_scope_"}
    return [_without_scope(item) for item in value] if isinstance(value, list) else value
