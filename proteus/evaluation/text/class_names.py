"""Class names of labelled sets, in the order of their labels."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from proteus.datasets import LabelledFolder
from proteus.datasets import fine_grained as sets
from proteus.datasets.fine_grained.listing import class_folders, read_mat, read_rows
from proteus.evaluation.text.open_clip_parts import open_clip
from proteus.structures import DataError, UserError
from proteus.utils.files import read_lines

_LISTS = Path(__file__).with_name("names")


def class_names(dataset: Any, title: str, folder: Path | None = None) -> list[str]:
    """Name the classes of a labelled set.

    Names come from ``folder`` if it has a list, else from the set's own files or folders. For archives without names
    they come from the lists in ``names/``, torchvision (Flowers) or tzdata (Country211). Underscores become spaces.

    Args:
        dataset: The set.
        title: Name of the set and of its list: ``<title>.txt``, one name per line, in the order of the labels.
        folder: Folder of the user's lists.

    Raises:
        DataError: The names are unknown, or their number differs from the number of classes.
        FileNotFoundError: The set's file of names is missing.
    """
    if folder is not None and (folder / f"{title}.txt").is_file():
        names, source = _read(folder / f"{title}.txt"), str(folder / f"{title}.txt")
    else:
        # A subclass has the names of its base.
        kind = next((kind for kind in type(dataset).__mro__ if kind in _NAMERS), None)
        if kind is None:
            raise DataError(
                f"{title}: no class names are known for {type(dataset).__name__}; write {title}.txt, one name per line "
                "in the order of the labels, and pass its folder with protocol.names"
            )
        names, source = _NAMERS[kind](dataset), type(dataset).__name__
    count = len(dataset.classes_found) if isinstance(dataset, LabelledFolder) else dataset.num_classes
    if len(names) != count:
        raise DataError(f"{title}: {source} has {len(names)} names, but the set has {count} classes")
    return names


def _read(path: Path) -> list[str]:
    return [line.strip() for line in read_lines(path, strict=True) if line.strip()]


def _plain(names: Any) -> list[str]:
    return [str(name).replace("_", " ").strip() for name in names]


def _listed(name: str) -> Callable[[Any], list[str]]:
    return lambda _: _read(_LISTS / f"{name}.txt")


def _column(name: str) -> Callable[[Any], list[str]]:
    """Read names from the lines of one of the set's files."""
    return lambda dataset: _plain(_read(dataset.file(name)))


def _folders(name: str) -> Callable[[Any], list[str]]:
    return lambda dataset: _plain(class_folders(dataset.file(name)))


def _cars(dataset: Any) -> list[str]:
    (names,) = read_mat(dataset.file("devkit/cars_meta.mat", "cars_meta.mat"), ["class_names"])
    return _plain(names)


def _cub(dataset: Any) -> list[str]:
    rows = read_rows(dataset.file("classes.txt"), 2)
    return _plain(name.partition(".")[2] for _, (_, name) in rows)


def _pets(dataset: Any) -> list[str]:
    found = {}
    for part in ("trainval", "test"):
        for where, (image, breed, _, _) in read_rows(dataset.file(f"annotations/{part}.txt"), 4):
            found[dataset.numbered(breed, 1, where)] = image.rpartition("_")[0]
    return _plain(found[label] for label in sorted(found))


def _sun397(dataset: Any) -> list[str]:
    rows = read_rows(dataset.file("ClassName.txt", "Partitions/ClassName.txt"), 1)
    # /a/apse/indoor: an index letter, the scene, and its qualifier.
    return _plain(" ".join(reversed(name.strip("/").split("/")[1:])) for _, (name,) in rows)


def _country211(dataset: Any) -> list[str]:
    try:
        table = resources.files("tzdata").joinpath("zoneinfo/iso3166.tab").read_text(encoding="utf-8")
    except ModuleNotFoundError as error:
        raise DataError("Country211 has no country names: pip install tzdata, or write country211.txt") from error
    countries = dict(line.split("\t")[:2] for line in table.splitlines() if line and not line.startswith("#"))
    # The set has Kosovo, which the table lacks.
    countries.setdefault("XK", "Kosovo")
    codes = list(class_folders(dataset.file("train")))
    unknown = [code for code in codes if code not in countries]
    if unknown:
        raise DataError(f"Country211: unknown country code {unknown[0]!r} (ISO 3166); write country211.txt")
    return [countries[code] for code in codes]


def _imagenet(_: Any) -> list[str]:
    try:
        return list(open_clip().IMAGENET_CLASSNAMES)
    except UserError as error:
        raise DataError(
            f"ImageNet-1K has no class names ({error}), or write imagenet.txt and pass its folder with protocol.names"
        ) from error


def _flowers(_: Any) -> list[str]:
    from torchvision.datasets import Flowers102

    return list(Flowers102.classes)


_NAMERS: dict[type, Callable[[Any], list[str]]] = {
    sets.FGVCAircraft: _column("data/variants.txt"),
    sets.Caltech101: _folders("101_ObjectCategories"),
    sets.StanfordCars: _cars,
    sets.CIFAR10: _listed("cifar10"),
    sets.CIFAR100: _listed("cifar100"),
    sets.DTD: _folders("images"),
    sets.Flowers102: _flowers,
    sets.Food101: _column("meta/classes.txt"),
    sets.OxfordIIITPet: _pets,
    sets.SUN397: _sun397,
    sets.VOC2007: _listed("voc2007"),
    sets.CUB: _cub,
    sets.GTSRB: _listed("gtsrb"),
    sets.Country211: _country211,
    sets.ImageNet1K: _imagenet,
    sets.ClassFolders: lambda dataset: _plain(dataset.train_classes),
    LabelledFolder: lambda dataset: _plain(dataset.classes_found),
}
