"""Caches of the teacher's embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from runs import write_images

from projects.dime_fm import cache_sentences
from projects.dime_fm.distiller import UnpairedDistiller
from projects.dime_fm.sentence_cache import SentenceCache
from projects.dime_fm.train import fill_caches
from projects.dime_fm.unpaired import UnpairedFixedViews, unpaired_collate
from proteus.apis import ConfigError, load_config
from proteus.datasets import SampleKey
from proteus.datasets.teacher_cache import CacheError, StaleCacheError
from proteus.engine.hooks.teacher_cache import cache_fingerprint, stale
from proteus.registry import DATASETS, MODELS

CONFIG = """
default_scope = "proteus"
custom_imports = dict(imports=["projects.dime_fm.distiller", "projects.dime_fm.unpaired", "projects.dime_fm.losses"])
tower = dict(type="OpenClipText", context_length=16, width=32, layers=1, heads=2)
vit = dict(type="ViT", arch="clip-base", patch_size=14, embed_dim=64, depth=1, num_heads=1)
sentences = dict(type="SentenceSet", list_file="{folder}/sentences.txt", context_length=16, held_out=4)
model = dict(
    type="UnpairedDistiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="FrozenDualEncoder",
        seed=3,
        encoder=dict(type="DualEncoder", embed_dim=24, img_size=28, scale=20.0, image=vit, text=tower),
    ),
    student=dict(type="DualEncoder", embed_dim=24, img_size=28, image=vit, text={text}),
    losses=dict(
        score=dict(type="ScoreDistillationLoss", weight=0.7),
        pseudo_images=dict(type="PseudoPairLoss", weight=0.3, temperature=3.0),
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="ProxySampler"),
    collate_fn=dict(type="unpaired_collate"),
    dataset=dict(
        type="UnpairedFixedViews",
        views=2,
        cache="{folder}/images-cache",
        sentences_per_image=3,
        sentences=dict(split="train", cache="{folder}/sentences-cache", **sentences),
        dataset=dict(
            type="ImageFolder",
            data_root="{folder}/images",
            pipeline=[
                dict(type="LoadImage"),
                dict(type="RandomResizedCrop", scale=28),
                dict(type="RandomFlip"),
                dict(type="ToTensor", dtype="uint8"),
                dict(type="PackInputs"),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="UnpairedSet",
        dataset=dict(type="ImageFolder", data_root="{folder}/images"),
        sentences=dict(split="held-out", cache="{folder}/sentences-cache", **sentences),
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.05))
val_cfg = dict(type="ValLoop")
val_evaluator = dict(type="StudentTeacherAccuracy")
"""


def write(folder: Path, text: str = "None") -> Config:
    init_default_scope("proteus")  # as the runner does, for data sets and models that are built without it
    write_images(folder / "images", 10)
    words = ["dog", "cat", "sea", "house", "tree", "road", "boat", "cloud"]
    (folder / "sentences.txt").write_text("\n".join(f"the {a} and the {b}" for a in words for b in words))
    path = folder / "small.py"
    path.write_text(CONFIG.format(folder=folder, text=text))
    return load_config(path)


def parts(cfg: Config, cached: bool) -> tuple[UnpairedDistiller, UnpairedFixedViews]:
    config = cfg.train_dataloader.dataset.to_dict()
    if not cached:
        config["cache"] = config["sentences"]["cache"] = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model), DATASETS.build(config)


def batches(dataset: UnpairedFixedViews) -> Iterator[dict[str, Any]]:
    for epoch in range(5):
        for start in (0, 5):
            yield unpaired_collate([dataset[SampleKey(0, epoch, image)] for image in range(start, start + 5)])


def losses(cfg: Config, cached: bool) -> list[float]:
    model, dataset = parts(cfg, cached)
    if cached:

        def refuse(*_: Any) -> None:
            raise AssertionError("the teacher ran")

        model.teacher.encode_images = model.teacher.encode_texts = refuse  # type: ignore[method-assign, assignment]
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    return [model.train_step(batch, optimizer)["loss"].item() for batch in batches(dataset)]


@pytest.mark.parametrize("text", ["None", "tower"])
def test_ten_cached_steps_equal_those_with_a_running_teacher(tmp_path: Path, text: str) -> None:
    cfg = write(tmp_path, text)
    fill_caches(cfg)
    found, wanted = losses(cfg, True), losses(cfg, False)
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert len(found) == 10
    assert wanted[-1] < wanted[0]


def test_all_splits_share_a_cache(tmp_path: Path) -> None:
    cfg = write(tmp_path)
    assert cache_sentences.build(cfg, batch_size=7) == [tmp_path / "sentences-cache"]
    teacher = MODELS.build(cfg.model).teacher
    for loader in ("train_dataloader", "val_dataloader"):
        sentences = DATASETS.build(cfg[loader].dataset.sentences)
        everything = range(len(sentences))
        wanted = teacher.encode_texts(sentences.tokens(everything))
        torch.testing.assert_close(sentences.teacher_texts(everything), wanted, atol=1e-6, rtol=0)
    assert len(sentences) < SentenceCache(tmp_path / "sentences-cache").index.count == 64


def test_an_interrupted_build_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = write(tmp_path)
    monkeypatch.setattr(cache_sentences, "_FILE_BYTES", 16 * 24 * 4)
    cache_sentences.build(cfg, batch_size=8)
    files = sorted((tmp_path / "sentences-cache").glob("*.safetensors"))
    assert len(files) == 4
    before = [file.stat().st_mtime_ns for file in files]
    content = files[2].read_bytes()
    files[2].unlink()
    index = tmp_path / "sentences-cache/index.json"
    index.write_text(index.read_text().replace('"complete": true', '"complete": false'))
    sentences = DATASETS.build(cfg.train_dataloader.dataset.sentences)
    with pytest.raises(CacheError, match=r"unfinished sentence cache in .*cache_sentences CONFIG"):
        sentences.teacher_texts([0])
    cache_sentences.build(cfg, batch_size=8)
    assert files[2].read_bytes() == content
    kept = [file.stat().st_mtime_ns == was for file, was in zip(files, before, strict=True)]
    assert kept == [True, True, False, True]
    sentences.teacher_texts([0])


def test_stale_caches_are_reported(tmp_path: Path) -> None:
    cfg = write(tmp_path)
    with pytest.raises(CacheError, match=r"no sentence cache in .*cache_sentences CONFIG"):
        parts(cfg, True)[1].describe()
    fill_caches(cfg)
    model, dataset = parts(cfg, True)
    assert "teacher embeddings from" in dataset.describe()

    # Another teacher: reported at the first step.
    config = cfg.model.to_dict()
    config["teacher"]["seed"] = 4
    other = MODELS.build(config)
    batch = unpaired_collate([dataset[SampleKey(0, 0, image)] for image in range(4)])
    with pytest.raises(StaleCacheError, match=r"from another teacher(.|\n)*teacher.text.weights: the cache was built"):
        other(**other.data_preprocessor(batch, True), mode="loss")
    with pytest.raises(StaleCacheError, match=r"holds a cache of other data:(.|\n)*teacher.weights"):
        cache_sentences.build(Config({**cfg.to_dict(), "model": config}, filename=cfg.filename))
    index = dataset.cache.index  # type: ignore[union-attr]
    problems = stale(index, cache_fingerprint(other, config, dataset), 2)
    assert [line.partition(":")[0] for line in problems] == ["teacher.weights"]
    # The teacher sees images as the preprocessor normalises them.
    config = cfg.model.to_dict()
    config["data_preprocessor"]["mean"] = (0.5, 0.5, 0.5)
    problems = stale(index, cache_fingerprint(MODELS.build(config), config, dataset), 2)
    assert [line.partition(":")[0] for line in problems] == ["teacher.mean"]
    assert stale(index, cache_fingerprint(model, cfg.model, dataset), 2) == []

    # Other sentences, or other tokens of them.
    config = cfg.train_dataloader.dataset.sentences.to_dict()
    with pytest.raises(
        StaleCacheError, match=r"sentences.context_length: the cache was built with 16, this run has 12"
    ):
        DATASETS.build({**config, "context_length": 12}).describe()
    (tmp_path / "sentences.txt").write_text("\n".join(f"another {number}" for number in range(64)))
    with pytest.raises(StaleCacheError, match=r"of other sentences(.|\n)*sentences.files: the cache was built with"):
        DATASETS.build(config).describe()


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    cfg = write(tmp_path)
    cache_sentences.build(cfg)
    file = tmp_path / "sentences-cache/texts-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    sentences = DATASETS.build({**cfg.train_dataloader.dataset.sentences, "split": "all"})
    with pytest.raises(CacheError, match=r"texts-00000.safetensors is damaged \(row \d+\)"):
        sentences.teacher_texts(range(64))
    file.write_bytes(content[:1000])
    sentences = DATASETS.build({**cfg.train_dataloader.dataset.sentences, "split": "all"})
    with pytest.raises(CacheError, match=r"1 files in .* are missing or damaged, such as texts-00000"):
        sentences.teacher_texts([0])
    index = tmp_path / "sentences-cache/index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "format": 9}))
    with pytest.raises(CacheError, match="another format version"):
        SentenceCache(tmp_path / "sentences-cache").read(0)
    cfg.train_dataloader.dataset.sentences.cache = cfg.val_dataloader.dataset.sentences.cache = None
    with pytest.raises(ConfigError, match="no data loader's sentences have a 'cache'"):
        cache_sentences.build(cfg)
