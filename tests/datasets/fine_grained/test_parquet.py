import json
import pickle
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from proteus.datasets import CIFAR10, CorruptImageError, LoadImage, PackInputs, ParquetSet, ToTensor
from proteus.datasets.fine_grained import validation_part
from proteus.datasets.fine_grained.parquet import ParquetRows, open_parquet

STEPS = [LoadImage(), ToTensor(), PackInputs()]
INTEGER = pa.int64()
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SIDE = 16


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    content = BytesIO()
    Image.fromarray(picture(number)).save(content, "PNG")
    return content.getvalue()


def write(
    path: Path,
    numbers: range,
    labels: Sequence | None = None,
    classes: int | None = 10,
    kind: pa.DataType = INTEGER,
    image: str = "image",
    label: str = "label",
) -> None:
    """Write a shard as the Hub's ``datasets`` does: images in a struct, class names in the schema's metadata."""
    labels = [number % 10 for number in numbers] if labels is None else labels
    feature = {"names": [str(name) for name in range(classes or 0)], "_type": "ClassLabel"}
    features = {image: {"_type": "Image"}, label: feature}
    schema = pa.schema([(image, IMAGE), (label, kind)])
    if classes is not None:
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table([pa.array(images, IMAGE), pa.array(labels, kind)], schema=schema)
    pq.write_table(table, path, row_group_size=3)


