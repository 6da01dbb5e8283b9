"""Numbers that renaming and moving code must not change: losses and weights of short runs, and metrics of evaluations.

Each case runs a config of ``configs`` at toy size on generated images and compares what it logs with ``values.json``.
After a change that is meant to change numbers, write the table again and look at its diff::

    WRITE_GOLDEN_VALUES=1 python -m pytest tests/golden

Names that code gives to files, keys and metrics are here in capitals, and in ``values.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from runs import ROOT, write_teacher
from safetensors.torch import save_file
from segmentation_runs import write_scenes
from timm.data import ImageNetInfo

from proteus.apis import load_config, train
from proteus.apis.cache_teacher import build, prepare
from proteus.apis.evaluate import evaluate, protocol_configs
from proteus.models.backbones import locate_backbone

pytestmark = pytest.mark.slow

TABLE = Path(__file__).with_name("values.json")
WRITE = "WRITE_GOLDEN_VALUES" in os.environ

# Toy sizes. Each of these keys holds pixels wherever it stands in a config; 224 and 518 px become 56 px, 4 x 4 patches.
PIXEL_KEYS = ("size", "img_size", "crop_size", "scale", "stride")
SIDE = 56
TEACHER, CLASSIFIER, BACKBONE = "teacher.safetensors", "classifier.safetensors", "backbone.safetensors"
TINY_TEACHER = {"arch": "tiny", "embed_dim": 64, "depth": 4, "num_heads": 4}
TINY_STUDENT = {"arch": "tiny", "embed_dim": 48, "depth": 2, "num_heads": 3}
TINY_DENSE = {"arch": "tiny", "embed_dim": 24, "depth": 4, "num_heads": 2}
# Keys that have one value wherever they stand in a config.
EVERYWHERE = {
    "num_workers": 0,
    "persistent_workers": False,
    "pin_memory": False,
    "batch_size": 8,
    "indices": None,
    "max_iters": 20,
    "val_interval": 20,
    "visualizer": None,
}

# Distillation: a config and what is different in it. "{place}" is the folder of the images and weights.
ONLINE_EVALUATION = "default_hooks.online_eval"
ONLINE_EVALUATION_FILE = "online_eval.jsonl"
TEACHER_BACKBONE, TEACHER_CLASSIFIER = "model.teacher.backbone", "model.teacher.classifier"
STUDENT, TRAIN_SET = "model.student", "train_dataloader.dataset"
DISTILLATION = {
    TEACHER_BACKBONE: {**TINY_TEACHER, "checkpoint": f"{{place}}/{TEACHER}"},
    # AdamW's usual 1e-8 makes full steps of rounding errors where a gradient is zero, as that of the keys' biases is.
    "optim_wrapper.optimizer.eps": 1e-6,
    "param_scheduler": {"epochs": 10, "iters_per_epoch": 4, "warmup_epochs": 1, "warmup_lr": 2e-4},
    ONLINE_EVALUATION: None,
}
LOGITS = {
    TEACHER_CLASSIFIER: {"checkpoint": f"{{place}}/{CLASSIFIER}", "num_classes": 2, "layers": 4, "avgpool": True},
    "model.objectives.logits.num_classes": 2,
    "train_dataloader.dataset.num_classes": 2,
    "val_dataloader.dataset.num_classes": 2,
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "token, feature and patch": (
        "proteus/vit-s_dinov2-b.py",
        {
            STUDENT: TINY_STUDENT,
            ONLINE_EVALUATION: {
                "interval": 20,
                "images": 8,
                "knn": {"classes": 2, "images_per_class": 6, "ks": (1, 3)},
            },
        },
    ),
    "soft logits and labels": (
        "proteus/ablations/vit-s_dinov2-b_soft-logits-ce.py",
        {STUDENT: TINY_STUDENT, **LOGITS, "model.objectives.logits.loss.temperature": 2.0},
    ),
    "hard logits and labels with Mixup": (
        "proteus/ablations/vit-ti_dinov2-s_hard-logits-ce.py",
        # MKL and other libraries draw the blocks to drop differently.
        {STUDENT: {**TINY_STUDENT, "drop_path_rate": 0.0}, **LOGITS, "model.data_preprocessor.num_classes": 2},
    ),
    "two students": (
        "proteus/vit-ti-and-s_dinov2-b.py",
        {
            "model.students.tiny.student": {**TINY_STUDENT, "embed_dim": 24},
            "model.students.small.student": TINY_STUDENT,
        },
    ),
    "cached teacher": (
        "proteus/fixed_views/vit-s_dinov2-b_4-views.py",
        {STUDENT: TINY_STUDENT, TRAIN_SET: {"views": 2, "cache": "{place}/cache"}},
    ),
}
# Dense tasks: four steps and a validation. The schedules start at their peak, so that the steps count.
DENSE = {
    "model.backbone": {**TINY_DENSE, "out_indices": (0, 1, 2, 3), "checkpoint": f"{{place}}/{BACKBONE}"},
    "train_dataloader.batch_size": 4,
    "val_dataloader.batch_size": 1,
    "train_cfg": {"max_iters": 4, "val_interval": 4},
    "param_scheduler.0.start_factor": 1.0,
    "optim_wrapper.optimizer": {"lr": 0.02, "eps": 1e-4},
}
DENSE_RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "segmentation": ("ade20k/vit-ti_linear.py", {"model.decode_head": {"in_channels": [24] * 4, "channels": 96}}),
    "depth": (
        "nyu/vit-ti_linear.py",
        {
            "model.decode_head": {
                "embed_dims": 24,
                "post_process_channels": (8, 8, 16, 32),
                "channels": 16,
                "dropout_ratio": 0.0,
                "initial_depth": 2.5,  # at 0 the logarithm makes much of rounding errors
            },
            "val_evaluator.crop": None,
            "optim_wrapper.optimizer.lr": 1e-3,
        },
    ),
}
# Evaluation: the protocols of a report, and what is different in their configs.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "knn": {},
    "linear": {
        "protocol.min_iterations": 20,
        "protocol.epochs": 1,
        "protocol.batch_size": 40,
        "protocol.validations": 2,
    },
    "fine-grained": {},
    "robustness": {},
}
IMAGENET_SUBSETS, IMAGENET_A = "proteus/datasets/robustness/imagenet_subsets.json", "imagenet_a_classes"
# What is logged and depends on the clock or the machine.
MEASURED = {"time", "data_time", "images_per_s", "data_wait", "memory", "seconds"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RUNS)
def test_distillation(name: str, tmp_path: Path) -> None:
    write_photographs(tmp_path / "data")
    write_teacher(tmp_path / TEACHER, **{**TINY_TEACHER, "img_size": SIDE})
    generator = torch.Generator().manual_seed(0)
    width = 5 * TINY_TEACHER["embed_dim"]
    head = {"weight": torch.randn(2, width, generator=generator), "bias": torch.zeros(2)}
    save_file(head, tmp_path / CLASSIFIER)
    config, changes = RUNS[name]
    cfg = toy_config(config, {**DISTILLATION, **changes}, tmp_path)
    if "cache" in cfg.train_dataloader.dataset:
        build(prepare(toy_config(config, {**DISTILLATION, **changes}, tmp_path), device="cpu"))
    runner = train(cfg)
    found = {**logged(runner), "weights": digests(runner.model)}
    if cfg.default_hooks.get(ONLINE_EVALUATION.rpartition(".")[2]):
        lines = (tmp_path / "run" / ONLINE_EVALUATION_FILE).read_text().splitlines()
        found["online evaluation"] = numbers(json.loads(lines[-1]))
    compare(name, found)


@pytest.mark.parametrize("name", DENSE_RUNS)
def test_dense_task(name: str, tmp_path: Path) -> None:
    if name == "segmentation":
        pytest.importorskip("mmseg")
        write_scenes(tmp_path / "data")
    else:
        write_depth(tmp_path / "data")
    write_teacher(tmp_path / BACKBONE, **{**TINY_DENSE, "img_size": SIDE, "init_values": 1.0})
    config, changes = DENSE_RUNS[name]
    compare(name, logged(train(toy_config(config, {**DENSE, **changes}, tmp_path))))


def test_protocols(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "data")
    write_photographs(tmp_path / "two/train", 40)
    write_photographs(tmp_path / "two/test", 20, seed=1)
    configs: dict[str, Config] = {}
    for name, changes in PROTOCOLS.items():
        sets = [str(tmp_path / "two")] if name == "fine-grained" else []
        configs |= protocol_configs([name], ROOT / "configs", changes, img_size=32, sets=sets)
    spec = locate_backbone("random:test_vit", img_size=32)
    outcomes = evaluate(spec, configs, tmp_path / "data", tmp_path / "out", img_size=32, device="cpu", num_workers=0)
    assert not any(outcome.failed for name, outcome in outcomes.items() if name != "robustness")
    compare("protocols", {name: numbers(outcome.rows) for name, outcome in outcomes.items()})


def toy_config(path: str, changes: Mapping[str, Any], place: Path) -> Config:
    """A config of ``configs`` at toy size, on the data in ``place``."""
    cfg = load_config(ROOT / "configs" / path)
    cfg = Config(cfg.to_dict(), filename=cfg.filename)  # what a base uses twice is changed once
    shrink(
        cfg._cfg_dict, SIDE / (224 if "val_pipeline" in cfg else 518), {**EVERYWHERE, "data_root": str(place / "data")}
    )
    cfg.merge_from_dict(json.loads(json.dumps(changes).replace("{place}", str(place))))
    cfg.work_dir, cfg.experiment_name = str(place / "run"), place.name
    return cfg


def shrink(value: Any, ratio: float, everywhere: Mapping[str, Any]) -> None:
    """Scale the pixels of a config and give some keys the same value wherever they stand."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in everywhere:
                value[key] = everywhere[key]
            elif key in PIXEL_KEYS and isinstance(item, int):
                value[key] = round(item * ratio)
            elif key in PIXEL_KEYS and all(isinstance(side, int) for side in item):
                value[key] = tuple(round(side * ratio) for side in item)
            else:
                shrink(item, ratio, everywhere)
    elif isinstance(value, (list, tuple)):
        for item in value:
            shrink(item, ratio, everywhere)


