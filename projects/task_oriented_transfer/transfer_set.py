"""Write a retrieved transfer set: a list for proxy sets, the scores and a contact sheet."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from projects.task_oriented_transfer.embedding import Embedded, Item, read_item
from projects.task_oriented_transfer.retrieval import Retrieved
from proteus.datasets.proxy.subsampling import write_list
from proteus.utils.pictures import save_picture

_SIDE, _GAP, _CAPTION = 96, 4, 12


def write_transfer_set(out: Path, gallery: Embedded, queries: Embedded, found: Retrieved) -> Path:
    """Write ``proxy_set.txt`` and ``scores.csv``, and retrieved crops as files.

    ``ImageFolder(data_root=..., list_file="proxy_set.txt")`` reads the list. Its ``data_root`` is the gallery's folder,
    or ``out/images`` if crops were retrieved; then each retrieved item, crop or not, is a separate file there.

    Args:
        out: Output folder.
        gallery: The searched items.
        queries: The target's images.
        found: The retrieval.

    Returns:
        The ``data_root`` of the list.

    Raises:
        CorruptImageError: A crop's image cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    items = [gallery.items[item] for item in found.items]
    names = [item.name for item in items]
    root = gallery.root
    if any(item.box for item in items):
        root = out / "images"
        names = [_save(root, gallery.root, item) for item in items]
    write_list(out / "proxy_set.txt", names, f"{len(names)} retrieved images; dataset.data_root={root}")
    with (out / "scores.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["image", "score", "query", "gallery_image", "left", "top", "right", "bottom"])
        for name, item, score, query in zip(names, items, found.scores, found.queries, strict=True):
            box = item.box or ("", "", "", "")
            table.writerow([name, f"{score:.6f}", queries.items[query].name, item.name, *box])
    return root


def contact_sheet(
    gallery: Embedded, queries: Embedded, found: Retrieved, rows: int = 12, columns: int = 8
) -> Image.Image:
    """Draw queries with their retrieved items, nearest first, and cosines.

    Args:
        gallery: The searched items.
        queries: The target's images.
        found: The retrieval.
        rows: Number of queries, evenly spaced.
        columns: Maximum number of items per query.

    Returns:
        The sheet; the first column is the query, with a red edge if nothing was retrieved.

    Raises:
        CorruptImageError: An image cannot be read.
    """
    columns = min(columns, max(np.bincount(found.queries).tolist(), default=0))
    shown = sorted({round(step * (len(queries.items) - 1) / max(1, rows - 1)) for step in range(rows)})
    sheet = Image.new(
        "RGB", ((columns + 1) * (_SIDE + _GAP) + 3 * _GAP, len(shown) * (_SIDE + _CAPTION + _GAP) + _GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for row, query in enumerate(shown):
        top = _GAP + row * (_SIDE + _CAPTION + _GAP)
        got = [at for at in range(len(found.items)) if found.queries[at] == query][:columns]
        tile = _tile(queries.root, queries.items[query])
        sheet.paste(tile if got else ImageOps.expand(ImageOps.crop(tile, 4), 4, "red"), (_GAP, top))
        for column, at in enumerate(got, start=1):
            left = column * (_SIDE + _GAP) + 3 * _GAP
            sheet.paste(_tile(gallery.root, gallery.items[found.items[at]]), (left, top))
            draw.text((left, top + _SIDE), f"{found.scores[at]:.3f}", fill="black")
    return sheet


def _tile(root: Path, item: Item) -> Image.Image:
    return ImageOps.pad(read_item(root, item), (_SIDE, _SIDE), color="white")


def _save(root: Path, source: Path, item: Item) -> str:
    name = PurePosixPath(item.name)
    if item.box is not None:
        # Keep the suffix in the name: a.png and a.jpg may be in the same folder.
        name = name.with_name(f"{name.name}_{'-'.join(map(str, item.box))}.png")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if item.box is None:
        shutil.copyfile(source / item.name, path)
    else:
        save_picture(read_item(source, item), path)
    return str(name)
