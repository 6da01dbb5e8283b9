"""Damaged caches and reports: what is read is right, or one error names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from runs import start
from safetensors.numpy import load_file, save_file

from projects.dime_fm.sentence_cache import SentenceCache, SentenceIndex, write_texts
from projects.dime_fm.sentence_cache import write_index as write_sentence_index
from proteus.datasets import FeatureTable
from proteus.datasets.teacher_cache import CacheIndex, Int8PCA, ShardBuilder, TeacherCache, write_index
from proteus.evaluation.features.rows import Record, RowWriter, open_rows, read_record
from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.evaluation.protocols import ProtocolResult
from proteus.evaluation.report import read_results, write_report
from proteus.models.backbones import locate_backbone
from proteus.structures import UserError

FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Bytes changed, cut, inserted or replaced; in a JSON file also a value by another one."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "replace", "value", "drop"]))
    share, byte, text = draw(st.floats(0, 0.999)), draw(st.integers(1, 255)), draw(st.binary(max_size=24))
    value = draw(JSON)

    def damage(content: bytes) -> bytes:
        at = int(share * len(content))
        if kind in ("value", "drop"):
            try:
                return json.dumps(_changed(json.loads(content), share, value, kind == "drop")).encode()
            except (ValueError, UnicodeDecodeError):
                at = int(share * min(len(content), 400))  # a header
        if kind == "cut":
            return content[:at]
        if kind == "insert":
            return content[:at] + text + content[at:]
        if kind == "replace":
            return text
        return content[:at] + bytes([content[at] ^ byte]) + content[at + 1 :]

    return damage


def _changed(content: Any, share: float, value: Any, drop: bool) -> Any:
    """A JSON document with one of its values replaced or left out."""
    places = list(_places(content))
    holder, key = places[int(share * len(places))]
    if drop:
        del holder[key]
    else:
        holder[key] = value
    return content


def _places(content: Any) -> Any:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)


def right_or_named(path: Path, damage: Callable[[bytes], bytes], read: Callable[[], Any], wanted: Any) -> None:
    """Damage a file, read it, and restore it."""
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    found, error = outcome_of(read)
    path.write_bytes(whole)
    if error:
        assert path.name in error or str(path.parent) in error
    else:
        assert found is None or _equal(found, wanted)


def outcome_of(read: Callable[[], Any]) -> tuple[Any, str]:
    """What is read, or the message of the error that a user gets; any other error is a failure of the test."""
    try:
        return read(), ""
    except UserError as error:
        return None, str(error) or "no words"


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        return found.shape == wanted.shape and np.array_equal(found, wanted)
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))
    return bool(found == wanted)


ROWS = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    with RowWriter(folder, None, len(ROWS)) as writer:
        writer.append(ROWS)
        writer.mark("state")
    np.save(folder / "labels.npy", np.arange(5))
    return folder


@pytest.mark.parametrize("name", ["features.npy", "rows.json"])
@FUZZ
@given(damage=damages())
def test_a_table_of_features(table: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    def read() -> Any:
        record = read_record(table)
        # None: extracted again, as rows of images in another state are.
        again = record is None or record.rows < len(ROWS) or record.images != "state"
        return None if again else np.array(open_rows(table, _checked(record)))

    right_or_named(table / name, damage, read, ROWS)


def _checked(record: Record | None) -> Record:
    assert record is not None
    return record


@pytest.mark.parametrize("name", ["features.npy", "labels.npy"])
@FUZZ
@given(damage=damages())
def test_a_users_own_table_is_read_or_refused(table: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    """It has no checksum: other numbers are other features, but never an exception that names no file."""
    path = table / name
    whole = path.read_bytes()

    def read() -> list[dict[str, Any]]:
        rows = FeatureTable(str(table / "features.npy"), str(table / "labels.npy"), num_classes=5)
        return [rows[row] for row in range(len(rows))]

    path.write_bytes(damage(whole))
    samples, error = outcome_of(read)
    path.write_bytes(whole)
    if error:
        assert "features.npy" in error or "labels.npy" in error
    else:
        assert all(sample["tokens"].isfinite().all() and 0 <= sample["data_samples"].label < 5 for sample in samples)


@pytest.fixture(scope="module")
def teacher_cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("cache")
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, 6, 5, generator=generator)
    encoding = Int8PCA.fit(tokens.flatten(0, 1), 3)
    encoding.save(folder)
    index = CacheIndex({"a": 1}, 4, 1, 5, (2, 3), 3, {"type": "int8-pca", "components": 3}, complete=True)
    for shard in index.shards():
        builder = ShardBuilder(index, shard, encoding)
        part = tokens[shard.start : shard.stop]
        builder.add(part[:, 0], part, [0] * len(part), [7] * len(part))
        builder.write(folder)
    write_index(folder, index)
    return folder, read_teacher_cache(folder)


def read_teacher_cache(folder: Path) -> list[Any]:
    cache = TeacherCache(folder)
    cache.check_files()
    found = [cache.read(image, 0) for image in range(4)]
    # The other values of the index are compared with the run's by TeacherCacheHook.
    assert cache.index.identity is not None
    return [value for tokens in found for value in (tokens.cls, tokens.patches)]


@pytest.mark.parametrize("name", ["index.json", "view-000-00000.safetensors"])
@FUZZ
@given(damage=damages())
def test_a_teacher_cache(teacher_cache: tuple[Path, list[Any]], name: str, damage: Callable[[bytes], bytes]) -> None:
    folder, wanted = teacher_cache
    right_or_named(folder / name, damage, lambda: read_teacher_cache(folder), wanted)


@FUZZ
@given(damage=damages())
def test_principal_components_are_read_or_refused(
    teacher_cache: tuple[Path, list[Any]], damage: Callable[[bytes], bytes]
) -> None:
    """A checksum in their file finds what leaves shapes and finite numbers."""
    folder, wanted = teacher_cache
    path = folder / "pca.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    found, error = outcome_of(lambda: read_teacher_cache(folder))
    path.write_bytes(whole)
    if error:
        assert str(folder) in error
    else:
        assert all(np.array_equal(value, other) for value, other in zip(found, wanted, strict=True))


def test_principal_components_of_an_earlier_release_have_no_checksum(
    teacher_cache: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    whole = load_file(teacher_cache[0] / "pca.safetensors")
    wanted = Int8PCA.load(teacher_cache[0])
    del whole["checksum"]
    save_file(whole, tmp_path / "pca.safetensors")
    assert np.array_equal(Int8PCA.load(tmp_path).basis, wanted.basis)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentences")
    write_sentence_index(folder, SentenceIndex({"t": 1}, {"s": 1}, 3, 4, 2, complete=True))
    for name, rows in (("texts-00000.safetensors", slice(0, 2)), ("texts-00001.safetensors", slice(2, 3))):
        write_texts(folder, name, TEXTS[rows])
    return folder


TEXTS = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize("name", ["index.json", "texts-00000.safetensors"])
@FUZZ
@given(damage=damages())
def test_a_cache_of_sentences(sentences: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    def read() -> np.ndarray:
        cache = SentenceCache(sentences)
        assert cache.index.complete
        return np.stack([cache.read(row) for row in range(3)])

    right_or_named(sentences / name, damage, read, TEXTS)


WRITTEN: set[str] = set()  # the results that test_a_report has written


@FUZZ
@given(damage=damages())
def test_a_report(tmp_path_factory: pytest.TempPathFactory, damage: Callable[[bytes], bytes]) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed_report"
    about = {"width": 384, "parameters": 22_000_000, "img_size": 224, "precision": "float32"}
    spec = locate_backbone("random:tiny")
    outcome = ProtocolResult("k-NN", "%", rows={"a": {"k = 3": 50.0}}, summary={"average": 50.0}, notes=["note"])
    if not folder.exists():
        write_report(folder, spec, about, {"knn": outcome})
    path = folder / "report.json"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    found, error = outcome_of(lambda: read_results(folder, spec, about))
    path.write_bytes(whole)
    if error:
        assert "report.json" in error
    elif repr(found) not in WRITTEN:  # drawing a report takes most of the time
        assert write_report(folder / "again", spec, about, found).is_file()
        WRITTEN.add(repr(found))


@FUZZ
@given(content=st.binary(max_size=60))
def test_a_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "online_eval.jsonl"
    path.write_bytes(content)
    lines, error = outcome_of(lambda: read_jsonl(path))
    assert "online_eval.jsonl" in error if error else all(type(line["iteration"]) is int for line in lines)


@pytest.mark.slow
def test_two_evaluations_on_one_cache_give_the_figures_of_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 20)):
        for label in range(2):
            folder = tmp_path / f"set/{part}/c{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(generator.normal(100 + 20 * label, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")

    def run(out: str, cache: str) -> Any:
        arguments = ["--backbone", "random:test_vit", "--protocols", "knn", "--cfg-options", "protocol.ks=(3,)"]
        arguments += ["--img-size", 32, "--batch-size", 4, "--workers", 0, "--device", "cpu"]
        folders = ["--sets", tmp_path / "set", "--out", tmp_path / out, "--cache", tmp_path / cache]
        return start("evaluate.py", *arguments, *folders, log=tmp_path / f"{out}.log")

    processes = {"a": run("a", "shared"), "b": run("b", "shared"), "alone": run("alone", "own")}
    for out, process in processes.items():
        process.join(300)
        assert process.exitcode == 0, (tmp_path / f"{out}.log").read_text()
    figures = [json.loads((tmp_path / out / "report.json").read_text())["protocols"] for out in ("a", "b", "alone")]
    assert figures[0] == figures[1] == figures[2]
    assert len(list((tmp_path / "shared").iterdir())) == 2


def test_two_evaluations_into_one_report_are_refused_by_name(tmp_path: Path) -> None:
    from proteus.apis.evaluate import evaluate
    from proteus.utils import exclusive

    with (
        exclusive(tmp_path, "an evaluation"),
        pytest.raises(UserError, match=rf"in use by an evaluation, process {os.getpid()} .*--out"),
    ):
        evaluate(locate_backbone("random:tiny"), {}, tmp_path, tmp_path, device="cpu")
