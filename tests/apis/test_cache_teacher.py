"""Build a teacher cache: its contents, resuming after an interruption, growing, and errors."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_runs import built, contents, job_of, write_fixed
from runs import run_code, talk_to, tool, write_config, write_images, write_teacher

from proteus.apis import ConfigError, load_config
from proteus.apis.cache_teacher import build, format_plan
from proteus.datasets import ProxySampler, distill_collate
from proteus.datasets.teacher_cache import (
    CacheError,
    CacheIndex,
    StaleCacheError,
    TeacherCache,
    read_index,
)
from proteus.engine.hooks.teacher_cache import cache_fingerprint, stale
from proteus.registry import DATASETS, MODELS
from proteus.structures import FullDiskError, LockedError, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    images, teacher = write_images(folder / "images"), write_teacher(folder / "teacher.safetensors")
    write_fixed(write_config(folder, images, teacher), folder / "fixed.py", images, folder / "cache")
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> Path:
    return folder / "fixed.py"


@pytest.fixture(scope="module")
def cache(config: Path, folder: Path) -> Path:
    built(config)
    return folder / "cache"


@pytest.fixture
def copy(cache: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cache, tmp_path / "copy"))


def test_cls_equals_the_teachers_bit_for_bit(config: Path, cache: Path) -> None:
    """In the very batches that the build made, since the order of sums depends on a batch's size."""
    job = job_of(config)
    reader = TeacherCache(cache)
    for shard in job.index.shards():
        images = range(shard.start, shard.stop)
        features = job.encode(distill_collate([job.dataset.view(image, shard.view) for image in images]))
        for row, image in enumerate(images):
            tokens = reader.read(image, shard.view)
            assert torch.equal(torch.from_numpy(tokens.cls), features.cls[row])
            assert torch.equal(torch.from_numpy(tokens.patches), features.patches[row].half())


def test_a_step_with_the_cache_runs_no_teacher(config: Path, cache: Path) -> None:
    cfg = load_config(config)
    model = MODELS.build(cfg.model)
    losses = []
    for folder in (None, str(cache)):
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, "cache": folder})
        keys = iter(ProxySampler(dataset, seed=3, repeats=3))
        for _ in range(2):
            batch = distill_collate([dataset[next(keys)] for _ in range(6)])
            losses.append(model(**model.data_preprocessor(batch, True), mode="loss"))
        # A teacher that is asked from now on would give no number.
        for parameter in model.teacher.backbone.parameters():
            parameter.fill_(float("nan"))
    for with_teacher, with_cache in zip(losses[:2], losses[2:], strict=True):
        for name, value in with_teacher.items():
            torch.testing.assert_close(with_cache[name], value, atol=1e-4, rtol=0)


def test_the_plan_is_printed_before_anything_is_written(config: Path, tmp_path: Path) -> None:
    job = job_of(config, out=tmp_path / "new")
    text = format_plan(job)
    assert "24 images x 2 views x 2,316 bytes" in text
    assert "64 float32" in text
    assert "16 x 64 float16" in text
    assert f"6 of up to 0 MB in {tmp_path / 'new'}" in text
    assert not (tmp_path / "new").exists()
    pca = job_of(config, out=tmp_path / "new", patches="int8-pca", components=8)
    assert "16 x 8 int8 (int8-pca), of 64 numbers each" in format_plan(pca)


def test_an_unfinished_cache_is_resumed_to_the_same_bytes(config: Path, cache: Path, copy: Path) -> None:
    whole = contents(cache)
    (copy / "view-001-00000.safetensors").unlink()
    cut = copy / "view-000-00002.safetensors"
    cut.write_bytes(cut.read_bytes()[:-7])
    job = job_of(config, out=copy)
    assert [shard.name for shard in job.missing()] == [cut.name, "view-001-00000.safetensors"]
    build(job)
    assert contents(copy) == whole