def pixels(sample: dict) -> np.ndarray:
    return sample["inputs"].permute(1, 2, 0).numpy()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Twenty training images in two shards of row groups of 3; five test images."""
    home = tmp_path / "cifar"
    write(home / "data/train-00000-of-00002.parquet", range(11))
    write(home / "data/train-00001-of-00002.parquet", range(11, 20))
    write(home / "data/test-00000-of-00001.parquet", range(100, 105))
    return home


def check(images: ParquetSet, numbers: Sequence) -> None:
    for index, number in enumerate(numbers):
        sample = images[index]
        assert np.array_equal(pixels(sample), picture(number))
        assert sample["data_samples"].label == number % 10


def test_rows_in_order_over_shards_and_row_groups(home: Path) -> None:
    images = ParquetSet(str(home), "trainval", STEPS)
    assert len(images) == 20
    check(images, range(20))
    assert images.labels().tolist() == [number % 10 for number in range(20)]
    assert images[11]["data_samples"].img_path == f"{home}/data/train-00001-of-00002.parquet/0"
    check(ParquetSet(str(home / "data"), "test", STEPS), range(100, 105))


def test_validation_shards_or_else_a_fifth_of_train(home: Path) -> None:
    part = validation_part(20)
    check(ParquetSet(str(home), "val", STEPS), np.flatnonzero(part))
    check(ParquetSet(str(home), "train", STEPS), np.flatnonzero(~part))
    write(home / "data/validation-00000-of-00001-21a35267461ec0af.parquet", range(50, 54))
    check(ParquetSet(str(home), "val", STEPS), range(50, 54))
    whole = ParquetSet(str(home), "trainval", STEPS)
    check(whole, [*range(20), *range(50, 54)])
    assert np.flatnonzero(whole.in_val()).tolist() == [20, 21, 22, 23]


def test_in_any_order_and_process(home: Path) -> None:
    images = ParquetSet(str(home), "trainval", STEPS)
    images[0]  # a row group is in memory when workers are forked and when the set is pickled
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    loader = DataLoader(images, batch_size=None, sampler=order, num_workers=2, multiprocessing_context="fork")
    for number, sample in zip(order, loader, strict=True):
        assert np.array_equal(pixels(sample), picture(number))
    check(pickle.loads(pickle.dumps(images)), range(20))


def test_one_row_group_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).bytes(100_000)
    path = tmp_path / "train-00000-of-00001.parquet"
    rows = [{"bytes": noise[number:] + png(0), "path": None} for number in range(100)]
    pq.write_table(pa.table({"image": pa.array(rows, IMAGE), "label": [0] * 100}), path, row_group_size=10)
    before = pa.total_allocated_bytes()
    images = ParquetSet(str(tmp_path), "trainval", num_classes=1)
    assert pa.total_allocated_bytes() - before < 10_000
    at_decoding, decode = [], ParquetRows._decode

    def watched(self: ParquetRows, file: int, group: int) -> pa.Table:
        at_decoding.append(pa.total_allocated_bytes() - before)
        return decode(self, file, group)

    monkeypatch.setattr(ParquetRows, "_decode", watched)
    for index in range(100):
        assert images.get_data_info(index)["img_bytes"] == rows[index]["bytes"]
        assert 1_000_000 < pa.total_allocated_bytes() - before < 2_500_000  # of 10 MB
    assert len(at_decoding) == 10
    assert max(at_decoding) < 10_000  # the previous group was freed first
    assert len(pickle.dumps(images)) < 100_000


def test_other_column_names_and_images_as_bytes(tmp_path: Path) -> None:
    write(tmp_path / "train/0000.parquet", range(4), image="img", label="fine_label")
    check(ParquetSet(str(tmp_path), "trainval", STEPS, image_column="img", label_column="fine_label"), range(4))
    with pytest.raises(ValueError, match=r"dataset\.image_column='image': .* has the columns img, fine_label"):
        ParquetSet(str(tmp_path), "trainval")
    with pytest.raises(ValueError, match=r"dataset\.label_column='label': .* has the columns img, fine_label"):
        ParquetSet(str(tmp_path), "trainval", image_column="img")
    table = pa.table({"image": [png(7), png(8)], "label": [7, 8]})
    pq.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    check(ParquetSet(str(tmp_path), "test", STEPS, num_classes=10), [7, 8])


def test_multi_label_sets(tmp_path: Path) -> None:
    labels = [[0, 19], [], [3]]
    write(tmp_path / "train-00000-of-00001.parquet", range(3), labels, classes=None, kind=pa.list_(pa.int64()))
    images = ParquetSet(str(tmp_path), "trainval", base_dataset="VOC2007")
    assert images.labels().dtype == np.int8
    assert [np.flatnonzero(row).tolist() for row in images.labels()] == [[0, 19], [], [3]]
    with pytest.raises(ValueError, match=r"row 0: a list of classes does not fit metric='top1'"):
        ParquetSet(str(tmp_path), "trainval", num_classes=20)


def test_copies_take_metric_and_classes_from_their_base(home: Path) -> None:
    images = ParquetSet(str(home), "test", base_dataset="CIFAR10")
    assert (images.title, images.num_classes, images.metric) == ("CIFAR-10", 10, CIFAR10.metric)
    assert images.differences.startswith("5 images, officially 10,000")
    assert ParquetSet(str(home), "test").title == "cifar"
    with pytest.raises(ValueError, match=r"dataset\.num_classes: 100 expected, but .* declares 10 classes"):
        ParquetSet(str(home), "test", base_dataset="CIFAR100")
    for name in ("ImageFolder", "Cifar", "ParquetSet"):
        with pytest.raises(ValueError, match=rf"dataset\.base_dataset='{name}': write the name of a fine-grained set"):
            ParquetSet(str(home), "test", base_dataset=name)


def test_invalid_labels_are_refused_with_their_row(tmp_path: Path) -> None:
    path = tmp_path / "train-00000-of-00001.parquet"
    for label, what in (
        (-1, "class -1 is out of range"),
        (10, "class 10 is out of range"),
        (None, "None is not a class number"),
    ):
        write(path, range(4), [0, 1, 2, label])
        with pytest.raises(ValueError, match=rf"00000-of-00001\.parquet, row 3: {what}"):
            ParquetSet(str(tmp_path), "train")
    write(path, range(4), classes=None)
    with pytest.raises(ValueError, match=r"dataset\.num_classes: .* does not declare the number of classes"):
        ParquetSet(str(tmp_path), "train")


def test_missing_and_damaged_shards_are_refused(home: Path) -> None:
    path = home / "data/train-00000-of-00002.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"train-00000-of-00002\.parquet is not a readable Parquet file"):
        ParquetSet(str(home), "train")
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"has 1 shards such as train-00001-of-00002\.parquet, which do not match"
    ):
        ParquetSet(str(home), "train")
    (home / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"data/train-00000-of-00001\.parquet is missing\nexpected files"):
        ParquetSet(str(home), "train")


def test_missing_bytes_and_changed_shards_are_named(tmp_path: Path) -> None:
    path = tmp_path / "test-00000-of-00001.parquet"
    images = pa.array([{"bytes": png(1), "path": None}, {"bytes": None, "path": "a.png"}, None], IMAGE)
    pq.write_table(pa.table({"image": images, "label": [1, 1, 1]}), path)
    dataset = ParquetSet(str(tmp_path), "test", STEPS, num_classes=2)
    check(dataset, [1])
    for index in (1, 2):
        with pytest.raises(CorruptImageError, match=rf"1\.parquet/{index} \(column 'image' holds no bytes in this row"):
            dataset[index]
    dataset = ParquetSet(str(tmp_path), "test", STEPS, num_classes=2)
    pq.write_table(pa.table({"image": images[:2], "label": [1, 1]}), path)
    with pytest.raises(CorruptImageError, match=r"1\.parquet/2 \(.* has changed: row group 0 has 2 rows"):
        dataset[2]
    dataset = ParquetSet(str(tmp_path), "test", STEPS, num_classes=2)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CorruptImageError, match=r"1\.parquet/0 \(.* is not a readable Parquet file"):
        dataset[0]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of five rows, in row groups of two."""
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for number, path in enumerate(paths):
        table = pa.table({"value": [10 * number + row for row in range(5)], "other": ["x"] * 5})
        pq.write_table(table, path, row_group_size=2)
    return paths


