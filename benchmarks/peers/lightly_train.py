#!/usr/bin/env python
"""Distil with lightly-train 0.18 through its public API, as a peer in ``benchmarks/study.py``.

lightly-train needs a separate environment, since it pins other packages than Proteus does:

    python -m venv /path/to/env
    /path/to/env/bin/pip install "lightly-train==0.18.*" timm torch==2.13.0 torchvision==0.28.0
    export LIGHTLY_TRAIN_PYTHON=/path/to/env/bin/python

Take the CPU or GPU build of torch that Proteus has, or speeds do not compare. The study calls this script with that
interpreter; it does not import Proteus.

    $LIGHTLY_TRAIN_PYTHON benchmarks/peers/lightly_train.py --data photos --teacher teacher.pth --out run --steps 600
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median
from typing import Any

# This file has the package's name: do not import it instead.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]
# No usage reports, no weights from the network; set before the first import.
os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"
os.environ["LIGHTLY_TRAIN_POSTHOG_KEY"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import torch  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

TEACHER = "dinov2/vits14-noreg"
STUDENT = "timm/vit_tiny_patch16_224"
SIZE = 112
# The student of Proteus: patches of 14 px and LayerScale.
STUDENT_ARGS = {"img_size": SIZE, "patch_size": 14, "init_values": 1.0}
# Reference of its scaling, rate = lr * sqrt(batch / 1536).
_REFERENCE_BATCH = 1536
# Images/s is the median over windows of these many steps, without the first ones, as in the log of Proteus.
_WINDOW, _SKIPPED_WINDOWS = 20, 2


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of photographs")
    parser.add_argument("--teacher", type=Path, required=True, help="weights of a ViT-S/14 under DINOv2's names")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, replaced if it exists")
    parser.add_argument("--steps", type=int, default=600, help="training steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="images in a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, help="peak rate of the optimizer (default: lightly-train's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="loading processes (default: %(default)s)")
    parser.add_argument("--features", type=Path, help="write the teacher's features of a tensor of images, and end")
    return parser.parse_args()


def import_torchvision() -> None:
    """Import torchvision; its build for CUDA fails next to a CPU build of torch unless its operators are declared."""
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.library = library  # type: ignore[attr-defined]  # deleted with the object
        import torchvision  # noqa: F401


def train(args: Namespace) -> dict[str, Any]:
    """Distil, write ``student.pth`` and return facts about the run."""
    os.environ.setdefault("LIGHTLY_TRAIN_CACHE_DIR", str(args.out.with_name("lightly_train_cache")))
    import_torchvision()
    import lightly_train

    images = sum(path.is_file() for path in args.data.rglob("*"))
    per_epoch = max(images // args.batch, 1)
    # The optimizer's rate is scaled by the batch; undo that, so that --lr is the peak of the schedule.
    optim = {} if args.lr is None else {"optim_args": {"lr": args.lr / math.sqrt(args.batch / _REFERENCE_BATCH)}}
    times: list[float] = []
    register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter()))
    lightly_train.pretrain(
        out=str(args.out),
        data=str(args.data),
        overwrite=True,
        model=STUDENT,
        model_args={**STUDENT_ARGS, "num_classes": 0},
        method="distillation",
        method_args={
            "teacher": TEACHER,
            # 112 px is the grid of the file: no interpolation.
            "teacher_args": {"img_size": SIZE},
            "teacher_weights": str(args.teacher),
        },
        epochs=math.ceil(args.steps / per_epoch),
        trainer_args={"max_steps": args.steps},
        batch_size=args.batch,
        num_workers=args.workers,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        seed=args.seed,
        transform_args={"image_size": (SIZE, SIZE)},
        loggers={"tensorboard": None},
        **optim,
    )
    lightly_train.export(
        out=args.out / "student.pth",
        checkpoint=args.out / "checkpoints" / "last.ckpt",
        part="model",
        format="torch_state_dict",
        overwrite=True,
    )
    return {
        "images_per_second": images_per_second(times, args.batch),
        "versions": {"lightly-train": lightly_train.__version__, "torch": torch.__version__},
        "student": {"architecture": STUDENT.partition("/")[2], "arguments": STUDENT_ARGS},
    }


def images_per_second(times: list[float], batch: int) -> float | None:
    """Return the median rate over windows of steps that ended at the given times."""
    rates = [batch * _WINDOW / (end - start) for start, end in zip(times[::_WINDOW], times[_WINDOW::_WINDOW])]  # noqa: B905
    kept = rates[_SKIPPED_WINDOWS:] or rates
    return median(kept) if kept else None


def write_features(args: Namespace) -> None:
    """Encode images with the teacher as lightly-train builds it, to compare it with that of Proteus."""
    import_torchvision()
    from lightly_train._models import package_helpers

    wrapper: Any = package_helpers.get_wrapped_model(TEACHER, 3, {"img_size": SIZE}, load_weights=False)
    wrapper.make_teacher()
    wrapper.get_model().load_state_dict(torch.load(args.teacher, weights_only=True))
    with torch.inference_mode():
        found = wrapper.eval().forward_features(torch.load(args.features, weights_only=True))
    torch.save({"cls": found["cls_token"], "patches": found["features"].flatten(2).transpose(1, 2)}, args.out)


def main(args: Namespace) -> None:
    """Train, or write features."""
    torch.set_num_threads(args.threads)
    if args.features:
        return write_features(args)
    facts = train(args)
    (args.out / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts))
    return None


if __name__ == "__main__":
    main(parse_args())
