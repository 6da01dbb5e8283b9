"""Write pictures, and name them after images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from os.path import abspath, commonpath
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.dist import get_world_size
from PIL import Image

from proteus.utils.atomic import atomic_path


def save_picture(picture: Image.Image | Figure, path: str | Path, dpi: int = 110) -> Path:
    """Write a picture atomically; its folder is made.

    Args:
        picture: A Pillow image or a matplotlib figure.
        path: File to write; its ending is the format.
        dpi: Dots per inch of a figure.

    Returns:
        The file.

    Raises:
        FullDiskError: The disk is full.
    """
    path = Path(path)
    kind = path.suffix[1:].lower() or "png"
    with atomic_path(path, durable=False) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, dpi=dpi, format=kind)
        else:
            picture.save(temporary, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
    return path


def picture_names(images: Iterable[str | Path], root: str | Path | None = None) -> dict[str, Path]:
    """Name a picture for each image so that no two images share one.

    A picture lies at its image's place below a folder, and has its name without the ending. Images that differ in the
    ending alone, such as ``a.jpg`` and ``a.png``, keep it.

    Args:
        images: Files of the images.
        root: Folder of the images; default: the deepest that holds all of them. The picture of an image that lies
            elsewhere has the whole path.

    Returns:
        By image, the relative path of its picture, to which the ending of the format is to be added.
    """
    places = {str(image): Path(abspath(image)) for image in images}
    if root is None and places:
        root = commonpath([place.parent for place in places.values()])
    folder = Path(abspath(root or "."))
    names = {
        image: place.relative_to(folder if place.is_relative_to(folder) else place.anchor)
        for image, place in places.items()
    }
    count = Counter(name.with_suffix("") for name in set(names.values()))
    whole = {name for name in names.values() if count[name.with_suffix("")] > 1}
    # Rarely a name without its ending equals another with it: x.jpg.png if x.jpg and x.bmp keep theirs.
    while clashing := {name for name in names.values() if name.with_suffix("") in whole} - whole:
        whole |= clashing
    return {image: name if name in whole else name.with_suffix("") for image, name in names.items()}


class PictureNames:
    """Names of the pictures of a data set's images, as :func:`picture_names` gives them.

    Args:
        dataset: A data set of MMEngine's, or of ours around one. The images of another one are not known before they
            are loaded: each gets its own name if that is free, and else its whole path.
    """

    def __init__(self, dataset: Any) -> None:
        dataset = getattr(dataset, "inner", dataset)
        prefix = getattr(dataset, "data_prefix", None) or {}
        positions = range(len(dataset)) if hasattr(dataset, "get_data_info") else ()
        paths = (dataset.get_data_info(position).get("img_path") for position in positions)
        self._names = picture_names(filter(None, paths), prefix.get("img_path") or None)
        self._taken = set(self._names.values())

    def __getitem__(self, image: str) -> Path:
        if image not in self._names:
            name, place = Path(Path(image).stem), Path(abspath(image))
            # Names taken in other processes are unknown here.
            self._names[image] = (
                place.relative_to(place.anchor) if get_world_size() > 1 or name in self._taken else name
            )
            self._taken.add(self._names[image])
        return self._names[image]


def add_ending(folder: Path, name: Path, ending: str) -> Path:
    """Return ``folder/name`` with an ending appended to the whole name, even if the name has a dot."""
    return folder / name.parent / f"{name.name}{ending}"
