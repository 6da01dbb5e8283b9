"""Embedding: equal to a plain loop, resumed bit for bit, unreadable images, refusals."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from runs import write_images
from timm.data import create_transform

import proteus.apis.embed as module
from proteus.apis.embed import embed
from proteus.evaluation.features.image_paths import Crops
from proteus.models.backbones import locate_backbone
from proteus.structures import DataError, FullDiskError, LockedError, UserError
from proteus.utils import exclusive

NAME = "random:test_vit"
OPTIONS: dict[str, Any] = {"img_size": 32, "batch_size": 5, "workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 13)


def plain_loop(images: Path) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Names, cls tokens and patch tokens with timm's transform, one image at a time."""
    spec = locate_backbone(NAME, img_size=32)
    view = create_transform((3, 32, 32), crop_pct=0.875, interpolation="bicubic", mean=spec.mean, std=spec.std)
    model, names = spec.build(), sorted(str(path.relative_to(images)) for path in images.rglob("*.*"))
    with torch.inference_mode():
        found = [model(view(Image.open(images / name).convert("RGB"))[None]) for name in names]
    return names, torch.cat([each.cls for each in found]), torch.cat([each.patches for each in found])


def test_rows_equal_a_plain_loop_with_the_transform_of_timm(images: Path, tmp_path: Path) -> None:
    names, cls, patches = plain_loop(images)
    expected = {
        "cls": cls,
        "mean": patches.mean(1),
        "cls+mean": torch.cat([cls, patches.mean(1)], 1),
        "patches": patches,
    }
    for tokens, values in expected.items():
        out = tmp_path / f"{tokens}.npy"
        result = embed(NAME, images, out, tokens=tokens, **OPTIONS)  # type: ignore[arg-type]
        rows = np.load(out)
        assert rows.dtype == np.float32
        assert result.shape == rows.shape == tuple(values.shape)
        np.testing.assert_allclose(rows, values, atol=1e-5)
        assert (tmp_path / f"{tokens}.files.txt").read_text().splitlines() == names
    assert not list(tmp_path.glob(".*"))


def test_parquet_has_names_and_rows_and_a_list_keeps_its_order(images: Path, tmp_path: Path) -> None:
    names = sorted((str(path) for path in images.rglob("*.*")), reverse=True)
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    embed(NAME, tmp_path / "list.txt", tmp_path / "rows.parquet", **OPTIONS)
    embed(NAME, names, tmp_path / "rows.npy", **OPTIONS)
    embed(NAME, names, tmp_path / "patches.parquet", tokens="patches", **OPTIONS)
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table["file"].to_pylist() == names
    np.testing.assert_array_equal(table["embedding"].to_pylist(), np.load(tmp_path / "rows.npy"))
    assert np.shape(pq.read_table(tmp_path / "patches.parquet")["embedding"].to_pylist()) == (13, 4, 64)


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_an_interrupted_call_resumes_bit_for_bit(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"rows.{ending}"
    embed(NAME, images, whole, **OPTIONS)
    monkeypatch.setattr("proteus.evaluation.features.extraction.SECONDS_BETWEEN_MARKS", 0.0)
    encoded: list[int] = []
    encode = module.TokenEncoder.__call__

    def interrupted(encoder: Any, batch: Any) -> Any:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(batch.images))
        return encode(encoder, batch)

    monkeypatch.setattr(module.TokenEncoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(NAME, images, out, **OPTIONS)
    assert not out.exists()
    monkeypatch.setattr(module.TokenEncoder, "__call__", lambda *a: (encoded.append(len(a[1].images)), encode(*a))[1])
    embed(NAME, images, out, **OPTIONS)
    assert encoded == [5, 5, 3]
    assert out.read_bytes() == whole.read_bytes()
    embed(NAME, images, out, **OPTIONS)
    assert encoded == [5, 5, 3]


@pytest.mark.parametrize("tokens", ["cls", "patches"])
def test_a_finished_table_becomes_the_file_without_a_copy(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: Any
) -> None:
    whole, out, partial = tmp_path / "whole.npy", tmp_path / "rows.npy", tmp_path / ".rows.npy.partial"
    with monkeypatch.context() as copied:
        copied.setattr(module, "move_npy", lambda *arguments: False)
        embed(NAME, images, whole, tokens=tokens, **OPTIONS)
    monkeypatch.setattr(module, "write_npy", lambda *arguments: pytest.fail("the table was copied"))
    rename = os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(target) == out:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as before_the_rename:
        before_the_rename.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            embed(NAME, images, out, tokens=tokens, **OPTIONS)
    table = os.stat(partial / "features.npy").st_ino
    with monkeypatch.context() as after_it:
        after_it.setattr(module.TokenEncoder, "__call__", lambda *_: pytest.fail("an image was encoded again"))
        after_it.setattr("shutil.rmtree", lambda *_, **__: None)
        embed(NAME, images, out, tokens=tokens, **OPTIONS)
    assert os.stat(out).st_ino == table
    assert out.read_bytes() == whole.read_bytes()
    out.unlink()
    embed(NAME, images, out, tokens=tokens, **OPTIONS)
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_room_for_the_copy_is_checked_at_the_start(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=13 * 64 * 4))
    with pytest.raises(FullDiskError, match=r"features\.npy: no space left .*another folder with --out"):
        embed(NAME, images, tmp_path / "rows.parquet", **OPTIONS)
    embed(NAME, images, tmp_path / "rows.npy", **OPTIONS)