# Ends as if the power had failed, in the middle of the fourth file.
KILLED = """
import os, signal, sys
from pathlib import Path
from cache_runs import job_of
from proteus.apis.cache_teacher import build
from proteus.datasets.teacher_cache import ShardBuilder

write, written = ShardBuilder.write, []
def killed(self, folder):
    written.append(self.shard.name)
    if len(written) == 4:
        (folder / f".{self.shard.name}.elsewhere-1.tmp").write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, folder)
ShardBuilder.write = killed
build(job_of(Path(sys.argv[1]), out=sys.argv[2], **eval(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "kept", [{}, {"patches": "int8-pca", "components": 8, "shard_bytes": 4000}], ids=["float16", "int8-pca"]
)
def test_killed_and_resumed(config: Path, tmp_path: Path, kept: dict[str, Any]) -> None:
    done = run_code(KILLED, config, tmp_path / "killed", repr(kept))
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert len(list((tmp_path / "killed").glob("view*.safetensors"))) == 3
    index = read_index(tmp_path / "killed")
    assert index is not None
    assert not index.complete
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        built(config, out=tmp_path / "killed")  # what is there says how patches are kept
        built(config, out=tmp_path / "unbroken", **kept)
    finally:
        torch.set_num_threads(threads)
    found = contents(tmp_path / "killed")
    assert [name for name in found if name.endswith(".tmp")] == [".view-001-00000.safetensors.elsewhere-1.tmp"]
    assert {name: found[name] for name in found if not name.endswith(".tmp")} == contents(tmp_path / "unbroken")


def test_a_cache_of_another_build_since_the_plan_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    first, other_size = job_of(config, out=out), job_of(config, out=out, shard_bytes=8000)
    components = job_of(config, out=out, patches="int8-pca", components=8)
    build(first)
    whole = contents(out)
    for late in (other_size, components):
        with pytest.raises(StaleCacheError, match="another build has written a cache there in the meantime"):
            build(late)
    assert contents(out) == whole
    few = job_of(config, out=out)
    build(job_of(config, {"train_dataloader.dataset.views": 3}, out=out))
    grown = contents(out)
    with pytest.raises(StaleCacheError, match="in the meantime"):
        build(few)
    assert contents(out) == grown
    build(job_of(config, out=out))
    assert contents(out) == grown


def test_a_build_that_fails_leaves_no_lock(config: Path, tmp_path: Path) -> None:
    job = job_of(config, out=tmp_path / "new")
    for parameter in job.model.teacher.backbone.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(CacheError, match="not finite"):
        build(job)
    assert list(contents(tmp_path / "new")) == ["index.json"]
    built(config, out=tmp_path / "new")


# Waits for a line behind its second file.
SLOW = """
import sys
from pathlib import Path
from cache_runs import job_of
from proteus.apis.cache_teacher import build
from proteus.datasets.teacher_cache import ShardBuilder

write, written = ShardBuilder.write, []
def slow(self, folder):
    write(self, folder)
    written.append(self.shard.name)
    if len(written) == 2:
        print("two files", flush=True)
        sys.stdin.readline()
