from __future__ import annotations

import re
from pathlib import Path

import pytest
from runs import ROOT, tool, trained

RECIPES = {
    # parameters of the teacher and of the student in millions (with 1 + 16 x 16 positions, not 1 + 37 x 37), and
    # GFLOPs per image of the teacher
    "vit-ti_dinov2-s": (21.63, 5.51, 12.2),
    "vit-s_dinov2-b": (85.72, 21.63, 46.3),
    "vit-b_dinov2-l": (303.23, 85.72, 162.0),
    "vit-l_dinov2-g": (1134.77, 303.23, 598.8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_of_the_paper(name: str, tmp_path: Path) -> None:
    output = trained("train.py", ROOT / f"configs/proteus/{name}.py", "--check", "--work-dir", tmp_path / "run")
    teacher, student = (
        (float(p), float(f))
        for p, f in re.findall(r"(?:teacher|student) +([\d.]+) M parameters, ([\d.]+) GFLOPs", output)
    )
    assert (teacher[0], student[0], teacher[1]) == pytest.approx(RECIPES[name], rel=0.01)
    low, full = map(float, re.search(r"about ([\d.]+) GiB in bfloat16, ([\d.]+) in float32", output).groups())
    assert 1 < low < full < 80
    assert "data/imagenet/train" in output
    assert "checkpoints/dinov2_vit" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_wrong_key_fails_the_check() -> None:
    recipe = ROOT / "configs/proteus/vit-ti_dinov2-s.py"
    done = tool("train.py", recipe, "--check", "--cfg-options", "model.objectivs.token.weight=1")
    assert done.returncode == 2
    assert "'objectives'" in done.stderr
