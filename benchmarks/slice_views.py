"""Measure a sliced student by the number of views that it is fitted on.

For each number of views it prints the fraction of the teacher's variance that is unexplained: of the stream after the
last block, on the fitting views; of patch and cls tokens on held-out images, after a linear map that is fitted on 512
other views, the same for all rows; and the seconds of the fit. 0 views is a fit on 512 images of noise.

Example:
  python benchmarks/slice_views.py --teacher packaged --student vit_tiny --data packaged --views 0 64 256 1024 4096
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from mmengine.registry import init_default_scope
from torch import Tensor

from proteus.apis.auto_values import this_machine
from proteus.apis.distillation.config_values import val_pipeline
from proteus.apis.distillation.data import RunImages, find_images
from proteus.apis.distillation.pair import resolve_pair
from proteus.datasets import distill_collate, load_fitting_views, seeded
from proteus.evaluation.token_regression import TokenRegression
from proteus.models import Teacher
from proteus.models.backbones import build_backbone
from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.initialization import noise_images, slice_teacher
from proteus.registry import DATASETS

_OTHERS = 512


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, a row as soon as it is measured."""
    args = _parse_args(argv)
    init_default_scope("proteus")
    images = find_images(args.data[0] if len(args.data) == 1 else args.data)
    pair = resolve_pair(args.teacher, args.student, args.img_size, this_machine("cpu", 1), False)
    record, size = pair.teacher_record, int(pair.img_size.value)
    statistics = {"mean": record.mean, "std": record.std}
    preprocessor = DistillDataPreprocessor(**statistics)
    teacher = Teacher(pair.teacher, dtype="float32", input_mean=record.mean, input_std=record.std, **statistics)
    most = max(*args.views, _OTHERS)
    views = _views(images, most, size, preprocessor)
    # Spread over the images as for `proteus slice`: the first half is fitted on, the other is for the linear map.
    fitting, others = views[:most], views[most : most + _OTHERS]
    held_out = _held_out(images, size, preprocessor)
    print("| views | stream, fitting views | patch tokens, held-out | cls, held-out | seconds |\n|---|---|---|---|---|")
    for count in args.views:
        given = fitting[_spread(most, count)] if count else noise_images(_OTHERS, size)
        with seeded(0):
            student = build_backbone(pair.student).requires_grad_(False).eval()
        start = time.perf_counter()
        errors = slice_teacher(student, teacher, given)
        seconds = time.perf_counter() - start
        regression = TokenRegression(student, teacher)
        regression.fit(others)
        metrics = regression.measure(held_out)
        patch, cls = (metrics[f"unexplained_variance_{name}"] for name in ("patch", "cls"))
        name = f"{count:,}" if count else f"0 ({_OTHERS} of noise)"
        print(f"| {name} | {errors[-1]:.3f} | {patch:.3f} | {cls:.3f} | {seconds:.0f} |", flush=True)


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="packaged", help="name or weight file (default: %(default)s)")
    parser.add_argument("--student", default="vit_tiny", help="(default: %(default)s)")
    parser.add_argument("--data", nargs="+", default=["packaged"], metavar="DIR", help="(default: packaged)")
    parser.add_argument("--views", nargs="+", type=int, default=[0, 64, 256, 1024, 4096], help="numbers of views")
    parser.add_argument("--img-size", default="auto", type=lambda text: text if text == "auto" else int(text))
    return parser.parse_args(argv)


def _spread(total: int, count: int) -> Tensor:
    return torch.arange(count) * total // count


def _views(images: RunImages, count: int, size: int, preprocessor: DistillDataPreprocessor) -> Tensor:
    samples = load_fitting_views(DATASETS.build(images.dataset("train", [])), count, size)
    return preprocessor(distill_collate(samples))["inputs"]


def _held_out(images: RunImages, size: int, preprocessor: DistillDataPreprocessor) -> Tensor:
    dataset = DATASETS.build(images.dataset("held-out", val_pipeline(size, cached=False)))
    return preprocessor(distill_collate([dataset[index] for index in range(min(len(dataset), 200))]))["inputs"]


if __name__ == "__main__":
    main()