def test_other_arguments_start_again_and_never_overwrite(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_write", lambda *arguments: sys.exit(3))
    with pytest.raises(SystemExit):
        embed(NAME, images, tmp_path / "rows.npy", **OPTIONS)
    monkeypatch.undo()
    embed(f"{NAME}:1", images, tmp_path / "rows.npy", **OPTIONS)
    embed(f"{NAME}:1", images, tmp_path / "again.npy", **OPTIONS)
    assert (tmp_path / "rows.npy").read_bytes() == (tmp_path / "again.npy").read_bytes()
    with pytest.raises(UserError, match=r"rows.npy exists and holds features of another backbone; remove it"):
        embed(NAME, images, tmp_path / "rows.npy", **OPTIONS)
    with pytest.raises(UserError, match="holds features of another tokens"):
        embed(f"{NAME}:1", images, tmp_path / "rows.npy", tokens="mean", **OPTIONS)


def test_unreadable_images_are_reported_and_have_no_row(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(str(path) for path in images.rglob("*.*"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(names[0]).read_bytes()[:60])
    listed = [*names[:7], str(broken), *names[7:], str(tmp_path / "absent.png")]
    result = embed(NAME, listed, tmp_path / "rows.npy", **OPTIONS)
    assert [line.split(" (")[0] for line in result.failed] == [str(broken), str(tmp_path / "absent.png")]
    assert capsys.readouterr().err.count("error: ") == 2
    assert (tmp_path / "rows.files.txt").read_text().splitlines() == names
    embed(NAME, names, tmp_path / "readable.npy", **OPTIONS)
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), np.load(tmp_path / "readable.npy"), atol=1e-5)
    again = embed(NAME, listed, tmp_path / "rows.npy", **OPTIONS)
    assert again == result


def test_bad_inputs_are_refused_in_one_line(images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n\n")
    (tmp_path / "photo.heic").touch()
    (tmp_path / "prose.txt").write_text("some words\n")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "user.npy").write_bytes(b"a file of the user")
    for data, out, options, words in (
        (images, "rows.txt", {}, r"rows.txt': name a file that ends in .npy or .parquet"),
        ("~nobody-here/photos", "rows.npy", {}, "unknown home folder '~nobody-here'"),
        (images, "rows.npy", {"tokens": "pooled"}, "tokens='pooled': choose from: cls, mean"),
        (images, "rows.npy", {"img_size": 0}, "img_size=0: write a positive integer"),
        (images, "rows.npy", {"batch_size": 0}, "batch_size=0: write a positive integer"),
        (images, "rows.npy", {"device": "tpu"}, "unknown device 'tpu'"),
        (images, "rows.npy", {"gpus": -1}, "gpus=-1: write a non-negative integer"),
        (images, "rows.npy", {"gpus": 2}, "gpus=2 and device='cpu': write one of them"),
        (images, "rows.npy", {"gpus": 99, "device": None}, "gpus=99: found 99, but .* this machine"),
        (images, "user.npy", {}, r"user.npy exists without user.about.json; remove"),
        (tmp_path / "absent", "rows.npy", {}, "absent: no such folder, image or text file"),
        (tmp_path / "empty", "rows.npy", {}, "empty has no images"),
        (tmp_path / "photo.heic", "rows.npy", {}, r"photo.heic: 1 .heic file not read: convert it to JPEG or PNG$"),
        (tmp_path / "blank.txt", "rows.npy", {}, "blank.txt has no path of an image"),
        (tmp_path / "prose.txt", "rows.npy", {}, "expected one path of an image per line, found 'some words'"),
        ([], "rows.npy", {}, "the list of images is empty"),
        (["a\nb.jpg"], "rows.npy", {}, "its name has a line break"),
        (tmp_path / "broken.jpg", "broken.npy", {}, "none of the 1 images can be read, first .*broken.jpg"),
    ):
        with pytest.raises(UserError, match=words) as refused:
            embed(NAME, data, tmp_path / out, **{**OPTIONS, **options})
        assert "\n" not in str(refused.value)
    with exclusive(tmp_path / ".rows.npy.partial", "embedding"), pytest.raises(LockedError, match="name another file"):
        embed(NAME, images, tmp_path / "rows.npy", **OPTIONS)
    model: Any = locate_backbone(NAME, img_size=32).build()
    model.vit.cls_token[:] = float("nan")
    backbone = module.NamedBackbone(model, "broken", (0.5,) * 3, (0.5,) * 3, 32, "")
    with pytest.raises(DataError, match=r"features of broken are not finite.*first for a.png"):
        module.TokenEncoder(backbone, "cls", "cpu")(Crops(torch.zeros(1, 3, 32, 32), [None], ["a.png"]))


def test_parquet_without_pyarrow_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="Parquet needs pyarrow; run pip install pyarrow"):
        embed(NAME, images, tmp_path / "rows.parquet", **OPTIONS)
