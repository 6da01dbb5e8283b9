"""Labelled sets in Parquet shards, read one row group at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proteus.datasets.fine_grained.base import FineGrainedSet, Metric, Part, Split
from proteus.datasets.fine_grained.listing import Label, Listed
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS

_NAMES: dict[Part, tuple[str, ...]] = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
_SHARD = re.compile(r"-(\d+)-of-(\d+)")


@DATASETS.register_module()
class ParquetSet(FineGrainedSet):
    """Labelled set in Parquet shards, as served by the Hugging Face Hub.

    Only the row group of the last image is kept in memory: sequential access is fast, random access is slow
    (:class:`ParquetRows`). If the rows of a copy are not in the official order, another fifth of the training images is
    used for validation.

    Args:
        data_root: Folder with ``data/train-00000-of-00001.parquet`` or with these files themselves.
        split: As for :class:`FineGrainedSet`; ``val`` is the official split if it has shards.
        pipeline: As for :class:`FineGrainedSet`.
        indices: As for :class:`FineGrainedSet`.
        image_column: Column with image files, as ``{bytes, path}`` or as bytes.
        label_column: Column with class indices from 0, or with lists of them.
        num_classes: Number of classes; by default that of ``base_dataset`` or of the shards' metadata.
        metric: Metric; by default that of ``base_dataset``, else ``top1``.
        title: Name of the set; by default the name of the folder.
        base_dataset: Set of this package, such as ``'CIFAR10'``, of which this is a copy.

    Raises:
        FileNotFoundError: Shards are missing.
        ValueError: A column is missing or has another type, or a label is out of range.
    """

    folder = "parquet"
    markers = ()
    layout = """
data/train-00000-of-00001.parquet ...
data/validation-00000-of-00001.parquet ... (optional)
data/test-00000-of-00001.parquet ..."""
    source = "the data set's repository"

    def __init__(
        self,
        data_root: str,
        split: Split,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        image_column: str = "image",
        label_column: str = "label",
        num_classes: int | None = None,
        metric: Metric | None = None,
        title: str | None = None,
        base_dataset: str | None = None,
    ) -> None:
        base = DATASETS.get(base_dataset) if base_dataset is not None else None
        if base_dataset is not None and (base is None or not issubclass(base, FineGrainedSet) or base is ParquetSet):
            raise ValueError(
                f"dataset.base_dataset={base_dataset!r}: write the name of a fine-grained set, such as 'CIFAR10'"
            )
        self.image_column, self.label_column = image_column, label_column
        self.title = title or (base.title if base else Path(data_root).name)
        self.metric = metric or (base.metric if base else "top1")
        self.sizes = base.sizes if base else (None, None, None)
        self._requested_classes = num_classes or (base.num_classes if base else None)
        self.num_classes = self._requested_classes or 0
        self.home = Path(data_root).expanduser()
        self.has_val = bool(self._shards("val"))
        super().__init__(data_root, split, pipeline, indices)

    def list_part(self, part: Part) -> list[Listed]:
        """Read the labels of the shards of a split."""
        paths = self._shards(part)
        if not paths:
            self.file(f"data/{_NAMES[part][0]}-00000-of-00001.parquet")
        listed: list[Listed] = []
        for path in paths:
            file = len(self._files)
            self._files.append(path)
            with open_parquet(path) as opened:
                labels = self._read_labels(path, opened)
                groups = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            rows = ((group, row) for group, count in enumerate(groups) for row in range(count))
            for number, (label, (group, row)) in enumerate(zip(labels, rows, strict=True)):
                where = f"{path}, row {number}"
                place = {"file": file, "group": group, "row": row}
                listed.append(Listed(f"{path}/{number}", self._label(label, where), where, place))
        return listed

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split."""
        self._files: list[Path] = []
        listed = super().load_data_list()
        self._rows = ParquetRows(self._files, self.image_column)
        return listed

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the image file's ``img_bytes``, and an ``img_path`` that names it in messages.

        Raises:
            CorruptImageError: The row has no image, or the shard is damaged.
        """
        info = super().get_data_info(idx)
        try:
            image = self._rows.read(info["file"], info["group"], info["row"])
        except ValueError as error:
            raise CorruptImageError(f"{info['img_path']} ({error})") from error
        content = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(content, bytes):
            raise CorruptImageError(f"{info['img_path']} (column {self.image_column!r} holds no bytes in this row)")
        return {**info, "img_bytes": content}

    def _shards(self, part: Part) -> list[Path]:
        for name in _NAMES[part]:
            for pattern in (f"data/{name}-*", f"{name}-*", f"{name}/*", f"default/{name}/*"):
                found = sorted(self.home.glob(f"{pattern}.parquet"))
                if found:
                    self._check_complete(found)
                    return found
        return []

    def _check_complete(self, paths: Sequence[Path]) -> None:
        numbered = [match for path in paths if (match := _SHARD.search(path.name))]
        counts = {int(match[2]) for match in numbered}
        if counts and (len(counts) > 1 or {int(match[1]) for match in numbered} != set(range(*counts))):
            raise FileNotFoundError(
                f"dataset.data_root: {paths[0].parent} has {len(paths)} shards such as {paths[0].name}, which do not "
                "match the numbers in their names; complete the set"
            )

    def _read_labels(self, path: Path, opened: Any) -> list[Any]:
        names = opened.schema_arrow.names
        lacks = [name for name in (self.image_column, self.label_column) if name not in names]
        if lacks:
            option = "image_column" if lacks[0] == self.image_column else "label_column"
            raise ValueError(f"dataset.{option}={lacks[0]!r}: {path} has the columns {', '.join(names)}; choose one")
        declared = _declared_classes(opened.schema_arrow.metadata or {}, self.label_column)
        if self._requested_classes is None and declared is None:
            raise ValueError(f"dataset.num_classes: {path} does not declare the number of classes; write it")
        self.num_classes = self._requested_classes or declared or 0
        if declared not in (None, self.num_classes):
            raise ValueError(
                f"dataset.num_classes: {self.num_classes} expected, but {path} declares {declared} classes"
            )
        return opened.read(columns=[self.label_column], use_threads=False).column(0).to_pylist()

    def _label(self, label: Any, where: str) -> Label:
        if (self.metric == "map11") != isinstance(label, list):
            kind = "a list of classes" if isinstance(label, list) else "a single class"
            raise ValueError(f"{where}: {kind} does not fit metric={self.metric!r}")
        if not isinstance(label, list):
            return self.numbered(label, 0, where)
        multi_hot = np.zeros(self.num_classes, np.int8)
        multi_hot[[self.numbered(one, 0, where) for one in label]] = 1
        return multi_hot


def _declared_classes(metadata: dict[bytes, bytes], column: str) -> int | None:
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return len(feature["names"])
    except (KeyError, ValueError, TypeError):
        return None


def open_parquet(path: Path) -> Any:
    """Open a Parquet file.

    Returns:
        A ``pyarrow.parquet.ParquetFile``.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: The file is not a Parquet file, or is truncated.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    try:
        return ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file ({error})") from error


