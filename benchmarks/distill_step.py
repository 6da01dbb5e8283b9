#!/usr/bin/env python
"""Measure the time of a distillation step of a config, against the released schedule with the same weights and images.

    python benchmarks/distill_step.py --config configs/proteus/vit-s_dinov2-b.py --baseline released --device cpu \
        --batch 8 --pairs 5

Before timing, losses and gradients of both are compared in float32 on one batch. The last line is the median of the
pairs' ratios of time, Proteus over the baseline.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from measure import clock_of, matmul_peak, pairs, spread, write_json
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from released import ReleasedStep, released_batch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from proteus.apis import load_config
from proteus.checkpoints import locate
from proteus.engine.optim import AutocastOptimWrapper
from proteus.models import Distiller
from proteus.registry import FUNCTIONS, MODELS, TRANSFORMS
from proteus.utils.precision import has_bfloat16

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GIB = 1024**3


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/proteus/vit-s_dinov2-b.py")
    parser.add_argument("--baseline", choices=("released", "none"), default="released")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=8, help="images in a step (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="alternating measurements (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1, help="steps in a measurement (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=1, help="measurements not counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--dtype", choices=("auto", *DTYPES), default="auto", help="auto: bfloat16 on GPUs that have it"
    )
    parser.add_argument("--size", type=int, help="side of the images in pixels (default: the config's)")
    parser.add_argument("--cached", action="store_true", help="use cached teacher tokens (Proteus only)")
    parser.add_argument("--ema", action="store_true", help="both keep an exponential moving average")
    parser.add_argument("--micro-batches", type=int, default=1, help="micro-batches per batch (Proteus only)")
    parser.add_argument(
        "--compile",
        nargs="?",
        const="default",
        metavar="MODE",
        help="compile teacher and student (ours only); a mode of torch.compile, for instance reduce-overhead",
    )
    parser.add_argument(
        "--passes",
        choices=("auto", "one", "two"),
        default="auto",
        help="passes of the baseline for clean and masked images; auto: the faster",
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory (saves two processes)")
    parser.add_argument("--json", help="write all results to a JSON file")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE")
    parser.add_argument("--only", choices=("ours", "baseline"), help="print the peak memory of one, as JSON")
    return parser.parse_args()


def load(args: Namespace) -> Config:
    """The config at the size, batch and dtype asked for, without weights that are not here."""
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get("default_scope", "proteus"))
    _drop_missing(cfg.model, "model", quiet=args.only is not None)
    if args.size:
        cfg.model.student.img_size = args.size
        cfg.model.teacher.backbone.img_size = args.size
    return cfg


def _drop_missing(node: Any, path: str, quiet: bool) -> None:
    if not isinstance(node, dict):
        return
    checkpoint = node.get("checkpoint")
    if isinstance(checkpoint, str) and not locate(checkpoint).is_file():
        node["checkpoint"] = None
        if not quiet:
            print(f"{path}.checkpoint={checkpoint} is not here: random weights")
    for key, value in node.items():
        _drop_missing(value, f"{path}.{key}", quiet)


class OnlyGradients(AutocastOptimWrapper):
    """An optimizer wrapper that stops after the backward pass."""

    def update_params(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Compute gradients and keep them."""
        self.backward(loss)


