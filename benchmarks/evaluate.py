#!/usr/bin/env python
"""Measure feature extraction, from image files to a table on disk, and the linear probe's step, against plain loops.

    python benchmarks/evaluate.py --arch small --device cpu --pairs 5

Weights are random. The plain loop reads the same files with PIL, resizes and crops with torchvision, runs timm's model
and keeps the features in memory. The plain probe step runs each of the 52 heads separately. Results of both are
compared before timing. The last line is the median of the pairs' ratios of time for the extraction, Proteus over plain.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measure import Pairs, clock_of, matmul_peak, pairs, spread, wall_clock, write_json
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from proteus.evaluation.features.store import FeatureStore, open_split
from proteus.models import LinearProbe
from proteus.models.backbones import locate_backbone


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="small", help="tiny, small, base, ..., or a timm name (default: small)")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16, help="images per batch (default: %(default)s)")
    parser.add_argument("--images", type=int, default=32, help="images extracted each time (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="classes of the probe (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="alternating measurements (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="data loading processes (default: %(default)s)")
    parser.add_argument("--json", help="write all results to a JSON file")
    return parser.parse_args()


def write_images(folder: Path, count: int) -> None:
    """JPEGs of 500 x 375 px in two classes' folders: coarse random colours with some noise."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = (pixels + generator.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
        path = folder / "ab"[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


class Files(Dataset):
    """Image files as a plain loop reads them."""

    def __init__(self, paths: list[str], spec: Any, size: int) -> None:
        self.paths = paths
        self.transform = v2.Compose(
            [
                v2.Resize(round(size * 256 / 224), v2.InterpolationMode.BICUBIC),
                v2.CenterCrop(size),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(spec.mean, spec.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def as_timm(model: Any) -> nn.Module:
    """Return timm's own model inside one of ours."""
    return model.vit if hasattr(model, "vit") else model.model


class Extraction:
    """Both ways of turning the same files into cls tokens."""

    def __init__(self, args: Namespace, folder: Path) -> None:
        self.args, self.folder, self.runs = args, folder, 0
        self.device = torch.device(args.device)
        self.spec = locate_backbone(f"random:{args.arch}:0", None, args.size)
        steps = [
            {"type": "LoadImage"},
            {"type": "ResizeEdge", "scale": round(args.size * 256 / 224), "interpolation": "bicubic"},
            {"type": "CenterCrop", "crop_size": args.size},
            {"type": "ToTensor"},
            {"type": "PackInputs"},
        ]
        self.split = open_split({"type": "LabelledFolder", "data_root": str(folder / "images"), "pipeline": steps})
        self.store = FeatureStore(folder / "tables", self.spec, args.device, args.batch, args.workers)
        self.model = self.spec.build().to(self.device)
        self.plain_model = as_timm(self.model)

    def ours(self) -> np.ndarray:
        """Extract like tools/evaluate.py, into a separate table."""
        self.runs += 1
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            return self.store.table(self.split, f"run{self.runs}").features[:, 0]

    @torch.no_grad()
    def plain(self) -> np.ndarray:
        """Extract in a plain loop."""
        names = [name if os.path.isabs(name) else str(self.folder / "images" / name) for name in self.split.names]
        loader = DataLoader(Files(names, self.spec, self.args.size), self.args.batch, num_workers=self.args.workers)
        rows = []
        for images in loader:
            with torch.autocast("cuda", torch.float16, enabled=self.device.type == "cuda"):
                tokens = self.plain_model.forward_features(images.to(self.device))
            rows.append((tokens[:, 0] if tokens.ndim == 3 else tokens.mean((2, 3))).float().cpu())
        return torch.cat(rows).numpy()

    def flops(self) -> float:
        """Return the FLOPs of one image (1 MAC = 2 FLOPs)."""
        image = torch.zeros(1, 3, self.args.size, self.args.size, device=self.device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.model(image)
        return float(counter.get_total_flops())


class ProbeStep:
    """A training step of the 52 heads, as the configs take it and head by head."""

    def __init__(self, extraction: Extraction, args: Namespace) -> None:
        torch.manual_seed(0)
        self.probe = LinearProbe(dict(extraction.spec.config), args.classes, dtype="float32").to(args.device)
        self.probe.backbone.load_state_dict(extraction.model.state_dict())
        self.probe.train()
        config = {"type": "OptimWrapper", "constructor": "ProbeConstructor"}
        self.wrapper = build_optim_wrapper(
            self.probe, {**config, "optimizer": {"type": "SGD", "momentum": 0.9, "weight_decay": 0.0}}
        )
        self.heads, groups = [], []
        for head in self.probe.heads_of_grid:
            width = (head.layers + head.avgpool) * self.probe.backbone.embed_dim
            self.heads.append((head.layers, head.avgpool, nn.Linear(width, args.classes).to(args.device)))
            groups.append({"params": self.heads[-1][2].parameters(), "lr": head.lr})
        self.copy_weights()
        self.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(1)
        self.images = torch.rand(args.batch, 3, args.size, args.size, generator=generator)
        self.labels = torch.randint(args.classes, (args.batch,), generator=generator)
        self.vit = as_timm(self.probe.backbone)

    @torch.no_grad()
    def copy_weights(self) -> None:
        """Give the plain heads ours' weights."""
        own = [linear for bank in self.probe.heads.values() for linear in zip(bank.weights, bank.biases, strict=True)]
        for (_, _, linear), (weight, bias) in zip(self.heads, own, strict=True):
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)

    def ours(self) -> Tensor:
        """One step as the runner takes it; returns the loss."""
        batch = {
            "inputs": self.images,
            "labels": self.labels,
            "data_samples": [BaseDataElement(metainfo={"label": int(y)}) for y in self.labels],
        }
        return self.probe.train_step(batch, self.wrapper)["loss"]

    def plain(self) -> Tensor:
        """One step, head by head; returns the loss."""
        labels = self.labels.to(self.probe.best_head.device)
        images = self.probe.data_preprocessor({"inputs": self.images})["inputs"]
        with torch.no_grad():
            levels = self.vit.forward_intermediates(
                images, indices=4, norm=True, return_prefix_tokens=True, intermediates_only=True, output_fmt="NLC"
            )
            cls = [prefix[:, 0] for _, prefix in levels]
            mean = levels[-1][0].mean(1)
        total = torch.zeros((), device=labels.device)
        for layers, pooled, linear in self.heads:
            tokens = torch.cat([*cls[-layers:], *([mean] if pooled else [])], dim=1)
            total = total + nn.functional.cross_entropy(linear(tokens), labels)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return total.detach()


def report(title: str, measured: Pairs, images: int) -> None:
    """Print both rates and the ratio."""
    for which, seconds in (("ours", measured.ours), ("plain", measured.baseline)):
        print(f"{title} {which:<6} {spread(seconds, 1e3, 'ms')}, {images / median(seconds):.2f} images/s")
    print(f"{title} ratio {measured.ratio:.2f}")


def main(args: Namespace) -> int:
    """Compare, then measure."""
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(args.threads)
    init_default_scope("proteus")
    half = torch.float16 if device.type == "cuda" else torch.float32
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", args.images)
        extraction = Extraction(args, folder)
        ours, plain = np.asarray(extraction.ours()), extraction.plain()
        away = float(np.abs(ours - plain).max() / np.abs(plain).max())
        print(f"features: largest difference {away:.1e} of the largest value")
        if away > (1e-4 if device.type == "cpu" else 2e-2):
            raise SystemExit("Proteus and the plain loop do not extract the same features; nothing was timed")
        flops, peak = extraction.flops(), matmul_peak(device, half)
        # The host's clock, since reading files is included; both end with features on the host.
        measured = pairs(extraction.ours, extraction.plain, args.pairs, wall_clock)
        share = flops * args.images / median(measured.ours) / peak
        figures: dict[str, Any] = {"extraction": measured.record(args.images), "flops_per_image": flops}
        if hasattr(extraction.model, "levels"):
            step = ProbeStep(extraction, args)
            losses = [step.ours().item(), step.plain().item()]
            print(f"probe: loss {losses[0]:.5f}, plain {losses[1]:.5f}")
            if abs(losses[0] - losses[1]) > 1e-4 * losses[1]:
                raise SystemExit("Proteus and the plain probe do not compute the same; nothing was timed")
            probed = pairs(step.ours, step.plain, args.pairs, clock_of(device))
            report("probe step", probed, args.batch)
            figures["probe"] = probed.record(args.batch)
        report("extraction", measured, args.images)
        print(f"{flops / 1e9:.1f} GFLOPs per image, {share:.0%} of the matmul peak of {peak / 1e12:.3f} TFLOP/s")
        write_json(args.json, device, **figures, share_of_peak=share, matmul_peak=peak, ratio=measured.ratio)
        print(f"ratio {measured.ratio:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(parse_args()))
