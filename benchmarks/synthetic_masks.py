"""Cut-outs pasted on photographs, with exact masks: see ``synthetic_dense.py``."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
from PIL import Image

# Folders of photographs among the stamps; drawings stand in folders called cartoon.
CLASSES = {
    "mammal": "animals/mammals",
    "bird": "animals/birds",
    "food": "food",
    "plant": "plants",
    "vehicle": "vehicles",
    "household": "household",
}
SIZE = (224, 168)  # width, height
SHARE_OF_TRAINING = 0.7
# Backgrounds are one class, so photographs of single objects (foolbox' are from ImageNet) and of flowers are excluded.
NO_BACKGROUND = re.compile(r"imagenet_|flowers|tomato|butterfly|greenscreen")


def make(packages: Path, out: Path, train: int, validation: int, seed: int) -> None:
    """Write ``images`` and ``annotations`` with the folders ``training`` and ``validation``, and ``classes.txt``.

    Stamps are split by motif (all apples are in the same part) before pasting; photographs have the package's split.
    """
    from proteus.datasets.packaged import packaged_photographs  # not needed to render depth

    stamps = _deal(packages / "usr/share/tuxpaint/stamps", seed)
    for part, split, count in (("training", "train", train), ("validation", "held-out", validation)):
        photographs = [_reduced(file) for file in packaged_photographs(split) if not NO_BACKGROUND.match(file.name)]
        stamp_counts = ", ".join(f"{len(files)} {name}" for name, files in stamps[part].items())
        print(f"{part}: {count} images of {len(photographs)} photographs and {stamp_counts}")
        for index in range(count):
            image, mask = _scene(random.Random(f"{seed} {part} {index}"), photographs, stamps[part])
            name = f"ADE_{'train' if part == 'training' else 'val'}_{index + 1:08}"
            _write(image, out / "images" / part / f"{name}.jpg")
            _write(mask, out / "annotations" / part / f"{name}.png")
    names = ["(ignored)", "background", *CLASSES]
    (out / "classes.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(names)))


def _deal(root: Path, seed: int) -> dict[str, dict[str, list[Image.Image]]]:
    parts: dict[str, dict[str, list[Image.Image]]] = {"training": {}, "validation": {}}
    for name, folder in CLASSES.items():
        motifs: dict[str, list[Image.Image]] = {}
        for file in sorted((root / folder).rglob("*.png")):
            if "cartoon" not in file.parts and (stamp := _usable(file)):
                motifs.setdefault(re.split(r"[_\d-]", file.stem)[0], []).append(stamp)
        shuffled = random.Random(f"{seed} {name}").sample(sorted(motifs), len(motifs))
        total, dealt = sum(map(len, motifs.values())), 0
        for motif in shuffled:
            part = "training" if dealt < SHARE_OF_TRAINING * total else "validation"
            parts[part].setdefault(name, []).extend(motifs[motif])
            dealt += len(motifs[motif])
    return parts


def _usable(file: Path) -> Image.Image | None:
    """The stamp without its margin, unless it is tiny, thin or mostly translucent."""
    with Image.open(file) as opened:
        stamp = opened.convert("RGBA")
    alpha = np.asarray(stamp)[..., 3]
    solid, seen = (alpha > 229).sum(), (alpha > 25).sum()
    if max(stamp.size) < 45 or seen < 0.2 * alpha.size or solid < 0.75 * seen:
        return None
    return stamp.crop(Image.fromarray(alpha).getbbox())


def _reduced(file: Path) -> Image.Image:
    with Image.open(file) as photograph:
        photograph = photograph.convert("RGB")
    # Pixels of at most twice the scene: reading twelve megapixels once for each scene takes minutes.
    photograph.thumbnail((4 * SIZE[0], 4 * SIZE[0]), Image.Resampling.BICUBIC)
    return photograph


def _scene(
    dice: random.Random, photographs: list[Image.Image], stamps: dict[str, list[Image.Image]]
) -> tuple[Image.Image, Image.Image]:
    image = _window(dice, dice.choice(photographs))
    mask = np.full((SIZE[1], SIZE[0]), 1, np.uint8)
    names = list(CLASSES)
    for name in dice.sample(names, dice.choice((1, 2, 2, 3))):
        stamp = dice.choice(stamps[name])
        # Limit the enlargement of stamps, or blur would reveal classes with small stamps.
        side = min(dice.uniform(0.4, 0.8) * SIZE[1], 1.6 * max(stamp.size))
        scale = side / max(stamp.size)
        stamp = stamp.resize(
            (max(1, round(stamp.width * scale)), max(1, round(stamp.height * scale))), Image.Resampling.BICUBIC
        )
        if dice.random() < 0.5:
            stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, top = dice.randint(0, SIZE[0] - stamp.width), dice.randint(0, SIZE[1] - stamp.height)
        image.paste(stamp, (left, top), stamp)
        alpha = np.asarray(stamp)[..., 3]
        covered = mask[top : top + stamp.height, left : left + stamp.width]
        covered[(alpha > 25) & (alpha <= 229)] = 0
        covered[alpha > 229] = names.index(name) + 2
    return image, Image.fromarray(mask)


def _window(dice: random.Random, photograph: Image.Image) -> Image.Image:
    """A part of a photograph, half to all of what fits, at the scene's size; mirrored at random."""
    scale = dice.uniform(0.5, 1.0) * min(photograph.width / SIZE[0], photograph.height / SIZE[1])
    width, height = SIZE[0] * scale, SIZE[1] * scale
    left, top = dice.uniform(0, photograph.width - width), dice.uniform(0, photograph.height - height)
    window = photograph.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    return window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if dice.random() < 0.5 else window


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
