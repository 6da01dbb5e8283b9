"""A retrieved transfer set on disk: a list that any proxy set reads, the scores, and a picture."""

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
    """Write ``proxy_set.txt`` and ``scores.csv``, and the crops as files where there are any.

    ``ImageFolder(data_root=..., list_file="proxy_set.txt")`` reads the list. Its ``data_root`` is the gallery's folder,
    or ``out/images`` where crops were retrieved: then each retrieved item, whole or not, is a file of its own there.

    Args:
        out: Folder to write to.
        gallery: What was searched.
        queries: The target's images.
        found: What was retrieved.

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
    """Draw queries, each with what it got, nearest first, and the cosine below.

    Args:
        gallery: What was searched.
        queries: The target's images.
        found: What was retrieved.
        rows: Number of queries, spread over the query set.
        columns: Largest number of retrieved items of each.

    Returns:
        A picture; the first column is the query, with a red edge if it got nothing.

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
        # The ending stays in the name: a.png and a.jpg may lie side by side.
        name = name.with_name(f"{name.name}_{'-'.join(map(str, item.box))}.png")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if item.box is None:
        shutil.copyfile(source / item.name, path)
    else:
        save_picture(read_item(source, item), path)
    return str(name)
