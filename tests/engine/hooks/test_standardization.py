from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from safetensors.torch import load_file

import proteus
from proteus.checkpoints import CheckpointError
from proteus.datasets.proxy.fitting_views import fitting_keys
from proteus.engine.hooks import CorruptImageHook, CorruptProxySetError, StandardizationHook
from proteus.models import PHIStandardization
from proteus.structures import UserError

RUN = {"default_hooks__checkpoint__interval": 2, "default_hooks__checkpoint__max_keep_ckpts": -1}


def test_statistics_are_those_of_the_images_and_a_run_resumes_with_them(
    make_runner: Callable[..., Runner], multi_teacher: dict[str, Any]
) -> None:
    multi_teacher["teachers"]["two"]["drop"] = 0.5
    options = {**RUN, "model": multi_teacher, "train_cfg__max_iters": 4, "default_hooks__export__heads": True}
    options |= {"default_hooks__online_eval__images": 8, "default_hooks__online_eval__interval": 4}
    runner = make_runner("whole", **options)
    dataset, model = runner.train_dataloader.dataset, runner.model
    samples = [dataset[key] for key in fitting_keys(len(dataset), 8)[:8]]
    expected = {}
    for name, pair in model.distillers.items():
        batch = runner.train_dataloader.collate_fn(samples)
        features = pair.teacher(model.data_preprocessor(batch, True)["inputs"])
        expected[name] = PHIStandardization(features.cls.shape[1])
        expected[name].fit([features])
    runner.train()
    for name, pair in model.distillers.items():
        for key, value in expected[name].state_dict().items():
            torch.testing.assert_close(pair.standardization.state_dict()[key], value, atol=1e-5, rtol=1e-4)

    # The weights at the end are those of a run that stopped after two steps.
    folder = Path(runner.work_dir)
    resumed = make_runner("resumed", **options, resume=True, load_from=str(folder / "iter_2.pth"))
    resumed.train()
    for key, value in model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key

    # A run from these weights measures only a teacher that they have no statistics for.
    later = make_runner("later", **options, load_from=str(folder / "iter_2.pth"))
    later.load_or_resume()
    new = later.model.distillers["two"].standardization
    new.load_state_dict(PHIStandardization(new.cls_mean.numel()).state_dict())
    kept = later.model.distillers["one"].standardization
    kept.cls_mean += 1  # would be lost if it were measured again
    next(hook for hook in later.hooks if isinstance(hook, StandardizationHook)).before_train(later)
    assert torch.equal(kept.cls_mean, model.distillers["one"].standardization.cls_mean + 1)
    torch.testing.assert_close(new.state_dict(), model.distillers["two"].standardization.state_dict())

    # Metrics and exported heads of each teacher.
    lines = [json.loads(line) for line in (folder / "online_eval.jsonl").read_text().splitlines()]
    for name in ("one", "two"):
        assert {f"trained_on/{name}/centered_cosine_{kind}" for kind in ("cls", "patch")} <= set(lines[-1])
        assert f"trained_on/{name}/unexplained_variance_token" in lines[-1]
        path = folder / "student.safetensors"
        mapped: Any = proteus.load_backbone(path, mapped=name)
        images = torch.rand(2, 3, 56, 56)
        model.eval()
        with torch.no_grad():
            wanted = model.distillers[name].predict_tokens(model.student(images))
            torch.testing.assert_close(mapped(images).cls, wanted["cls"], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(mapped(images).patches, wanted["patches"], atol=1e-4, rtol=1e-4)
    proteus.export(path, folder / "out", ["timm"], report=lambda line: None)
    assert proteus.load_backbone(f"{folder / 'out'}#mapped:two").embed_dim == 12
    for wrong in (True, "three"):
        with pytest.raises(CheckpointError, match=r"holds the heads for one, two: write #mapped:one, or mapped='one'"):
            proteus.load_backbone(path, mapped=wrong)
    assert {file.name for file in folder.glob("*.safetensors")} == {"student.safetensors", "student_heads.safetensors"}
    assert "one.cls.head.0.weight" in load_file(folder / "student_heads.safetensors")


def test_workers_read_the_images_and_unreadable_ones_are_counted(
    make_runner: Callable[..., Runner], multi_teacher: dict[str, Any], tmp_path: Path
) -> None:
    def measured(runner: Runner) -> list[dict[str, Any]]:
        next(hook for hook in runner.hooks if isinstance(hook, StandardizationHook)).before_train(runner)
        return [pair.standardization.state_dict() for pair in runner.model.distillers.values()]

    broken = sorted((tmp_path / "images").rglob("*.*"))[0]
    broken.write_bytes(b"")
    for teacher in multi_teacher["teachers"].values():
        teacher["standardization"]["images"] = 16
    options = {"model": multi_teacher, "default_hooks__corrupt_images__max_share": 0.1}
    alone, shared = (make_runner(f"{n}_workers", **options, train_dataloader__num_workers=n) for n in (0, 2))
    torch.testing.assert_close(measured(alone), measured(shared), atol=0, rtol=0)
    counter = next(hook for hook in shared.hooks if isinstance(hook, CorruptImageHook))
    assert [name.partition(" (")[0] for name in counter.named] == [str(broken)]
    with pytest.raises(CorruptProxySetError, match="1 of 16 images of the proxy set are corrupt, more than"):
        measured(make_runner("too_many", model=multi_teacher, default_hooks__corrupt_images__few=0))


def test_statistics_need_a_proxy_set(make_runner: Callable[..., Runner], multi_teacher: dict[str, Any]) -> None:
    runner = make_runner(model=multi_teacher)
    assert [type(hook).__name__ for hook in runner.hooks].count("StandardizationHook") == 1
    runner._train_dataloader = SimpleNamespace(dataset=[1, 2])
    with pytest.raises(UserError, match=r"model\.teachers\.one\.standardization needs a proxy set .* write images=0"):
        StandardizationHook().before_train(runner)
