"""Two transfer sets of the same size from one gallery: retrieved for labelled images, and random."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from projects.task_oriented_transfer.embedding import Embedded, names_of
from projects.task_oriented_transfer.retrieval import retrieve
from projects.task_oriented_transfer.transfer_set import contact_sheet, write_transfer_set
from proteus.datasets import ProxySet
from proteus.datasets.proxy.subsampling import write_list
from proteus.structures import DataError
from proteus.utils.pictures import save_picture


def without(gallery: Embedded, *held_out: ProxySet) -> Embedded:
    """Remove the image files of some sets from a gallery, following links."""
    files = {file for images in held_out for file in files_of(images)}
    kept = [row for row, item in enumerate(gallery.items) if os.path.realpath(gallery.root / item.name) not in files]
    return Embedded(gallery.root, [gallery.items[row] for row in kept], gallery.features[kept])


def write_both(gallery: Embedded, queries: Embedded, per_query: int, seed: int, out: Path) -> dict[str, list[str]]:
    """Write ``retrieved/proxy_set.txt`` with its scores and contact sheet, and ``random/proxy_set.txt``.

    Args:
        gallery: Whole images.
        queries: The labelled images.
        per_query: Images per query.
        seed: Seed of the random set.
        out: Output folder.

    Returns:
        The names of the images of each set.

    Raises:
        DataError: The whole gallery was retrieved, so there is nothing to choose.
    """
    found = retrieve(gallery.features, queries.features, per_query)
    count = len(found.items)
    if count >= len(gallery.items):
        raise DataError(
            f"--gallery has {len(gallery.items)} images, and all were retrieved; use a larger gallery "
            "or lower --per-query"
        )
    write_transfer_set(out / "retrieved", gallery, queries, found)
    save_picture(contact_sheet(gallery, queries, found), out / "retrieved/contact_sheet.png")
    rows = {"retrieved": found.items, "random": np.random.default_rng(seed).permutation(len(gallery.items))[:count]}
    names = {how: [gallery.items[row].name for row in chosen] for how, chosen in rows.items()}
    (out / "random").mkdir(parents=True, exist_ok=True)
    write_list(out / "random/proxy_set.txt", names["random"], f"{count} random images; data_root={gallery.root}")
    return names


def share_of(names: list[str], root: Path, images: ProxySet) -> float:
    """Return the share in per cent of images below ``root`` that are files of a set."""
    files = files_of(images)
    return 100 * sum(os.path.realpath(root / name) in files for name in names) / len(names)


def files_of(images: ProxySet) -> set[str]:
    """Return the real paths of a set's files."""
    return {os.path.realpath(Path(images.data_root).expanduser() / name) for name in names_of(images)}