def logged(runner: Runner) -> dict[str, Any]:
    """Every number of every step, and those of the last validation."""
    found: dict[str, Any] = {"train": {}, "val": {}}
    for key, buffer in runner.message_hub.log_scalars.items():
        phase, _, name = key.partition("/")
        if name not in MEASURED:
            values = buffer.data[0].tolist()
            found[phase][name] = values if phase == "train" else values[-1]
    return found


def digests(model: torch.nn.Module) -> dict[str, list[float]]:
    """Mean, root mean square and mean product with a fixed wave, which depends on each element's place."""
    found = {}
    for name, tensor in model.state_dict().items():
        values = tensor.detach().double().flatten()
        wave = torch.cos(torch.arange(len(values), dtype=torch.float64))
        found[name] = [values.mean().item(), values.square().mean().sqrt().item(), (values * wave).mean().item()]
    return found


def numbers(value: Any) -> Any:
    """The numbers of nested dicts, those that are written as text among them."""
    if isinstance(value, Mapping):
        found = {str(key): numbers(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if key not in MEASURED and item is not None and item != {}}
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def compare(case: str, found: Any) -> None:
    """Compare with the table, or write it."""
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if WRITE:
        table[case] = found
        TABLE.write_text(text(dict(sorted(table.items()))) + "\n")
        return
    wrong = differences(found, table[case], case)
    assert not wrong, "\n".join([f"{len(wrong)} values differ from {TABLE.name}:", *wrong[:20]])


def differences(found: Any, wanted: Any, where: str, absolute: float = 3e-6) -> list[str]:
    """Where two trees of numbers differ.

    Other vector units (AVX-512, AVX2, SSE) and thread counts were seen to move losses by up to 3e-6 of their size after
    20 steps, weights by 5e-6 of their root mean square, and correlations near 0 by 1e-6.
    """
    if isinstance(wanted, dict):
        if found.keys() != wanted.keys():
            return [f"{where}: keys differ: {sorted(found.keys() ^ wanted.keys())}"]
        tolerances = {key: 1e-8 if key == "train" else absolute for key in wanted}
        return [
            line for key in wanted for line in differences(found[key], wanted[key], f"{where} / {key}", tolerances[key])
        ]
    if np.shape(found) == np.shape(wanted) and np.allclose(found, wanted, rtol=1e-5, atol=absolute):
        return []
    return [f"{where}: {found}, not {wanted}"]


def text(value: Any, indent: str = "") -> str:
    """JSON with a line for each key; eight digits of each number."""
    if isinstance(value, dict):
        lines = [f"{indent} {json.dumps(key)}: {text(item, indent + ' ')}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return json.dumps([float(f"{item:.8g}") for item in value] if isinstance(value, list) else float(f"{value:.8g}"))


def write_photographs(folder: Path, count: int = 24, seed: int = 0) -> None:
    """JPEG and PNG files of coarse random colours in the folders of two classes."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        tint = np.array((12, 0, 0) if number % 2 else (0, 0, 12))
        pixels = generator.integers(0, 240, (6, 8, 3)) + tint
        size = (200, 150) if number % 3 else (96, 72)  # the larger ones are decoded at half size for some crops
        path = folder / "ab"[number % 2] / f"{number:03}.{'jpg' if number % 3 else 'png'}"
        save(path, np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)))


def write_imagenet(root: Path) -> None:
    """ImageNet's first 40 classes, and all 200 of ImageNet-A, 11 of them among the 40; each has colours under noise."""
    wnids = ImageNetInfo().label_names()
    subset = json.loads((ROOT / IMAGENET_SUBSETS).read_text())[IMAGENET_A]
    generator = np.random.default_rng(0)
    for label in sorted({*range(40), *subset}):
        colours = np.random.default_rng(label).integers(40, 215, (2, 2, 3)).repeat(16, 0).repeat(16, 1)
        known = label < 40
        counts = {"train": 3 * known, "val": 2 * known, "a": (10 if known else 1) * (label in subset)}
        for part, count in counts.items():
            folder = root / ("imagenet-a" if part == "a" else f"imagenet/{part}") / wnids[label]
            for number in range(count):
                pixels = np.clip(generator.normal(colours, 60), 0, 255).astype(np.uint8)
                save(folder / f"{number}.png", pixels)


def write_depth(root: Path) -> None:
    """NYU-Depth v2's layout; the depth, 1 to 4 m, is the redness, and is not known at the top."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        lines = []
        for number in range(count):
            coarse = Image.fromarray(generator.integers(0, 255, (3, 4, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((96, 72), Image.Resampling.BICUBIC))
            depth = (1000 + pixels[..., 0].astype(np.float64) / 255 * 3000).astype(np.uint16)
            depth[:8] = 0
            save(root / f"room/{part}_{number}.png", pixels)
            save(root / f"room/{part}_{number}_depth.png", depth)
            lines.append(f"/room/{part}_{number}.png /room/{part}_{number}_depth.png 518.8579\n")
        (root / f"nyu_{part}.txt").write_text("".join(lines))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
