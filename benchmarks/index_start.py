"""Measure how long a run takes to list its images, at its first and second start, and the memory that it needs.

``folder`` makes empty files in class folders, and lists them as ``ImageFolder`` does in training: the first start reads
all folders and caches the list, the second loads it. ``shards`` writes an index without shards for ``WebShards``. Each
start is a separate process, which builds the set and a sampler, and draws a thousand keys with the entries of their
images. Memory is the peak of the resident set, and what the listing adds to it after the imports.

Example:
  python benchmarks/index_start.py --kind folder --images 1281167 --groups 1000
  python benchmarks/index_start.py --kind shards --images 10000000 --groups 10000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import ROOT, write_json

# Imports everything first; the file system's cache holds the folders after they were made.
START = r"""
import json, re, sys, time
from itertools import islice
from proteus.datasets import ImageFolder, ProxySampler, ShardSampler, WebShards
kind, root = sys.argv[1:]
def peak():  # of this program alone, unlike getrusage's, which begins with the peak of the parent
    return int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) * 1024 / 1e6
before = peak()
began, cpu = time.perf_counter(), time.process_time()
proxy = ImageFolder(root) if kind == "folder" else WebShards(root)
listed = time.perf_counter()
sampler = ProxySampler(proxy, seed=0) if kind == "folder" else ShardSampler(proxy, seed=0)
for key in islice(iter(sampler), 1000):
    super(WebShards, proxy).get_data_info(key.image) if kind == "shards" else proxy.get_data_info(key.image)
ended = time.perf_counter()
print(json.dumps({
    "images": len(proxy), "list_s": listed - began, "sample_s": ended - listed, "cpu_s": time.process_time() - cpu,
    "peak_mb": peak(), "added_mb": peak() - before,
}))
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Make the files, measure two starts, and print a line for each."""
    args = _parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.place) as temporary:
        root = Path(temporary) / "set"
        began = time.perf_counter()
        (_make_folder if args.kind == "folder" else _make_index)(root, args.images, args.groups)
        print(
            f"{args.images:,} images in {args.groups:,} groups made in {time.perf_counter() - began:.0f} s", flush=True
        )
        results = []
        for name in ("first", "second"):
            results.append(_start(args.kind, root, Path(temporary) / "cache"))
            figures = results[-1]
            print(
                f"{name:6} start: {figures['list_s']:.2f} s for the list, {figures['sample_s']:.2f} s for sampler and "
                f"1,000 entries, {figures['cpu_s']:.2f} s of CPU; peak {figures['peak_mb']:,.0f} MB, of which "
                f"{figures['added_mb']:,.0f} MB after the imports",
                flush=True,
            )
        files = [path for path in (Path(temporary) / "cache", root) for path in path.glob("*.*") if path.is_file()]
        for path in files:
            if path.suffix in (".npz", ".json"):
                print(f"list: {path.name}, {path.stat().st_size / 1e6:,.1f} MB")
    if args.json:
        write_json(args.json, starts=results)


def _make_folder(root: Path, images: int, groups: int) -> None:
    for number in range(groups):
        folder = root / f"n{number:08}"
        folder.mkdir(parents=True)
        for image in range(number, images, groups):
            os.mknod(f"{folder}/n{number:08}_{image}.JPEG")


def _make_index(root: Path, images: int, groups: int) -> None:
    from proteus.datasets.shards.index_file import INDEX, Index, Shard, write_index

    root.mkdir()
    shards, size = [], 20_480
    for number in range(groups):
        rows = [
            (f"n{number:08}/n{number:08}_{image}.jpg", at * size + 512, size - 512)
            for at, image in enumerate(range(number, images, groups))
        ]
        name, length = f"{number:06}.tar", len(rows) * size + 1024
        with (root / name).open("wb") as file:
            file.truncate(length)  # sparse
        shards.append(Shard(name, length, rows))
    write_index(root / INDEX, Index(shards))


def _start(kind: str, root: Path, cache: Path) -> dict[str, float]:
    environment = {**os.environ, "PROTEUS_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", START, kind, str(root)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("folder", "shards"), default="folder")
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--groups", type=int, default=1000, help="class folders, or shards")
    parser.add_argument("--place", help="folder for the temporary files (default: that of the system)")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