ShardBuilder.write = slow
build(job_of(Path(sys.argv[1]), out=sys.argv[2]))
"""


@pytest.mark.slow
def test_a_second_build_is_refused_and_the_first_completes(config: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    with talk_to(SLOW, config, out) as (first, stream):
        assert stream.readline() == "two files\n"
        before = contents(out)
        with pytest.raises(LockedError, match=rf"building a teacher cache, process {first.pid} on .*, started 20"):
            built(config, out=out)
        assert contents(out) == before
        done = tool("cache_teacher.py", config, "--out", out)
        assert done.returncode == 2
        assert f"error: {out}: in use by building a teacher cache, process {first.pid} on " in done.stderr
        assert "Traceback" not in done.stderr
        stream.write("on\n")
        stream.flush()
    assert first.exitcode == 0
    reader, wanted = TeacherCache(out), TeacherCache(cache)
    assert contents(out).keys() == contents(cache).keys()
    for image in range(24):
        for view in range(2):
            tokens, unbroken = reader.read(image, view), wanted.read(image, view)
            assert tokens.pixels == unbroken.pixels
            np.testing.assert_allclose(tokens.cls, unbroken.cls, atol=1e-5)


def test_a_cache_grows_by_views(config: Path, cache: Path, copy: Path) -> None:
    more = {"train_dataloader.dataset.views": 3}
    job = job_of(config, more, out=copy)
    assert {shard.view for shard in job.missing()} == {2}
    build(job)
    before, after = contents(cache), contents(copy)
    assert all(after[name] == content for name, content in before.items() if name != "index.json")
    index = read_index(copy)
    assert index is not None
    assert (index.views, index.complete) == (3, True)
    # A run with fewer views reads it, too.
    assert stale(index, job_of(config).index.identity, 2) == []


def test_components_of_the_tokens(config: Path, tmp_path: Path) -> None:
    errors = [
        built(config, out=tmp_path / str(count), patches="int8-pca", components=count).index.patch_error
        for count in (4, 32, 64)
    ]
    assert errors[0] > errors[1] > errors[2] > 0  # type: ignore[operator]
    assert errors[2] < 5e-3  # type: ignore[operator]


def test_a_corrupt_image_has_the_tokens_of_its_replacement(config: Path, folder: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(folder / "images", tmp_path / "images"))
    bad = images / "c/006.png"
    content = bad.read_bytes()
    bad.write_bytes(b"nothing")
    values = {"train_dataloader.dataset.dataset.data_root": str(images)}
    job = built(config, values, out=tmp_path / "cache")
    assert job.index.replaced == 2
    reader, dataset = TeacherCache(tmp_path / "cache"), job.dataset
    (position,) = (i for i in range(24) if dataset.get_data_info(i)["img_path"] == str(bad))
    sample = dataset.view(position, 1)
    assert len(sample["data_samples"].corrupt) == 1
    features = job.encode(distill_collate([sample, sample]))
    tokens = reader.read(position, 1)
    assert tokens.corrupt == 1
    torch.testing.assert_close(torch.from_numpy(tokens.cls), features.cls[0], atol=1e-5, rtol=0)
    cached = DATASETS.build({**load_config(config, values).train_dataloader.dataset, "cache": str(tmp_path / "cache")})
    assert cached[position]["data_samples"].corrupt == sample["data_samples"].corrupt
    bad.write_bytes(content)  # repaired since: the view now shows another image than its tokens belong to
    with pytest.raises(StaleCacheError, match=r"0 unreadable images were replaced .* \(none\), but 1 when the cache"):
        cached[position]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model.teacher.mean": (0.5, 0.5, 0.5)}, ["teacher.mean"]),
        ({"model.teacher.std": (0.5, 0.5, 0.5)}, ["teacher.std"]),
        ({"model.teacher.dtype": "bfloat16"}, ["teacher.dtype"]),
        ({"model.teacher.img_size": 56}, ["teacher.img_size"]),
        ({"train_dataloader.dataset.view_seed": 1}, ["views.seed"]),
        (
            {"train_dataloader.dataset.dataset.pipeline.0.crop_ratio_range": (0.5, 1.0)},
            ["transform[0].crop_ratio_range"],
        ),
        ({"train_dataloader.dataset.dataset.indices": 20}, ["images.count", "images.names"]),
        ({"train_dataloader.dataset.views": 3}, ["views.count"]),
        ({"train_dataloader.dataset.dataset.pipeline.5.ratio": 0.3}, []),
        ({"model.student.depth": 1, "randomness.seed": 5, "train_dataloader.sampler.repeats": 1}, []),
    ],
    ids=lambda value: next(iter(value), "none").rpartition(".")[2] if isinstance(value, dict) else "",
)
def test_what_makes_a_cache_stale(config: Path, cache: Path, values: dict[str, Any], named: list[str]) -> None:
    cfg = load_config(config, values)
    dataset, index = DATASETS.build({**cfg.train_dataloader.dataset, "cache": None}), read_index(cache)
    assert index is not None
    lines = stale(index, cache_fingerprint(MODELS.build(cfg.model), cfg.model, dataset), dataset.views)
    assert [line.split(":")[0] for line in lines] == named


@pytest.mark.parametrize(
    ("erased", "named"), [(True, ["data_preprocessor.mean", "data_preprocessor.std"]), (False, [])]
)
def test_the_students_statistics_count_if_views_are_erased(
    config: Path, tmp_path: Path, erased: bool, named: list[str]
) -> None:
    """The noise is standard normal in the student's space, so the teacher's images depend on it."""
    steps = [step for step in load_config(config).train_pipeline if erased or step["type"] != "RandomErasing"]

    def fingerprint(**statistics: Any) -> dict[str, Any]:
        values = {f"model.data_preprocessor.{key}": value for key, value in statistics.items()}
        values["train_dataloader.dataset.dataset.pipeline"] = steps
        return job_of(config, values, out=tmp_path / "new").index.identity

    recipes, half = fingerprint(), fingerprint(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    before = {**recipes, "data_preprocessor": {"type": "DistillDataPreprocessor"}}  # of earlier versions
    for identity, same in ((recipes, recipes), (before, recipes), (half, half)):
        assert stale(CacheIndex(identity, 24, 2, 48, (4, 4), 8, {}), same, 2) == []
    for identity, other in ((recipes, half), (half, recipes), (before, half)):
        lines = stale(CacheIndex(identity, 24, 2, 48, (4, 4), 8, {}), other, 2)
        assert [line.split(":")[0] for line in lines] == named


def test_other_weights_and_another_resolution(config: Path, cache: Path, tmp_path: Path) -> None:
    other = write_teacher(tmp_path / "other.safetensors", num_heads=4, init_values=0.5)
    with pytest.raises(StaleCacheError, match=r"holds a different teacher cache:\n +teacher.weights: "):
        job_of(config, {"model.teacher.backbone.checkpoint": str(other)})
    larger = {
        "model.teacher.backbone.img_size": 70,
        "model.student.img_size": 70,
        "train_dataloader.dataset.dataset.pipeline.0.scale": 70,
    }
    with pytest.raises(StaleCacheError) as caught:
        job_of(config, larger)
    for name in ("teacher.architecture.img_size", "teacher.weights", "transform[0].scale"):
        assert f"\n  {name}: the cache was built with " in str(caught.value)
    assert "name another folder with --out" in str(caught.value)


def test_patches_of_another_type(config: Path, cache: Path) -> None:
    with pytest.raises(StaleCacheError, match="patches: the cache has float16, --patches is int8-pca"):
        job_of(config, patches="int8-pca")


def test_a_config_without_fixed_views(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"train_dataloader\.dataset is ImageFolder.*type='FixedViews', views=4"):
        job_of(folder / "small.py")


def test_no_folder(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.cache is not set: set it, or use --out"):
        job_of(config, {"train_dataloader.dataset.cache": None})


def test_components_are_those_of_int8_pca(config: Path, tmp_path: Path) -> None:
    words = "components=8: float16 patches have none; write patches='int8-pca' as well"
    with pytest.raises(UserError, match=words):
        job_of(config, out=tmp_path / "new", components=8)
    built(config, out=tmp_path / "new")
    with pytest.raises(UserError, match=words):
        job_of(config, out=tmp_path / "new", components=8)


def test_too_many_components(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="components=65: write a number from 1 to 64"):
        built(config, out=tmp_path / "new", patches="int8-pca", components=65)


def test_mixed_images_have_no_cache(config: Path) -> None:
    values = {"model.data_preprocessor.type": "MixupDataPreprocessor"}
    with pytest.raises(StaleCacheError, match="mixes images at random in each step"):
        job_of(config, values)


def test_class_scores_are_not_cached(config: Path) -> None:
    values = {
        "model.teacher.classifier": {"type": "LinearClassifier", "num_classes": 5},
        "model.objectives.logits": {"type": "LogitsObjective", "num_classes": 5},
    }
    with pytest.raises(StaleCacheError, match="use the teacher's logits, but a teacher cache has only its tokens"):
        job_of(config, values)


def test_no_room(config: Path, tmp_path: Path) -> None:
    job = job_of(config, out=tmp_path / "new")
    job.index.images = job.index.images_per_shard = 10**14
    with pytest.raises(FullDiskError, match=r"GB are missing and .* GB are free"):
        build(job)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"patches": "int8"},
        *({"components": value} for value in (0, -1, 2.5, "8", True)),
        *({"batch_size": value} for value in (0, -1, 8.5, "8", True)),
        *({"num_workers": value} for value in (-1, "2", False)),
        *({"shard_bytes": value} for value in (0, -1.0, float("nan"), float("inf"), "1e6", None)),
    ],
    ids=str,
)
def test_wrong_values_are_refused_before_the_teacher_is_built(config: Path, values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^{next(iter(values))}="):
        job_of(config, **values)
