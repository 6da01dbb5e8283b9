"""Data sets that know nothing of us as proxy sets."""

from __future__ import annotations

import json
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner
from runs import CONFIG, RECIPE, write_images, write_teacher
from torch.utils.data import ConcatDataset as TorchConcat
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from proteus.apis import check
from proteus.apis.training import build_runner
from proteus.datasets import ImageFolder, ProxySampler, SampleKey, SeededSet, distill_collate
from proteus.datasets.proxy.collate import as_sample, check_sample
from proteus.structures import DataError, UserError
from proteus.utils.user_errors import mistake

STEPS = [
    {"type": "proteus.LoadRandomResizedCrop", "scale": 28, "crop_ratio_range": (0.1, 1.0)},
    {"type": "proteus.ToTensor", "dtype": "uint8"},
    {"type": "proteus.PackInputs"},
]


class Noise(Dataset):
    """Draws from every generator that a transform may draw from."""

    def __init__(self, form: str = "dict", length: int = 12) -> None:
        self.form, self.length = form, length
        self.table = list(range(length))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        position = self.table[index]  # a list takes nothing but an int
        noise = torch.rand(3, 56, 56) * 0.2 + random.random() * 0.4 + np.random.rand() * 0.4
        image = noise.float().clamp(0, 1)
        mask = torch.rand(16) < 0.5
        forms: dict[str, Callable[[], Any]] = {
            "tensor": lambda: image,
            "pair": lambda: (image, position % 3),
            "bytes": lambda: {"inputs": (image * 255).byte(), "mask": mask},
            "dict": lambda: {"inputs": image, "mask": mask.numpy().reshape(4, 4)},
            "meta": lambda: {"inputs": image, "mask": mask.int(), "data_samples": {"img_path": str(position)}},
            "inputs": lambda: {"inputs": (image * 255).byte(), "data_samples": object()},
            "array": lambda: {"inputs": np.zeros((56, 56, 3), np.uint8)},
            "gray": lambda: {"inputs": image[:1]},
            "double": lambda: {"inputs": image.double()},
            "normalised": lambda: {"inputs": image * 4 - 5, "mask": mask},
            "nothing": lambda: None,
            "nan": lambda: {"inputs": image / 0 - image / 0},
            "empty": lambda: {"inputs": image[:, :0]},
            "meta device": lambda: {"inputs": image.to("meta")},
            "sparse": lambda: {"inputs": image.to_sparse()},
            "no mask": lambda: {"inputs": image, "mask": None},
            "text mask": lambda: {"inputs": image, "mask": "abc"},
            "short mask": lambda: {"inputs": image, "mask": mask[:9]},
            "small": lambda: {"inputs": image[:, :50, :50], "mask": mask},
            "without mask": lambda: {"inputs": image, "label": 1},
            "raises": lambda: {}["nothing"],
            "raises later": lambda: [{"inputs": image, "mask": mask, "data_samples": {"corrupt": False}}][
                position // 3
            ],
            "raises lines": lambda: json.loads("{\n\n"),
            "stops": lambda: next(iter(())),
            "gone": lambda: Path("/nowhere/a.jpg").read_bytes(),
            "sizes": lambda: {"inputs": image[:, : 42 + 14 * (position % 2)], "mask": mask},
            "float mask": lambda: {"inputs": image, "mask": mask.float()},
        }
        return forms[self.form]()


class Listed(BaseDataset):
    """A data set of MMEngine with its own pipeline."""

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(12)]


class Draw:
    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return {
            "inputs": torch.rand(3, 56, 56),
            "mask": torch.rand(16) < 0.5,
            "data_samples": {"number": results["number"]},
        }