class ParquetRows:
    """Rows of one column of several Parquet files; one row group is in memory at a time.

    Sequential access is as fast as the disk; random access decodes a row group for each row. Each process opens the
    files itself, so workers may be forked or spawned at any time.

    Args:
        paths: The files.
        column: Name of the column.
    """

    def __init__(self, paths: Sequence[Path], column: str) -> None:
        self.paths = list(paths)
        self.column = column
        self._group: Any = None
        self._group_key: tuple[int, int, int] | None = None

    def read(self, file: int, group: int, row: int) -> Any:
        """Read one value as a Python object.

        Args:
            file: Index of the file.
            group: Index of the row group in the file.
            row: Index of the row in the group.

        Raises:
            ValueError: The file is damaged, or has changed.
        """
        if self._group_key != (os.getpid(), file, group):
            # Free the old group first, so that memory never holds two.
            self._group_key = self._group = None
            table = self._decode(file, group)
            self._group, self._group_key = table.column(0), (os.getpid(), file, group)
        if row >= len(self._group):
            raise ValueError(f"{self.paths[file]} has changed: row group {group} has {len(self._group)} rows")
        return self._group[row].as_py()

    def _decode(self, file: int, group: int) -> Any:
        with open_parquet(self.paths[file]) as opened:
            try:
                # Without threads: a thread pool does not survive a fork.
                return opened.read_row_group(group, columns=[self.column], use_threads=False)
            # pyarrow's errors derive from these; NotImplementedError is for unsupported encodings and types.
            except (OSError, ValueError, IndexError, NotImplementedError) as error:
                raise ValueError(f"{self.paths[file]}: row group {group} is damaged ({error})") from error

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the row group; the other process reads it itself."""
        return {**self.__dict__, "_group": None, "_group_key": None}
