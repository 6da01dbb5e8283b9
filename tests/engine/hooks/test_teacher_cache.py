"""Messages about stale caches; tests/tools/test_cache_teacher.py tests them with the tools."""

from __future__ import annotations

from typing import Any

from proteus.datasets.teacher_cache import CacheIndex, TeacherCache
from proteus.engine.hooks.teacher_cache import stale, stale_cache_message


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
    assert "tools/cache_teacher.py configs/run.py --out DIR" in text
    assert "train_dataloader.dataset.cache=None" in text