class Shrink:
    """Makes an image smaller where it had the size that the student takes."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, "img": results["img"][:, :50]}


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter(())


for kind, registry in (
    (Noise, DATASETS),
    (Listed, DATASETS),
    (Endless, DATASETS),
    (Draw, TRANSFORMS),
    (Shrink, TRANSFORMS),
):
    registry.register_module(name=f"Campaign{kind.__name__}", module=kind, force=True)


def test_a_key_is_an_int() -> None:
    key = SampleKey(7, 3, 5, 1)
    assert not hasattr(key, "__iter__")  # pandas would take it for a list of rows
    assert isinstance(key, int)
    assert key == 5
    assert hash(key) == hash(5)
    assert {5: "five"}[key] == "five"
    assert list(range(10))[key] == 5
    assert np.arange(10)[key] == 5
    assert torch.arange(10)[key] == 5
    assert default_collate([key, key]).tolist() == [5, 5]
    assert torch.tensor([key]).tolist() == [5]
    for copy in (pickle.loads(pickle.dumps(key)), key + 0, key - 0, key % 10):
        assert type(copy) is SampleKey
        assert copy.parts == (7, 3, 5, 1)
    assert (key - 2).parts == (7, 3, 3, 1)
    assert (key % 4).parts == (7, 3, 1, 1)
    assert SampleKey.of(key) is key
    assert SampleKey.of(5).parts == (0, 0, 5, 0)
    assert SampleKey.of(np.int64(5)).image == 5


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "make",
    [
        Noise,
        lambda: Subset(Noise(length=20), range(3, 15)),
        lambda: TorchConcat([Noise(length=5), Noise(length=7)]),
        lambda: Listed(pipeline=[{"type": "CampaignDraw"}]),
        lambda: ConcatDataset([Listed(pipeline=[{"type": "CampaignDraw"}])]),
    ],
    ids=["torch", "subset", "concat", "mmengine", "mmengine-concat"],
)
def test_a_seeded_set_resumes_whatever_the_workers(make: Callable[[], Any], workers: int) -> None:
    def batches(skip: int, workers: int) -> list[torch.Tensor]:
        data = SeededSet(make())
        sampler = ProxySampler(data, seed=1)
        sampler.skip(skip)
        loader = DataLoader(data, 4, sampler=sampler, collate_fn=distill_collate, num_workers=workers)
        return [batch["inputs"] for batch, _ in zip(loader, range(6 - skip // 4), strict=False)]

    whole, resumed = batches(0, 0), batches(8, workers)
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], resumed, strict=True))
    assert len(torch.cat(whole).flatten(1).unique(dim=0)) == 24


@pytest.mark.parametrize("wrap", [lambda data: Subset(data, [4, 3, 1]), lambda data: TorchConcat([data, data])])
def test_a_proxy_set_in_a_wrapper_draws_new_views(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    proxy = ImageFolder(str(write_images(tmp_path, 6)), STEPS)
    seen = SeededSet(wrap(proxy))
    first, second = seen[SampleKey(0, 0, 2)]["inputs"], seen[SampleKey(0, 1, 2)]["inputs"]
    assert not torch.equal(first, second)
    assert torch.equal(first, seen[SampleKey(0, 0, 2)]["inputs"])
    with pytest.raises(
        ValueError, match=r"does not pass sampler keys to the proxy set .* dict\(type='proteus\.SeededSet'"
    ):
        ProxySampler(wrap(proxy), seed=0)
    ProxySampler(seen, seed=0)


def test_attributes_and_pickles_go_through() -> None:
    data = pickle.loads(pickle.dumps(SeededSet(Listed(pipeline=[{"type": "CampaignDraw"}], metainfo={"a": 1}))))
    data.full_init()
    assert data.metainfo == {"a": 1}
    assert len(data) == 12
    with pytest.raises(AttributeError):
        data.nothing  # noqa: B018


def write_config(folder: Path, dataset: dict[str, Any], further: str = "") -> Path:
    path = folder / "theirs.py"
    images = write_images(folder / "images", 8)
    text = CONFIG.format(recipe=RECIPE, teacher=write_teacher(folder / "teacher.safetensors"), images=images)
    dataset = {"_delete_": True, **dataset}
    watch = "default_hooks['online_eval'] = dict(knn=None, images=4, interval=2)"
    path.write_text(f"{text}\ntrain_dataloader['dataset'] = {dataset!r}\n{watch}\n{further}")
    return path


def configured(path: Path) -> Config:
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.visualizer = str(path.parent / "run"), None
    cfg.train_cfg.update(max_iters=2)
    return cfg


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "_log_env", lambda *_: None)
    monkeypatch.setattr(Config, "pretty_text", "")


@pytest.mark.parametrize(
    "dataset",
    [
        {"type": "CampaignNoise"},
        {"type": "CampaignNoise", "form": "bytes"},
        {"type": "CampaignNoise", "form": "meta"},
        {"type": "CampaignListed", "pipeline": [{"type": "CampaignDraw"}]},
    ],
    ids=["torch", "bytes", "meta", "mmengine"],
)
def test_a_set_of_ones_own_is_checked_and_trained(dataset: dict[str, Any], tmp_path: Path) -> None:
    path = write_config(tmp_path, dataset)
    assert "12 images" in check(configured(path))
    runner = build_runner(configured(path))
    runner.train()
    assert type(runner.train_dataloader.dataset) is SeededSet
    assert runner.iter == 2


def test_mmengines_runner_trains_on_it_too(tmp_path: Path) -> None:
    runner = Runner.from_cfg(configured(write_config(tmp_path, {"type": "CampaignNoise"})))
    runner.train()
    assert type(runner.train_dataloader.dataset) is Noise


REFUSED = {
    "inputs": r"'data_samples' is of type object \(mmpretrain's PackInputs leaves BGR\): return dict\(inputs=",
    "array": r"'inputs' is an array of uint8 \(56, 56, 3\)",
    "gray": r"'inputs' is a tensor of torch\.float32 \(1, 56, 56\)",
    "double": r"'inputs' is of torch\.float64",
    "normalised": r"float32 from -.* without Normalize; model\.data_preprocessor",
    "nothing": r"is of type NoneType: return dict\(inputs=",
    "nan": r"float32 from nan to nan: give pixels in \[0, 1\]",
    "empty": r"'inputs' is a tensor of torch\.float32 \(3, 0, 56\)",
    "meta device": r"'inputs' has no values",
    "sparse": r"'inputs' has the layout torch\.sparse_coo",
    "no mask": r"'mask' is of type NoneType: write one bool",
    "text mask": r"'mask' is of type str: write one bool",
    "float mask": r"'mask' is a tensor of torch\.float32 \(16,\): write one bool for each patch",
}


@pytest.mark.parametrize("form", REFUSED)
def test_other_samples_are_refused(form: str) -> None:
    with pytest.raises(DataError, match=REFUSED[form]) as refused:
        check_sample(Noise(form)[0])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("form", ["inputs", "normalised"])
def test_other_samples_are_refused_before_training(form: str, tmp_path: Path) -> None:
    path = write_config(tmp_path, {"type": "CampaignNoise", "form": form})
    with pytest.raises(UserError, match=REFUSED[form]):
        check(configured(path))
    with pytest.raises(DataError, match=REFUSED[form]):
        build_runner(configured(path)).train()


RAISED = {
    "raises": r"CampaignNoise|Noise\[0\] raised KeyError: 'nothing' \(.*test_foreign_datasets\.py, line \d+\)",
    "raises later": r"Noise\[\d+\] raised IndexError: list index out of range \(",
    "raises lines": r"Noise\[0\] raised JSONDecodeError: Expecting property name",
    "stops": r"Noise\[0\] raised StopIteration \(",
    "gone": r"Noise\[0\] raised FileNotFoundError: .*/nowhere/a\.jpg",
    "short mask": "masks of 9 values for images of 16 patches",
    "small": "images of 50x50 px do not divide into patches of 14 px",
    "without mask": "the patch objective needs masks: add a mask transform",
    "sizes": r"images of one batch differ in size, \(3, \d+, 56\) and \(3, \d+, 56\): end the pipeline's",
}


@pytest.mark.parametrize("form", ["short mask", "small", "without mask", "sizes", "raises", "raises lines", "stops"])
def test_a_check_refuses_what_the_first_step_would(form: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=RAISED[form]) as refused:
        check(configured(write_config(tmp_path, {"type": "CampaignNoise", "form": form})))
    assert "\n" not in str(refused.value)


def test_a_check_takes_samples_through_each_of_several_students(tmp_path: Path) -> None:
    cfg = configured(write_config(tmp_path, {"type": "CampaignNoise", "form": "short mask"}))
    students = {"a": {key: cfg.model.pop(key) for key in ("student", "objectives")}}
    cfg.model.update(type="MultiStudentDistiller", students=students)
    with pytest.raises(UserError, match=RAISED["short mask"]):
        check(cfg)


def test_a_check_takes_samples_of_our_sets_through_the_model(tmp_path: Path) -> None:
    """A transform of a user's own may change what the sizes in the config say."""
    cfg = configured(write_config(tmp_path, {"type": "CampaignNoise"}))
    cfg.train_dataloader.dataset = {
        "type": "ImageFolder",
        "data_root": str(tmp_path / "images"),
        "pipeline": [
            {"type": "LoadRandomResizedCrop", "scale": 56},
            {"type": "ToTensor"},
            {"type": "CampaignShrink"},
            {"type": "UniformMask", "patch_size": 14},
            {"type": "PackInputs"},
        ],
    }
    with pytest.raises(UserError, match="images of 50x56 px do not divide into patches of 14 px"):
        check(cfg)


