import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from projects.task_oriented_transfer import retrieve as command
from projects.task_oriented_transfer.embedding import crop_boxes, embed
from projects.task_oriented_transfer.transfer_set import contact_sheet, write_transfer_set
from proteus.datasets import CorruptImageError, ImageFolder, LabelledFolder
from proteus.models.backbones import locate_backbone
from proteus.structures import DataError

BACKBONE = "random:resnet10t"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


def write_colours(folder, count, seed):
    generator = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + generator.normal(0, 25, (40, 56, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def folders(tmp_path):
    return write_colours(tmp_path / "gallery", 6, 0), write_colours(tmp_path / "queries", 2, 1)


def called(gallery, queries, out, *more):
    arguments = ["--backbone", BACKBONE, "--gallery", gallery, "--queries", queries, "--img-size", 32, "--out", out]
    return command.main(command.parse_args([str(word) for word in [*arguments, "--device", "cpu", *more]]))


def test_proxy_set_reads_the_list_in_the_order_of_the_scores(folders, tmp_path, capsys):
    gallery, queries = folders

    called(gallery, queries, tmp_path / "out", "--per-query", 2, "--duplicate", 1.0, "--labelled")

    printed = capsys.readouterr().out
    assert "same-class precision 1.000 (chance 0.333)" in printed
    read = ImageFolder(str(gallery), list_file=str(tmp_path / "out/proxy_set.txt"))
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == read.names()
    assert len(set(read.names())) == len(read) == 12
    assert all(row["query"].split("/")[0] == row["image"].split("/")[0] for row in rows)
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.size == (3 * 100 + 12, 6 * 112 + 4)


def test_crops_are_written_as_files(folders, tmp_path):
    gallery, queries = folders

    called(gallery, queries, tmp_path / "out", "--per-query", 6, "--duplicate", 1.0, "--crops", 0.5)

    read = ImageFolder(str(tmp_path / "out/images"), list_file=str(tmp_path / "out/proxy_set.txt"))
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(read.names())
    cropped = [row for row in rows.values() if row["left"]]
    assert cropped
    for row in cropped:
        with (
            Image.open(gallery / row["gallery_image"]) as whole,
            Image.open(tmp_path / "out/images" / row["image"]) as cut,
        ):
            box = tuple(int(row[side]) for side in ("left", "top", "right", "bottom"))
            np.testing.assert_array_equal(np.asarray(whole.crop(box)), np.asarray(cut))


def test_queries_without_neighbours_are_listed(folders, tmp_path, capsys):
    gallery, queries = folders
    for number in range(6):
        (gallery / f"blue/{number}.png").unlink()

    called(gallery, queries, tmp_path / "out", "--per-query", 2, "--duplicate", 1.0, "--min-score", 0.9)

    printed = capsys.readouterr().out
    assert "query blue/0.png: no neighbours of 2" in printed
    assert "query red" not in printed


def test_empty_galleries_are_reported(folders, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(FileNotFoundError, match=r"no images in .*empty"):
        called(tmp_path / "empty", folders[1], tmp_path / "out", "--per-query", 1)


def test_corrupt_images_stop_the_retrieval(folders, tmp_path):
    gallery, queries = folders
    (gallery / "red/3.png").write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"so nothing was retrieved: .*red/3\.png"):
        called(gallery, queries, tmp_path / "out", "--per-query", 1)


def test_what_a_search_lacks_is_reported_before_images_are_read(folders, tmp_path, monkeypatch, capsys):
    gallery, queries = folders
    (gallery / "red/3.png").write_bytes(b"no picture")
    (gallery / "loose.png").write_bytes(b"no picture")
    arguments = gallery, queries, tmp_path / "out", "--per-query", 1

    with pytest.raises(SystemExit):
        called(*arguments, "--duplicate", 0)
    assert "--duplicate: found '0', expected a positive number up to 1" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"loose\.png is not in a class folder"):
        called(*arguments, "--labelled")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        called(*arguments)


def test_queries_from_a_config(folders, tmp_path):
    gallery, queries = folders
    config = Path(command.__file__).parent / "configs/packaged/finetune.py"
    labelled = {"data_root": queries, "num_classes": 3, "images_per_class": 1}

    chosen = ["--cfg-options", *(f"train_dataloader.dataset.{key}={value}" for key, value in labelled.items())]
    called(gallery, config, tmp_path / "out", "--per-query", 2, "--duplicate", 1.0, *chosen)

    with (tmp_path / "out/scores.csv").open(newline="") as file:
        asked = sorted({row["query"] for row in csv.DictReader(file)})
    assert asked == LabelledFolder(data_root=str(queries), images_per_class=1).names()


def test_features_of_images_and_crops(folders):
    gallery, _ = folders
    spec = locate_backbone(BACKBONE, img_size=32)

    table = embed(spec, ImageFolder(str(gallery)), img_size=32, crops=(1.0,), batch_size=4)

    assert len(table.items) == len(table.features) == 18 * 3
    item = table.items[2]
    assert item.box == (16, 0, 56, 40)
    with Image.open(gallery / item.name) as image:
        view = image.resize((32, 32), Image.Resampling.BICUBIC, box=item.box)
    pixels = torch.from_numpy(np.asarray(view).copy()).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    with torch.no_grad():
        expected = spec.build()((pixels - mean) / std).cls[0]
    np.testing.assert_allclose(table.features[2], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "height", "scale"), [(56, 40, 0.5), (40, 56, 1.0), (64, 64, 0.3), (7, 5, 0.1)])
def test_crops_cover_the_image_and_overlap(width, height, scale):
    covered = np.zeros((height, width), int)
    side = max(1, round(scale * min(width, height)))
    for left, top, right, bottom in crop_boxes(width, height, scale):
        assert right - left == bottom - top == side
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1


def test_crop_scale_out_of_range_is_rejected():
    with pytest.raises(ValueError, match=r"crop scale 1\.5"):
        crop_boxes(10, 10, 1.5)


def test_contact_sheet_marks_queries_without_neighbours(folders, tmp_path):
    from projects.task_oriented_transfer.retrieval import Retrieved

    spec = locate_backbone(BACKBONE, img_size=32)
    gallery, queries = (embed(spec, ImageFolder(str(folder)), img_size=32) for folder in folders)
    found = Retrieved(np.array([0]), np.array([0]), np.float32([0.5]), dict.fromkeys(range(1, 6), 0), 0)

    sheet = np.asarray(contact_sheet(gallery, queries, found, rows=6, columns=2))
    write_transfer_set(tmp_path / "out", gallery, queries, found)

    # The red edge at the top left of the first column's tiles: 4 px from the edge, 112 px per row.
    assert sheet[4 + 112, 4].tolist() == [255, 0, 0]
    assert sheet[4, 4].tolist() != [255, 0, 0]


def test_missing_images_of_the_contact_sheet_are_reported(folders):
    spec = locate_backbone(BACKBONE, img_size=32)
    gallery, queries = (embed(spec, ImageFolder(str(folder)), img_size=32) for folder in folders)
    from projects.task_oriented_transfer.retrieval import retrieve

    found = retrieve(gallery.features, queries.features, 1)
    (folders[0] / gallery.items[found.items[0]].name).unlink()

    with pytest.raises(CorruptImageError, match=gallery.items[found.items[0]].name):
        contact_sheet(gallery, queries, found)
