"""The project's configs, and runs of the tools."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from runs import ROOT, log_lines, tool, trained, weights, write_images

from proteus.apis import check, load_config

CONFIGS = sorted(path for path in (ROOT / "projects/dime_fm/configs").glob("*.py") if path.stem != "recipe")
CONFIG = """
_base_ = "{recipe}"

encoder = dict(context_length=16, width=32, layers=1, heads=2)
model = dict(
    teacher=dict(
        seed=0,
        encoder=dict(embed_dim=16, img_size=28, checkpoint=None, image=dict(embed_dim=64, depth=1, num_heads=1),
                     text=encoder),
    ),
    student=dict(embed_dim=16, img_size=28, image=dict(patch_size=14, embed_dim=64, depth=1, num_heads=1),
                 text=dict(type="OpenClipText", **encoder)),
    zero_shot=dict(names=["a thing", "another"], templates=["a photo of {{}}.", "{{}}."]),
)
train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = 28
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale = val_pipeline[2].crop_size = 28
sentences = dict(list_file="{sentences}", context_length=16, held_out=4)
plain = dict(num_workers=0, persistent_workers=False, pin_memory=False)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        dataset=dict(_delete_=True, type="ImageFolder", data_root="{images}", pipeline=train_pipeline),
        sentences=sentences,
    ),
    **plain,
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        dataset=dict(data_root="{images}", num_classes=2, pipeline=val_pipeline, indices=12), sentences=sentences
    ),
    **plain,
)
test_dataloader = dict(
    batch_size=8, dataset=dict(data_root="{images}", num_classes=2, pipeline=val_pipeline), **plain
)
optim_wrapper = dict(optimizer=dict(lr=1e-3, fused=False))
param_scheduler = dict(_delete_=True, type="ConstantLR", factor=1.0, by_epoch=False)
train_cfg = dict(max_iters=4, val_interval=100)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
custom_hooks = [dict(type="BeforeAfterHook", note="A random teacher.")]
"""


def write(folder: Path) -> Path:
    words = ["dog", "cat", "sea", "house", "tree", "road", "boat", "cloud"]
    sentences = folder / "sentences.txt"
    sentences.write_text("\n".join(f"the {a} and the {b}" for a in words for b in words))
    recipe = ROOT / "projects/dime_fm/configs/recipe.py"
    path = folder / "small.py"
    images = write_images(folder / "images")
    path.write_text(CONFIG.format(recipe=recipe, images=images, sentences=sentences))
    return path


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configs_are_complete(config: Path) -> None:
    report = check(load_config(config))
    assert "every key is known and every part was built" in report


@pytest.mark.slow
def test_train_resume_and_test(tmp_path: Path) -> None:
    config = write(tmp_path)
    whole = trained("train.py", config, "--work-dir", tmp_path / "run")
    losses = [float(re.search(r" loss: ([\d.]+)", line)[1]) for line in log_lines(whole)]  # type: ignore[index]
    assert len(losses) == 4
    table = (tmp_path / "run/table.md").read_text()
    assert "| | before | after 4 iterations |" in table
    assert re.search(r"\| scores/kl \| \d+\.\d+ \| \d+\.\d+ \|", table)
    assert "A random teacher." in table

    first, last = (tmp_path / f"run/iter_{number}.pth" for number in (2, 4))
    assert {name.split(".")[0] for name in weights(last)} == {"student"}
    trained("train.py", config, "--work-dir", tmp_path / "resumed", "--resume", first)
    again = weights(tmp_path / "resumed/iter_4.pth")
    assert all(value.equal(again[name]) for name, value in weights(last).items())
    assert "not measured" in (tmp_path / "resumed/table.md").read_text()

    output = trained("test.py", config, last, "--work-dir", tmp_path / "test")
    assert re.search(r"accuracy/student: \d+\.\d+ +accuracy/teacher: \d+\.\d+", output)
    assert (tmp_path / "run/student.safetensors").is_file()


CACHED = """
_base_ = "{base}"

sentences = dict(type="SentenceSet", list_file="{folder}/sentences.txt", context_length=16, held_out=4)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="UnpairedFixedViews",
        views=2,
        cache="{folder}/cache/images",
        sentences_per_image=2,
        sentences=dict(split="train", cache="{folder}/cache/sentences", **sentences),
        dataset=dict(type="ImageFolder", data_root="{folder}/images", pipeline=_base_.train_pipeline),
    ),
)
val_dataloader = dict(dataset=dict(sentences=dict(cache="{folder}/cache/sentences")))
optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=0.1, weight_decay=0.0))
"""


@pytest.mark.slow
def test_one_command_fills_the_caches_and_trains(tmp_path: Path) -> None:
    cached = tmp_path / "cached.py"
    cached.write_text(CACHED.format(base=write(tmp_path), folder=tmp_path))
    done = tool("-m", "projects.dime_fm.train", cached, "--work-dir", tmp_path / "run")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "teacher embeddings from" in done.stdout + done.stderr
    assert "training does not run the teacher" in done.stdout + done.stderr
    assert (tmp_path / "run/table.md").is_file()

    keys = (
        "train_dataloader.dataset.cache",
        *(f"{part}_dataloader.dataset.sentences.cache" for part in ("train", "val")),
    )
    trained("train.py", cached, "--work-dir", tmp_path / "running", "--cfg-options", *(f"{key}=None" for key in keys))
    running = weights(tmp_path / "running/iter_4.pth")
    for name, value in weights(tmp_path / "run/iter_4.pth").items():
        torch.testing.assert_close(value, running[name], atol=1e-5, rtol=1e-4)

    other = (cached, "--work-dir", tmp_path / "other", "--cfg-options", "model.teacher.seed=1")
    refused = tool("-m", "projects.dime_fm.train", *other)
    assert refused.returncode == 2
    assert "holds a cache of other data" in refused.stderr
    assert "Traceback" not in refused.stderr
    # tools/train.py does not fill caches, but also refuses those of another teacher.
    done = tool("train.py", *other)
    assert done.returncode == 2
    assert "teacher.weights: the cache was built with" in done.stderr