def test_a_check_needs_no_masks_for_validation(tmp_path: Path) -> None:
    cfg = configured(write_config(tmp_path, {"type": "CampaignNoise"}))
    cfg.val_dataloader.dataset = {"type": "SeededSet", "dataset": {"type": "CampaignNoise", "form": "without mask"}}
    assert "12 images" in check(cfg)
    cfg.val_dataloader.dataset.dataset.form = "small"
    with pytest.raises(UserError, match=RAISED["small"]):
        check(cfg)


# An error of a worker comes as text: the forms that raise late are enough for that.
@pytest.mark.parametrize(
    ("form", "workers"), [(form, 0) for form in RAISED] + [(form, 1) for form in RAISED if "later" in form]
)
def test_a_set_that_raises_or_changes_during_a_run_is_one_line(form: str, workers: int, tmp_path: Path) -> None:
    cfg = configured(write_config(tmp_path, {"type": "CampaignNoise", "form": form}))
    cfg.train_dataloader.num_workers = workers
    cfg.default_hooks["online_eval"] = None
    with pytest.raises((UserError, OSError)) as raised:
        build_runner(cfg).train()
    line = mistake(raised.value)
    assert line is not None
    assert re.search(RAISED[form], line)
    assert "\n" not in line


def test_grids_that_do_not_match_are_one_sentence(tmp_path: Path) -> None:
    """A foreign model's grid is known at its first forward pass: in ``--check``, or before the first step."""
    pytest.importorskip("mmpretrain")
    further = """
model["student"] = dict(_delete_=True, type="mmpretrain.ResNet", depth=18, base_channels=8, stem_channels=8)
model["objectives"] = dict(patch=None)
model["grids"] = dict(match="teacher_size")
model["teacher"] |= dict(img_size=42)
"""
    path = write_config(tmp_path, {"type": "CampaignNoise"}, further)
    words = (
        r"model\.grids\.match='teacher_size', and model\.teacher has 3x3 patches, the student \dx\d: remove model\.te"
    )
    with pytest.raises(UserError, match=words):
        check(configured(path))
    with pytest.raises(UserError, match=words):
        build_runner(configured(path)).train()


