"""Predictions equal those of the test loop, on whatever is given; what cannot be read is named."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inference_runs import random_model, write_picture, write_trained
from mmengine.dataset import Compose
from PIL import Image

from proteus.apis import ConfigError, load_config
from proteus.apis.infer import infer
from proteus.checkpoints import CheckpointError
from proteus.datasets import distill_collate
from proteus.datasets.depth import depth_collate
from proteus.structures import DataError, LockedError
from proteus.utils import exclusive


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inference")


@pytest.fixture(scope="module")
def depth(place: Path) -> tuple[Path, Path]:
    return write_trained(place, "depth")


@pytest.fixture(scope="module")
def probe(place: Path) -> tuple[Path, Path]:
    return write_trained(place, "probe")


def run(trained: tuple[Path, Path], source: Path, out: Path, **options: object) -> list[str]:
    return infer(load_config(trained[0]), trained[1], source, out, device="cpu", **options)


def test_depth_equals_that_of_the_test_loop(depth: tuple[Path, Path], tmp_path: Path) -> None:
    image = write_picture(tmp_path / "a.png")
    truth = tmp_path / "depth.png"
    Image.fromarray(np.full((36, 48), 2000, np.uint16)).save(truth)
    assert run(depth, image, tmp_path / "out", raw=True) == []
    cfg = load_config(depth[0])
    model = random_model(cfg)
    sample = Compose(cfg.test_dataloader.dataset.pipeline)(
        {"img_path": str(image), "depth_path": str(truth), "depth_scale": 1000.0}
    )
    wanted = model.test_step(depth_collate([sample]))[0]["depth"].numpy()
    found = np.load(tmp_path / "out/raw/a.npy")
    assert found.dtype == np.float32
    assert found.shape == (36, 48)
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_picture_shows_image_depth_and_bar(depth: tuple[Path, Path], tmp_path: Path) -> None:
    image = write_picture(tmp_path / "a.png")
    run(depth, image, tmp_path / "out", max_depth=3.0)
    picture = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert np.array_equal(picture[:, :48], np.asarray(Image.open(image)))
    assert picture.shape[0] == 36
    assert picture.shape[1] > 2 * 48 + 24
    bar = picture[:, 2 * (48 + 8) + 4].astype(int)
    assert bar[0, 0] > bar[0, 2]  # red above
    assert bar[-1, 2] > bar[-1, 1]  # blue below


def test_probe_writes_the_five_best_classes(probe: tuple[Path, Path], tmp_path: Path) -> None:
    image = write_picture(tmp_path / "a.png")
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncat\ndog\neel\nfox\ngnu\n")
    assert run(probe, image, tmp_path / "out", classes=names, raw=True) == []
    rows = list(csv.reader((tmp_path / "out/predictions.csv").open()))
    cfg = load_config(probe[0])
    sample = Compose(cfg.test_dataloader.dataset.pipeline)({"img_path": str(image)})
    with torch.no_grad():
        scores = random_model(cfg).test_step(distill_collate([sample]))[0]["logits"].softmax(-1)
    best = scores.topk(5)
    labels = names.read_text().split()
    assert rows[0] == ["file", *(f"{column}_{rank}" for rank in range(1, 6) for column in ("class", "score"))]
    assert rows[1][0] == str(image)
    assert rows[1][1::2] == [labels[index] for index in best.indices]
    assert [float(cell) for cell in rows[1][2::2]] == pytest.approx(best.values.tolist(), abs=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "out/raw/a.npy"), scores.numpy(), rtol=1e-5)


def test_mmpretrains_classifier_writes_the_five_best_classes(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    trained = write_trained(place, "finetune")
    image = write_picture(tmp_path / "a.png")
    assert run(trained, image, tmp_path / "out", raw=True) == []
    cfg = load_config(trained[0])
    model = random_model(cfg)
    sample = Compose(cfg.test_dataloader.dataset.pipeline)({"img_path": str(image), "label": 0})
    with torch.no_grad():
        wanted = model.test_step(distill_collate([sample]))[0].pred_score
    np.testing.assert_allclose(np.load(tmp_path / "out/raw/a.npy"), wanted.numpy(), rtol=1e-5)
    (_, row) = csv.reader((tmp_path / "out/predictions.csv").open())
    assert [int(cell) for cell in row[1::2]] == wanted.topk(5).indices.tolist()


def test_the_number_of_classes_must_match_the_model(probe: tuple[Path, Path], tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\n")
    with pytest.raises(DataError, match="--classes has 2 classes, but the model has 7"):
        run(probe, write_picture(tmp_path / "a.png"), tmp_path / "out", classes=names)


def test_a_folder_keeps_its_structure_and_continues_after_a_corrupt_image(
    depth: tuple[Path, Path], tmp_path: Path
) -> None:
    source = tmp_path / "in"
    for name in ("a.jpg", "a.png", "b/c.png", "b/z.jpg"):
        write_picture(source / name)
    (source / "b/broken.jpg").write_bytes((source / "b/z.jpg").read_bytes()[:300])
    (source / "note.txt").write_text("no image")
    out = source / "out"
    for _ in range(2):  # the second time its own pictures lie below the folder
        failed = run(depth, source, out)
        assert [str(source / "b/broken.jpg") in line for line in failed] == [True]
        names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        assert names == {"a.jpg.png", "a.png.png", "b/c.png", "b/z.png", ".pictures.lock"}


def test_two_at_once_in_one_folder_are_refused(probe: tuple[Path, Path], tmp_path: Path) -> None:
    image, out = write_picture(tmp_path / "a.png"), tmp_path / "out"
    run(probe, image, out)
    table = (out / "predictions.csv").read_bytes()
    words = "out: in use by predictions, process .*; wait for it, or name another folder with --out"
    with exclusive(out, "predictions", name=".pictures.lock"), pytest.raises(LockedError, match=words):
        run(probe, image, out)
    assert (out / "predictions.csv").read_bytes() == table
    run(probe, image, out)


def test_exif_orientation_is_applied(depth: tuple[Path, Path], tmp_path: Path) -> None:
    write_picture(tmp_path / "plain.png")
    with Image.open(tmp_path / "plain.png") as image:
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        image.save(tmp_path / "turned.png", exif=exif)
    run(depth, tmp_path / "turned.png", tmp_path / "out", raw=True)
    assert np.load(tmp_path / "out/raw/turned.npy").shape == (48, 36)


def test_a_video_keeps_its_frames_and_has_one_colour_scale(depth: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (48, 36))
    for seed in range(4):
        writer.write(np.asarray(Image.open(write_picture(tmp_path / "f.png", seed)))[..., ::-1])
    writer.release()
    assert run(depth, source, tmp_path / "out", raw=True) == []
    video = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert video.get(cv2.CAP_PROP_FPS) == 12
    assert video.get(cv2.CAP_PROP_FRAME_HEIGHT) == 36
    maps = [np.load(tmp_path / f"out/raw/clip/{number:06}.npy") for number in range(4)]
    assert not np.allclose(maps[0], maps[1])


def test_a_file_that_only_looks_like_a_video_is_refused(depth: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"clip\.mp4 cannot be read as a video"):
        run(depth, source, tmp_path / "out")


def test_sources_without_images_are_refused(depth: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone: no such image, folder or video"):
        run(depth, tmp_path / "gone", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no images"):
        run(depth, tmp_path / "empty", tmp_path / "out")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="has the suffix of neither an image"):
        run(depth, tmp_path / "a.txt", tmp_path / "out")


def test_models_without_predictions_and_weights_of_other_models_are_refused(
    depth: tuple[Path, Path], probe: tuple[Path, Path], tmp_path: Path
) -> None:
    image = write_picture(tmp_path / "a.png")
    with pytest.raises(CheckpointError, match="does not fit"):
        run((depth[0], probe[1]), image, tmp_path / "out")
    cfg = load_config(probe[0])
    cfg.model = {"type": "ViT", "arch": "tiny"}
    with pytest.raises(ConfigError, match="write a config of a segmentor"):
        infer(cfg, probe[1], image, tmp_path / "out")


def test_segmentation_equals_that_of_the_test_loop(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    trained = write_trained(place, "segmentation")
    image = write_picture(tmp_path / "a.png", size=(60, 40))
    mask = tmp_path / "mask.png"
    Image.fromarray(np.ones((40, 60), np.uint8)).save(mask)
    assert run(trained, image, tmp_path / "out", raw=True) == []
    cfg = load_config(trained[0])
    model = random_model(cfg)
    packed = Compose(cfg.test_dataloader.dataset.dataset.pipeline)(
        {"img_path": str(image), "seg_map_path": str(mask), "reduce_zero_label": True, "seg_fields": []}
    )
    batch = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
    with torch.no_grad():
        wanted = model.test_step(batch)[0].pred_sem_seg.data[0].numpy()
    found = np.asarray(Image.open(tmp_path / "out/raw/a.png"))
    assert found.dtype == np.uint8
    assert len(np.unique(wanted)) > 1
    assert np.array_equal(found, wanted)
    assert np.asarray(Image.open(tmp_path / "out/a.png")).shape[1] == 2 * 60 + 8