def test_rows_are_found_in_any_order(files: list[Path]) -> None:
    rows = ParquetRows(files, "value")
    for file, group, row, value in [(1, 2, 0, 14), (0, 0, 1, 1), (1, 1, 0, 12), (1, 1, 1, 13), (0, 2, 0, 4)]:
        assert rows.read(file, group, row) == value


def test_a_group_is_decoded_once_in_sequential_access(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ParquetRows(files, "value")
    decoded = []
    decode = rows._decode
    monkeypatch.setattr(rows, "_decode", lambda file, group: decoded.append((file, group)) or decode(file, group))
    assert [rows.read(0, row // 2, row % 2) for row in range(5)] == [0, 1, 2, 3, 4]
    assert decoded == [(0, 0), (0, 1), (0, 2)]


def test_unpickled_readers_read_the_group_again(files: list[Path]) -> None:
    rows = ParquetRows(files, "value")
    rows.read(0, 0, 0)
    copy = pickle.loads(pickle.dumps(rows))
    assert copy._group is None
    assert copy.read(1, 0, 1) == 11


def test_changed_files_are_reported(files: list[Path]) -> None:
    rows = ParquetRows(files, "value")
    with pytest.raises(ValueError, match=r"0\.parquet has changed: row group 0 has 2 rows"):
        rows.read(0, 0, 2)
    pq.write_table(pa.table({"value": [1]}), files[1])
    with pytest.raises(ValueError, match=r"1\.parquet: row group 2 is damaged"):
        rows.read(1, 2, 0)


def test_truncated_and_other_files_are_reported(files: list[Path]) -> None:
    files[0].write_bytes(files[0].read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"0\.parquet is not a readable Parquet file"):
        open_parquet(files[0])
    files[0].write_text("text")
    with pytest.raises(ValueError, match=r"0\.parquet is not a readable Parquet file"):
        ParquetRows(files, "value").read(0, 0, 0)