def test_sets_without_a_length_are_refused(tmp_path: Path) -> None:
    for data in (Endless(), TensorDataset(torch.zeros(0))):
        with pytest.raises(ValueError, match=r"not a map-style data set|empty"):
            ProxySampler(data, seed=0)
    with pytest.raises(UserError, match="Endless is not a map-style data set"):
        check(configured(write_config(tmp_path, {"type": "CampaignEndless"})))


def test_a_missing_collate_function_is_named(tmp_path: Path) -> None:
    further = "train_dataloader['collate_fn'] = dict(_delete_=True, type='pseudo_collate')\n"
    path = write_config(tmp_path, {"type": "CampaignNoise"}, further)
    with pytest.raises(DataError, match=r"a dict with the keys inputs, mask; .*type='proteus\.distill_collate'"):
        build_runner(configured(path)).train()


def test_samples_that_do_not_go_together() -> None:
    image = torch.zeros(3, 8, 8)
    for samples, words in (
        ([image, torch.zeros(3, 8, 9)], r"images of one batch differ in size, \(3, 8, 8\) and \(3, 8, 9\)"),
        ([{"inputs": image, "mask": [True]}, {"inputs": image}], "1 of 2 samples of a batch have a mask"),
        ([(image, 3), image], r"1 of 2 samples of a batch have a label"),
        ([{"inputs": image, "mask": [True] * n} for n in (3, 4)] * 2, r"masks of one batch differ in size, \(3,\)"),
    ):
        with pytest.raises(DataError, match=words):
            distill_collate(samples)


def test_labels_of_torchvision_pairs() -> None:
    batch = distill_collate([Noise("pair")[index] for index in range(4)])
    assert batch["labels"].tolist() == [0, 1, 2, 0]
    assert batch["labels"].dtype == torch.int64
    assert as_sample({"inputs": torch.zeros(3, 2, 2), "label": 4})["data_samples"].metainfo == {"label": 4}
