"""Images with captions, in the layouts of COCO and Flickr30k or with a file of captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose
from torch.utils.data import Dataset

from proteus.datasets.captions.caption_files import read_captions
from proteus.registry import DATASETS, TRANSFORMS
from proteus.structures import DataError

_FILES = ("captions.jsonl", "captions.csv", "dataset_*.json")
# Below the folder of the set: as in the file; the folders of Flickr30k's archive, and of Karpathy's.
_FOLDERS = ("", "images", "flickr30k-images", "flickr30k_images")


@DATASETS.register_module()
class CaptionedImages(Dataset):
    """Images, each with one or more captions (docs/evaluate.md#image-text-retrieval).

    Args:
        data_root: Folder of the set.
        ann_file: File of captions in that folder (:func:`~proteus.datasets.captions.caption_files.read_captions`); by
            default the first that exists of ``captions.jsonl``, ``captions.csv`` and ``dataset_*.json``.
        split: Split of Karpathy's file; others have one split.
        pipeline: Transforms of an image.

    Attributes:
        paths: Path of each image, in the order of the file.
        captions: Captions of each image.

    Raises:
        FileNotFoundError: The file of captions or an image does not exist.
        DataError: The file has another layout; the message names the line.
    """

    folder = "."
    layout = "captions.jsonl, captions.csv or Karpathy's dataset_*.json, and its images"

    def __init__(
        self,
        data_root: str,
        ann_file: str | None = None,
        split: str = "test",
        pipeline: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.data_root = data_root
        root = Path(data_root).expanduser()
        file = root / ann_file if ann_file is not None else _find_file(root)
        captions = read_captions(file, split)
        self.paths = _find_images(root, list(captions), file)
        self.captions = list(captions.values())
        self.pipeline = Compose([TRANSFORMS.build(dict(step)) for step in pipeline])

    @classmethod
    def find(cls, root: Path) -> Path | None:
        """Return None: the config names the folder."""
        return None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        """Return the sample of an image, without its captions.

        Raises:
            CorruptImageError: The image cannot be read.
        """
        return self.pipeline({"img_path": self.paths[index]})


def has_captions(folder: str | Path) -> bool:
    """Return whether a folder has a file of captions."""
    return any(any(Path(folder).expanduser().glob(name)) for name in _FILES)


def _find_file(root: Path) -> Path:
    for name in _FILES:
        found = sorted(root.glob(name))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{root} has several files of captions ({names}): name one with ann_file")
        if found:
            return found[0]
    raise FileNotFoundError(f"{root} has no file of captions; expected {CaptionedImages.layout}")


def _find_images(root: Path, names: Sequence[str], file: Path) -> list[str]:
    found, missing = [], []
    for name in names:
        path = next((path for folder in _FOLDERS if (path := root / folder / name).is_file()), None)
        if path is None:
            missing.append(name)
        else:
            found.append(str(path))
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(names):,} images in {file} are missing, the first is {root / missing[0]}"
        )
    if len(set(found)) < len(found):
        raise DataError(f"{file} names an image in two ways, such as 1.jpg and ./1.jpg; write one name for each")
    return found