class OurStep:
    """The config's own distiller, optimizer wrapper and average, and one step with them."""

    def __init__(self, cfg: Config, args: Namespace, dtype: torch.dtype, compile: bool = False) -> None:
        name = str(dtype).removeprefix("torch.")
        cfg = copy.deepcopy(cfg)
        cfg.model.teacher.dtype = name
        cfg.model.micro_batches = args.micro_batches
        if compile:
            options = {"mode": args.compile} if args.compile != "default" else True
            cfg.model.teacher.compile = cfg.model.compile_student = options
        torch.manual_seed(0)
        self.model: Distiller = MODELS.build(cfg.model)
        if not isinstance(self.model, Distiller):
            raise SystemExit(f"{args.config}: {type(self.model).__name__} is not a Distiller with one student")
        self.model.to(args.device).train()
        self.cfg, self.args = cfg, args
        self.wrapper: Any = None
        self.average: Any = None

    def prepare(self, dtype: torch.dtype) -> None:
        """Build the optimizer; to be called when nothing replaces a weight any more."""
        wrapper = {**self.cfg.optim_wrapper, "dtype": str(dtype).removeprefix("torch.")}
        self.wrapper = build_optim_wrapper(self.model, Config(wrapper)._cfg_dict)
        if self.args.ema:
            self.average = MODELS.build({"type": "ForeachEMA", "momentum": 4e-5, "model": self.model})

    def step(self, batch: dict[str, Any]) -> None:
        """One step, as the runner takes it."""
        self.model.train_step(batch, optim_wrapper=self.wrapper)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def gradients(self, batch: dict[str, Any], dtype: torch.dtype) -> dict[str, float]:
        """One step that leaves weights and gradients; returns the losses by name."""
        for parameter in self.model.parameters():
            parameter.grad = None
        name = str(dtype).removeprefix("torch.")
        only = OnlyGradients(dtype=name, optimizer=torch.optim.SGD(self.model.parameters(), lr=0.0))
        return {key: loss.item() for key, loss in self.model.train_step(batch, optim_wrapper=only).items()}


def make_batch(step: OurStep) -> dict[str, Any]:
    """Random images on the host, with the config's own mask transform and collate function."""
    cfg, args, model = step.cfg, step.args, step.model
    generator = torch.Generator().manual_seed(1)
    size = model.student.img_size or args.size or 224
    steps = cfg.train_dataloader.dataset.get("pipeline", [])
    masker = next((TRANSFORMS.build(dict(s)) for s in steps if str(s["type"]).endswith("Mask")), None)
    torch.manual_seed(2)
    samples = []
    for _ in range(args.batch):
        image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)
        sample: dict[str, Any] = {"inputs": image, "data_samples": {"label": 0} if model.needs_labels else {}}
        if model.needs_masks and masker is not None:
            sample["mask"] = masker({"img": image})["mask"]
        samples.append(sample)
    collate = dict(cfg.train_dataloader.collate_fn)
    batch = FUNCTIONS.get(collate.pop("type"))(samples, **collate)
    return {key: value.pin_memory() if _pins(value) else value for key, value in batch.items()}


def _pins(value: Any) -> bool:
    return isinstance(value, Tensor) and torch.cuda.is_available()


