"""Messages about stale caches; tests/tools/test_cache_teacher.py tests them with the tools."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cache_runs import built, job_of, write_fixed
from mmengine.runner import Runner

from proteus.apis import load_config
from proteus.apis.training import build_runner
from proteus.datasets.teacher_cache import CacheIndex, StaleCacheError, TeacherCache
from proteus.engine.hooks.teacher_cache import check_names, stale, stale_cache_message
from proteus.structures import ConfigError


def index_of(**teacher: Any) -> CacheIndex:
    return CacheIndex({"teacher": teacher}, 5, 3, 4, (2, 2), 5, {"type": "float16"})


def test_weights_of_another_dtype_are_one_difference() -> None:
    index = index_of(weights="a", dtype="float32")
    assert stale(index, {"teacher": {"weights": "b", "dtype": "bfloat16"}}, 3) == [
        'teacher.dtype: the cache was built with "float32", this run has "bfloat16"'
    ]
    assert stale(index, {"teacher": {"weights": "b", "dtype": "float32"}}, 3) == [
        'teacher.weights: the cache was built with "a", this run has "b"'
    ]


def test_more_views_than_cached() -> None:
    index = index_of()
    assert stale(index, {"teacher": {}}, 2) == []
    assert stale(index, {"teacher": {}}, 4) == ["views.count: the cache was built with 3, this run has 4"]


def test_the_message_lists_the_remedies() -> None:
    text = stale_cache_message(TeacherCache("work_dirs/cache/b"), ["views.seed: ..."], "configs/run.py")
    assert text.splitlines()[1] == "  views.seed: ..."
    assert "proteus cache configs/run.py --out DIR" in text
    assert "train_dataloader.dataset.cache=None" in text


def test_each_of_several_teachers_has_its_cache(
    make_runner: Callable[..., Runner], multi_teacher: dict[str, Any], tmp_path: Path
) -> None:
    del multi_teacher["teachers"]["one"]["standardization"]
    config = write_fixed(tmp_path / "small.py", tmp_path / "fixed.py", tmp_path / "images", tmp_path / "unused")
    folders = {name: str(tmp_path / name) for name in ("one", "two")}
    values = {"model": multi_teacher, "train_dataloader.dataset.cache": {"_delete_": True, **folders}}

    def runner(name: str, **caches: Any) -> Runner:
        cfg = load_config(config, copy.deepcopy(values))
        cfg.train_dataloader.dataset.cache = caches or None
        cfg.work_dir, cfg.visualizer, cfg.experiment_name = str(tmp_path / name), None, f"{tmp_path.name}-{name}"
        cfg.train_cfg.max_iters, cfg.default_hooks.online_eval = 2, None
        return build_runner(cfg)

    with pytest.raises(ConfigError, match=r"--teacher three: choose one of one, two"):
        job_of(config, copy.deepcopy(values), teacher="three")
    with pytest.raises(ConfigError, match=r"--teacher \(not given\): choose one of one, two"):
        job_of(config, copy.deepcopy(values))
    for name in folders:
        assert built(config, copy.deepcopy(values), teacher=name).folder == tmp_path / name

    cached, plain = runner("cached", **folders), runner("plain")
    ran: list[str] = []
    for name, teacher in cached.model.teachers_by_name.items():
        teacher.backbone.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    cached.train()
    assert ran == ["one", "two"] * 2  # the two batches of validation
    plain.train()
    for key, value in plain.model.state_dict().items():  # float16 tokens of patches
        torch.testing.assert_close(cached.model.state_dict()[key], value, atol=2e-3, rtol=1e-2, msg=key)

    with pytest.raises(StaleCacheError) as error:
        runner("swapped", one=folders["two"]).train()
    assert "does not match this run (train_dataloader.dataset.cache.one)" in str(error.value)
    assert f"proteus cache {config} --teacher one --out DIR" in str(error.value)
    with pytest.raises(StaleCacheError, match=r"dataset\.cache\.three: the run has no teacher of this name; choose f"):
        runner("unknown", three=folders["two"]).train()


def test_one_folder_is_not_enough_for_several_teachers() -> None:
    model = SimpleNamespace(teachers_by_name={"one": None, "two": None})
    with pytest.raises(StaleCacheError, match=r"write train_dataloader\.dataset\.cache=dict\(one='work_dirs/cac"):
        check_names(model, [""])
    with pytest.raises(StaleCacheError, match="write one folder for the only teacher"):
        check_names(SimpleNamespace(teachers_by_name={"": None}), ["one"])