@torch.no_grad()
def bring_tokens(step: OurStep, batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The batch with what the teacher makes of it, as a cache gives it."""
    images = step.model.data_preprocessor(batch, True)["inputs"]
    features = step.model.run_teacher(images).features
    tokens = {"teacher_cls": features.cls, "teacher_patches": features.patches}
    tokens = {key: value.to("cpu", dtype) for key, value in tokens.items()}
    return {**batch, **{key: value.pin_memory() if _pins(value) else value for key, value in tokens.items()}}


def baseline_batch(step: OurStep, batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """The same images and masks as the released loader would hand them over."""
    images = step.model.data_preprocessor(dict(batch), False)["inputs"].float().cpu()
    masks = batch.get("masks")
    if masks is None:
        masks = torch.zeros(0, step.model.student.grid_for(images.shape[-1])[0] ** 2, dtype=torch.bool)
    return released_batch(images, masks, dtype)


def make_baseline(step: OurStep, dtype: torch.dtype, passes: str) -> ReleasedStep:
    """The released schedule with our weights; it changes our teacher's position embeddings."""
    optimizer = step.cfg.optim_wrapper.optimizer
    return ReleasedStep(step.model, optimizer.lr, optimizer.weight_decay, dtype, step.args.ema, passes)


def count_flops(work: Callable[[], object], images: int) -> float:
    """FLOPs per image of one step, two a multiply-add, counted while it runs."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / images


def compare(
    ours: OurStep, baseline: ReleasedStep, batch: dict[str, Any], other: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, float]:
    """Print losses and gradients of both on one batch, and how far they are apart.

    Raises:
        SystemExit: They differ by more than float32's rounding, in float32.
    """
    found = ours.gradients(batch, dtype)
    wanted = baseline.gradients(other)
    print(f"one batch in {dtype!s:<23} ours    baseline  difference")
    for name, value in wanted.items():
        print(f"  {name:<26}{found[name]:>13.7f}{value:>12.7f}{abs(found[name] - value):>12.1e}")
    different = max(abs(found[name] - value) / max(abs(value), 1.0) for name, value in wanted.items())
    errors, norms, worst = 0.0, 0.0, (0.0, "none")
    for name, parameter, same in baseline.parameters(ours.model):
        if same.grad is None or parameter.grad is None:
            continue
        error, norm = ((parameter.grad - same.grad).norm() ** 2).item(), (same.grad.norm() ** 2).item()
        errors, norms = errors + error, norms + norm
        worst = max(worst, ((error / max(norm, 1e-12)) ** 0.5, name))
    relative = (errors / norms) ** 0.5
    print(f"  gradients                  relative difference {relative:.1e}; most in {worst[1]}: {worst[0]:.1e}")
    for parameter in [*ours.model.parameters(), *baseline.student.parameters(), *baseline.heads.parameters()]:
        parameter.grad = None
    if dtype == torch.float32 and (different > LOSS_TOLERANCE or relative > GRADIENT_TOLERANCE):
        raise SystemExit("Proteus and the baseline do not compute the same; nothing was timed")
    return {"losses": different, "gradients": relative}


def faster_passes(step: OurStep, dtype: torch.dtype, other: dict[str, Tensor]) -> str:
    """Which way of encoding clean and masked images is the faster for the baseline."""
    seconds = {}
    for passes in ("two", "one"):
        baseline = make_baseline(step, dtype, passes)
        clock = clock_of(step.args.device)
        baseline.step(other)
        seconds[passes] = min(clock(lambda step=baseline: step.step(other)) for _ in range(2))
    chosen = min(seconds, key=lambda passes: seconds[passes])
    print(f"baseline's passes: {chosen} ({', '.join(f'{key} {value:.3f} s' for key, value in seconds.items())})")
    return chosen


def peak_of(which: str, args: Namespace, passes: str) -> dict[str, float]:
    """Measure the peak memory of one of both in bytes, in a separate process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", which, "--passes", passes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the process that measures the memory of {which} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report_peak(args: Namespace, cfg: Config, dtype: torch.dtype) -> None:
    """Take three steps with one of both and print the peak memory."""
    ours = OurStep(cfg, args, dtype, bool(args.compile) and args.only == "ours")
    batch = make_batch(ours)
    if args.only == "ours":
        ours.prepare(dtype)
        batch = bring_tokens(ours, batch, torch.float16) if args.cached else batch
        run, work = ours, batch
    else:
        work = baseline_batch(ours, batch, torch.float32 if dtype == torch.float32 else torch.float16)
        run = make_baseline(ours, dtype, args.passes)
        del ours
    cuda = torch.device(args.device).type == "cuda"
    start = torch.cuda.memory_allocated() if cuda else _resident()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        run.step(work)
    peak = torch.cuda.max_memory_allocated() if cuda else _most_resident()
    print(json.dumps({"peak": peak, "before": start}))


def _most_resident() -> int:
    # Not getrusage: what it gives starts from the parent's figure.
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(args: Namespace) -> int:
    """Compare, then measure."""
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(args.threads)
    low = has_bfloat16(device)
    dtype = DTYPES[args.dtype] if args.dtype != "auto" else (torch.bfloat16 if low else torch.float32)
    cfg = load(args)
    if args.only:
        report_peak(args, cfg, dtype)
        return 0
    pixels = torch.float32 if dtype == torch.float32 else torch.float16
    ours = OurStep(cfg, args, torch.float32)
    batch = make_batch(ours)
    given = bring_tokens(ours, batch, torch.float32) if args.cached else batch
    flops = {"ours": count_flops(lambda: ours.gradients(given, torch.float32), args.batch)}
    figures: dict[str, Any] = {"flops_per_image": flops}
    if args.baseline == "released":
        baseline, other = make_baseline(ours, torch.float32, "two"), baseline_batch(ours, batch, torch.float32)
        flops["baseline"] = count_flops(lambda: baseline.gradients(other), args.batch)
        given = bring_tokens(ours, batch, torch.float32) if args.cached else batch
        figures["differences"] = {"float32": compare(ours, baseline, given, other, torch.float32)}
    if dtype != torch.float32 or args.compile:
        ours = OurStep(cfg, args, dtype, bool(args.compile))
        if args.baseline == "released":
            baseline, other = make_baseline(ours, dtype, "two"), baseline_batch(ours, batch, pixels)
            given = bring_tokens(ours, batch, torch.float32) if args.cached else batch
            figures["differences"]["timed"] = compare(ours, baseline, given, other, dtype)
        baseline = None
    ours.prepare(dtype)
    given = bring_tokens(ours, batch, torch.float16) if args.cached else batch
    peak = matmul_peak(device, dtype)
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    print(f"matmul peak measured: {peak / 1e12:.3f} TFLOP/s in {dtype} ({where})")
    if args.baseline == "none":
        return only_ours(args, ours, given, figures, peak)
    other = baseline_batch(ours, batch, pixels)
    passes = faster_passes(ours, dtype, other) if args.passes == "auto" else args.passes
    memory = {} if args.no_memory else {which: peak_of(which, args, passes) for which in ("ours", "baseline")}
    baseline = make_baseline(ours, dtype, passes)
    measured = pairs(
        lambda: [ours.step(given) for _ in range(args.steps)],
        lambda: [baseline.step(other) for _ in range(args.steps)],
        args.pairs,
        clock_of(device),
        args.warmup,
    )
    for which, seconds in (("ours", measured.ours), ("baseline", measured.baseline)):
        figures.setdefault("share_of_peak", {})[which] = _row(which, seconds, args, figures, peak)
    for which, bytes_ in memory.items():
        peak_gib, before = bytes_["peak"] / GIB, bytes_["before"] / GIB
        print(f"{which:<9} peak memory {peak_gib:.2f} GiB ({before:.2f} before the first step)")
    if memory:
        figures["memory"] = {**memory, "ratio": memory["ours"]["peak"] / memory["baseline"]["peak"]}
        print(f"memory ratio {figures['memory']['ratio']:.2f}")
    print(f"pairs {' '.join(f'{ratio:.3f}' for ratio in measured.ratios)}")
    figures |= {"matmul_peak": peak, "dtype": str(dtype), "passes": passes, **measured.record(args.batch * args.steps)}
    write_json(args.json, device, **figures)
    print(f"ratio {measured.ratio:.2f}")
    return 0


def only_ours(args: Namespace, ours: OurStep, batch: dict[str, Any], figures: dict[str, Any], peak: float) -> int:
    """Time without a baseline."""
    clock = clock_of(args.device)
    for _ in range(args.warmup):
        ours.step(batch)
    seconds = [clock(lambda: [ours.step(batch) for _ in range(args.steps)]) for _ in range(args.pairs)]
    share = _row("ours", seconds, args, figures, peak)
    write_json(
        args.json,
        args.device,
        **figures,
        matmul_peak=peak,
        seconds=seconds,
        median=median(seconds),
        share_of_peak=share,
    )
    return 0


def _row(which: str, seconds: list[float], args: Namespace, figures: dict[str, Any], peak: float) -> float:
    each = [value / args.steps for value in seconds]
    flops = figures["flops_per_image"][which]
    share = flops * args.batch / median(each) / peak
    print(
        f"{which:<9} {spread(each, 1e3, 'ms')} a step, {args.batch / median(each):.2f} images/s, "
        f"{flops / 1e9:.1f} GFLOPs per image, {share:.0%} of the matmul peak"
    )
    return share


if __name__ == "__main__":
    raise SystemExit(main(parse_args()))
