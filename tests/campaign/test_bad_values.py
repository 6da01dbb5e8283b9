"""Wrong values in configs: the message has the key, the value and the expected values, before data is read."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from proteus.apis import ConfigError, load_config
from proteus.config.load import read_config
from proteus.config.schema import KNOWN
from proteus.config.validate import check_config

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs/proteus/vit-s_dinov2-b.py"
# Keys of the recipe that also accept another type, or None.
ALSO_RIGHT: dict[str, tuple[type, ...]] = {
    "dataset.indices": (int,),  # the number of images
    "optimizer.fused": (type(None),),  # torch decides
}

# A key of the recipe, a wrong value, and the end of the message.
CASES: list[tuple[str, Any, str]] = [
    ("train_dataloader.batch_size", 8.5, "found 8.5, expected a positive integer"),
    ("train_dataloader.batch_size", -4, "found -4, expected a positive integer"),
    ("train_dataloader.batch_size", 0, "found 0, expected a positive integer"),
    ("train_dataloader.batch_size", "x", "found 'x', expected a positive integer"),
    ("train_dataloader.batch_size", "8", "found '8', expected a positive integer; write 8 without quotes"),
    ("train_dataloader.batch_size", 64.0, "found 64.0, expected a positive integer; write 64"),
    ("train_dataloader.batch_size", True, "found True, expected a positive integer"),
    ("train_dataloader.batch_size", None, "found None, expected a positive integer"),
    ("train_dataloader.batch_size", [8], "found [8], expected a positive integer"),
    ("train_dataloader.batch_size", 10**12, "expected a positive integer below 2**31"),
    ("train_dataloader.num_workers", -1, "found -1, expected an integer from 0 to 512"),
    ("train_dataloader.num_workers", 100_000, "found 100000, expected an integer from 0 to 512"),
    ("train_dataloader.prefetch_factor", 0, "found 0, expected a positive integer or None"),
    ("train_dataloader.pin_memory", "yes", "found 'yes', expected True or False"),
    ("train_dataloader.pin_memory", "true", "found 'true', expected True or False; write True without quotes"),
    ("train_dataloader.drop_last", 1, "found 1, expected True or False"),
    ("train_dataloader.timeout", -1, "found -1, expected a non-negative number"),
    ("train_dataloader.sampler.repeats", 0, "found 0, expected a positive integer"),
    ("train_dataloader.sampler.seed", -1, "expected an integer from 0 to 4294967295 or None"),
    ("train_dataloader.collate_fn.probability", 2, "found 2, expected a number from 0 to 1"),
    ("train_dataloader.collate_fn.probability", math.nan, "found nan, expected a number from 0 to 1"),
    ("train_dataloader.dataset.data_root", 5, "found 5, expected the name of a folder"),
    ("train_dataloader.dataset.data_root", "", "found '', expected the name of a folder"),
    ("train_dataloader.dataset.data_root", None, "found None, expected"),
    ("visualizer.vis_backends", 5, "found 5, expected a list of dicts or None"),
    ("train_dataloader.dataset.indices", -3, "found -3, expected a positive integer or a list of"),
    ("train_dataloader.dataset.indices", [0, -1], "found [0, -1], expected a positive integer or a list of"),
    ("train_dataloader.dataset.held_out", 2, "found 2, expected a number above 0 and below 1"),
    ("train_dataloader.dataset.pipeline.0.scale", "big", "found 'big', expected a positive integer"),
    (
        "train_dataloader.dataset.pipeline.0.crop_ratio_range",
        (1.0, 0.1),
        "expected a list of 2 numbers above 0 and up to 1",
    ),
    ("train_dataloader.dataset.pipeline.0.crop_ratio_range", 0.5, "found 0.5, expected a list of 2 numbers"),
    ("train_dataloader.dataset.pipeline.1.prob", 1.5, "found 1.5, expected a number from 0 to 1"),
    ("train_dataloader.dataset.pipeline.3.dtype", "float16", "found 'float16', expected one of 'uint8', 'float32'"),
    ("train_dataloader.dataset.pipeline.5.ratio", 1.5, "found 1.5, expected a number above 0 and of at most 1"),
    ("train_dataloader.dataset.pipeline.5.patch_size", 0, "found 0, expected a positive integer"),
    ("val_dataloader.dataset.pipeline.1.scale", -256, "found -256, expected a positive integer"),
    ("model.student.depth", 0, "found 0, expected a positive integer or None"),
    ("model.student.depth", 6.0, "expected a positive integer or None; write 6"),
    ("model.student.embed_dim", -384, "found -384, expected a positive integer or None"),
    ("model.student.num_heads", "six", "found 'six', expected a positive integer"),
    ("model.student.img_size", 57, "found 57, expected a multiple of patch_size=14, such as 56 or 70"),
    ("model.student.patch_size", 0, "found 0, expected a positive integer"),
    ("model.student.drop_path_rate", 2, "found 2, expected a number of at least 0 and below 1"),
    ("model.student.drop_path_rate", 1.0, "found 1.0, expected a number of at least 0 and below 1"),
    ("model.student.drop_path_rate", math.inf, "found inf, expected a number of at least 0 and below 1"),
    ("model.student.init_values", "automatic", "found 'automatic', expected a positive number or one of 'auto'"),
    ("model.student.reg_tokens", -1, "found -1, expected a non-negative integer"),
    ("model.student.mask_token", "False", "found 'False', expected True or False; write False without quotes"),
    ("model.student.arch", 3, "found 3, expected a string"),
    ("model.student", 3, "found 3, expected a dict"),
    ("model.objectives.token.weight", "heavy", "found 'heavy', expected a non-negative number"),
    ("model.objectives.token.weight", -1.0, "found -1.0, expected a non-negative number"),
    ("model.teacher.mean", (0.5, "x", 0.5), "found (0.5, 'x', 0.5), expected a list of 3 numbers"),
    ("model.teacher.std", (0.5, 0.0, 0.5), "expected a list of 3 positive numbers"),
    ("model.micro_batches", 0, "found 0, expected a positive integer"),
    ("optim_wrapper.optimizer.lr", "fast", "found 'fast', expected a positive number"),
    ("optim_wrapper.optimizer.lr", "1e-3", "found '1e-3', expected a positive number; write 1e-3 without quotes"),
    ("optim_wrapper.optimizer.lr", -1, "found -1, expected a positive number"),
    ("optim_wrapper.optimizer.lr", 0, "found 0, expected a positive number"),
    ("optim_wrapper.optimizer.lr", math.nan, "found nan, expected a positive number"),
    ("optim_wrapper.optimizer.lr", math.inf, "found inf, expected a positive number"),
    ("optim_wrapper.optimizer.lr", None, "found None, expected a positive number"),
    ("optim_wrapper.optimizer.lr", True, "found True, expected a positive number"),
    ("optim_wrapper.optimizer.weight_decay", -0.1, "found -0.1, expected a non-negative number"),
    ("optim_wrapper.optimizer.betas", 0.9, "found 0.9, expected a list of numbers of at least 0 and below 1"),
    ("optim_wrapper.optimizer.betas", (0.9, 1.0), "expected a list of numbers of at least 0 and below 1"),
    ("optim_wrapper.optimizer.betas", [], "found [], expected a list of numbers"),
    ("optim_wrapper.optimizer.eps", -1e-8, "expected a non-negative number"),
    ("optim_wrapper.dtype", "half", "found 'half', expected one of 'auto'"),
    ("optim_wrapper.accumulative_counts", 0, "found 0, expected a positive integer"),
    ("optim_wrapper.clip_grad", {"max_norm": -1}, "clip_grad.max_norm: found -1, expected a positive number"),
    ("optim_wrapper.paramwise_cfg.norm_decay_mult", "none", "found 'none', expected a non-negative number"),
    ("optim_wrapper.constructor", 5, "found 5, expected a registered name"),
    ("param_scheduler.epochs", 0, "found 0, expected a positive integer"),
    ("param_scheduler.iters_per_epoch", 12.5, "found 12.5, expected a positive integer"),
    ("param_scheduler.warmup_epochs", -1, "found -1, expected a non-negative integer"),
    ("param_scheduler.warmup_epochs", 300, "found 300 of 300 epochs, expected fewer"),
    ("param_scheduler.warmup_lr", "slow", "found 'slow', expected a non-negative number"),
    ("param_scheduler.min_lr", math.nan, "found nan, expected a non-negative number"),
    ("train_cfg.max_iters", "many", "found 'many', expected a positive integer"),
    ("train_cfg.max_iters", 0, "found 0, expected a positive integer"),
    ("train_cfg.max_iters", -5, "found -5, expected a positive integer"),
    ("train_cfg.max_iters", 1e3, "found 1000.0, expected a positive integer; write 1000"),
    ("train_cfg.val_interval", 0, "found 0, expected a positive integer"),
    ("train_cfg.val_begin", -1, "found -1, expected a non-negative integer"),
    ("default_hooks.checkpoint.interval", 0, "found 0, expected a positive integer or one of -1"),
    ("default_hooks.checkpoint.max_keep_ckpts", 0, "found 0, expected a positive integer or one of -1"),
    ("default_hooks.checkpoint.by_epoch", "no", "found 'no', expected True or False"),
    ("default_hooks.logger.interval", 0, "found 0, expected a positive integer"),
    ("default_hooks.logger.priority", "URGENT", "expected an integer from 0 to 100 or one of 'HIGHEST'"),
    ("default_hooks.corrupt_images.max_share", 5, "found 5, expected a number from 0 to 1"),
    ("default_hooks.online_eval.images", 1, "found 1, expected an integer of at least 2"),
    ("default_hooks.online_eval.knn.images_per_class", 7.5, "found 7.5, expected an integer of at least 2"),
    ("default_hooks.online_eval.knn.classes", 1, "found 1, expected an integer of at least 2"),
    ("default_hooks.online_eval.knn.ks", (), "found (), expected a list of positive integers"),
    ("default_hooks.online_eval.knn.ks", 10, "found 10, expected a list of positive integers"),
    ("auto_scale_lr.base_batch_size", 0, "found 0, expected a positive integer"),
    ("log_processor.window_size", 0, "found 0, expected a positive integer"),
    ("log_processor.mean_pattern", "(", "found '(', expected a regular expression or None"),
    ("randomness.seed", -1, "found -1, expected an integer from 0 to 4294967295 or None"),
    ("randomness.seed", "zero", "found 'zero', expected an integer"),
    ("env_cfg.mp_cfg.mp_start_method", "thread", "found 'thread', expected one of 'fork'"),
    ("log_level", "LOUD", "found 'LOUD', expected one of 'CRITICAL'"),
    ("resume", "yes", "found 'yes', expected True or False"),
    ("load_from", 3, "found 3, expected the name of a file or None"),
    ("launcher", "torchrun", "found 'torchrun', expected one of none, pytorch"),
    ("model.teacher.mean", [0.5, 0.5], "found [0.5, 0.5], expected a list of 3 numbers"),
    ("model.teacher.std", [0.5] * 4, "expected a list of 3 positive numbers"),
    ("train_dataloader.dataset.pipeline", [5], "train_dataloader.dataset.pipeline[0]: found 5, expected a dict with a"),
    ("train_dataloader.dataset.pipeline.0.scale", 10**6, "found 1000000, expected a positive integer up to 16384"),
    ("train_dataloader.dataset.pipeline.5.ratio", 0, "found 0, expected a number above 0 and of at most 1"),
    ("train_dataloader.dataset", None, "found None, expected a dict"),
    ("train_dataloader.sampler", "ProxySampler", "found 'ProxySampler', expected a dict with a type"),
    ("train_dataloader.collate_fn", "default_collate", "found 'default_collate', expected a dict with a type"),
    ("train_dataloader.collate_fn", None, "found None, expected a dict or a function"),
    ("optim_wrapper.optimizer", None, "found None, expected a dict"),
    ("default_hooks", [], "found [], expected a dict or None"),
    ("default_hooks.logger", "LoggerHook", "found 'LoggerHook', expected a dict with a type, the name of a hook"),
    ("default_hooks.logger", [{"type": "LoggerHook"}], "found a list of 1, expected one hook"),
    ("default_hooks.checkpoint.rule", "most", "found 'most', expected one of 'greater', 'less'"),
    ("default_hooks.checkpoint.filename_tmpl", "last.pth", "expected a file name such as 'iter_{}.pth'"),
    ("default_hooks.checkpoint.filename_tmpl", "iter_{x}.pth", "expected a file name such as 'iter_{}.pth'"),
    ("default_hooks.checkpoint.backend_args", {"backend": "petrel"}, "expected dict(backend='local')"),
    ("custom_hooks", {"type": "EMAHook"}, "found a dict (type), expected a list of dicts or None"),
    ("custom_hooks", [None], "found [None], expected a list of dicts or None"),
    ("env_cfg", None, "found None, expected a dict"),
    ("env_cfg.mp_cfg", 5, "found 5, expected a dict"),
    ("randomness", None, "found None, expected a dict"),
    ("val_evaluator", "TeacherAgreement", "found 'TeacherAgreement', expected a dict or a list of dicts or None"),
    ("val_evaluator.collect_device", "gpu0", "found 'gpu0', expected one of 'cpu', 'gpu', 'npu'"),
    (
        "log_processor.custom_cfg",
        [{"data_src": "loss", "method_name": "median"}],
        "method_name ('min', 'max', 'current'",
    ),
    ("log_processor.num_digits", 1000, "found 1000, expected an integer from 1 to 17"),
    ("runner_type", "FlexibleRunner", "found 'FlexibleRunner', expected one of 'Runner'"),
    ("load_from", " ", "found ' ', expected the name of a file or None"),
    ("work_dir", 3, "found 3, expected the name of a folder or None"),
    ("work_dir", "", "found '', expected the name of a folder or None"),
]
# Complete schedules and optimizers of other toolboxes.
PARTS: list[tuple[str, Any, str]] = [
    ("param_scheduler", {"type": "LinearLR", "start_factor": 0}, "start_factor: found 0, expected a number above 0"),
    ("param_scheduler", {"type": "LinearLR", "begin": 5, "end": 5}, "end: found 5 with begin=5"),
    ("param_scheduler", {"type": "LinearLR", "begin": -1}, "begin: found -1, expected a non-negative integer"),
    ("param_scheduler", {"type": "MultiStepLR", "milestones": [5, 2]}, "milestones: found [5, 2], expected a list of"),
    ("param_scheduler", {"type": "MultiStepLR", "milestones": 5}, "milestones: found 5, expected a list of"),
    ("param_scheduler", {"type": "CosineAnnealingLR", "T_max": 0}, "T_max: found 0, expected a positive integer"),
    ("param_scheduler", {"type": "PolyLR", "power": -1}, "power: found -1, expected a positive number"),
    ("param_scheduler", {"type": "PolyLR", "eta_min": -1}, "eta_min: found -1, expected a non-negative number"),
    ("optim_wrapper.optimizer", {"type": "SGD", "lr": 1, "momentum": 2}, "momentum: found 2, expected a number of"),
    ("optim_wrapper.optimizer", {"type": "SGD", "lr": 1, "nesterov": 1}, "nesterov: found 1, expected True or False"),
    (
        "custom_hooks",
        [{"type": "EMAHook", "momentum": 1.0}],
        "momentum: found 1.0, expected a number above 0 and below 1",
    ),
    ("custom_hooks", [{"type": "EMAHook", "begin_iter": -1}], "begin_iter: found -1, expected a non-negative integer"),
    ("custom_hooks", [{"type": "EMAHook", "ema_type": "Average"}], "[0].ema_type: no model 'Average'"),
    ("param_scheduler", {"type": "OneCycleLR", "eta_max": -1}, "eta_max: found -1, expected a positive number"),
    (
        "model.objectives.token.loss",
        {"type": "SoftLogitsLoss", "temperature": 0},
        "temperature: found 0, expected a pos",
    ),
]


# Keys that are valid alone: changes, the key in the message, and words of the message.
COMBINATIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"val_dataloader.sampler": {"type": "InfiniteSampler"}}, "val_dataloader.sampler.type", "the val loop"),
    ({"test_dataloader.sampler": {"type": "ProxySampler"}}, "test_dataloader.sampler.type", "the test loop"),
    ({"train_cfg": {"by_epoch": True, "max_epochs": 1}}, "train_dataloader.sampler.type", "the first epoch"),
    ({"train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 1}}, "train_dataloader.sampler.type", "never ends"),
    ({"param_scheduler": {"type": "CosineAnnealingLR"}}, "param_scheduler.by_epoch", "never step"),
    ({"param_scheduler": [{"type": "PolyLR", "by_epoch": True}]}, "param_scheduler[0].by_epoch", "never step"),
    (
        {"optim_wrapper.optimizer.lr": 1e-6},
        "param_scheduler.min_lr",
        "expected at most optim_wrapper.optimizer.lr=1e-06",
    ),
    ({"optim_wrapper.optimizer": {"type": "SGD", "lr": 1.0}}, "optim_wrapper.optimizer.weight_decay", "scales it"),
    ({"optim_wrapper.paramwise_cfg.layer_decay_rate": 0.5}, "optim_wrapper.paramwise_cfg.layer_decay_rate", "ignored"),
    ({"default_hooks.checkpoint.by_epoch": True}, "default_hooks.checkpoint.by_epoch", "only checkpoint would be"),
    ({"val_evaluator": [{"type": "TeacherAgreement"}] * 2}, "val_evaluator[1].prefix", "is listed twice"),
    ({"val_evaluator": []}, "val_evaluator", "is empty; add a metric"),
    ({"test_evaluator": {"metrics": []}}, "test_evaluator.metrics", "is empty; add a metric"),
    ({"compile": True}, "compile", "write model.compile_student=True"),
]


@pytest.fixture(scope="module")
def recipe() -> Config:
    config = load_config(RECIPE)
    for loader in (config.val_dataloader, config.test_dataloader):
        loader.dataset.indices = [0, 25]  # not two thousand, which are copied for each case
    return config


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the path of each value that is not a dict, and the value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def put(config: Config, path: tuple[str | int, ...], value: Any) -> Config:
    result = copy.deepcopy(config)
    node: Any = result
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return result


def dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def wrong_values(value: Any) -> list[Any]:
    """Return values of other types, and out of all ranges."""
    if isinstance(value, bool):
        return ["yes", "", 3, None, 0.5, []]
    if isinstance(value, int):
        return ["many", "", -4, 8.5, True, math.nan, math.inf, 10**30, [3], {}]
    if isinstance(value, float):
        return ["fast", "", math.nan, math.inf, -math.inf, -1.0, True, [0.5], {}]
    if isinstance(value, str):
        return [5, True, 0.5, ["x"]]
    if isinstance(value, (list, tuple)):
        return ["x", "", 0.5, True, [None], ["x"], [math.nan], {}]
    return [5, True, 0.5, [1]]


def is_also_right(key: str, value: Any) -> bool:
    return any(key.endswith(end) and type(value) in types for end, types in ALSO_RIGHT.items())


@pytest.mark.parametrize(("key", "value", "words"), [*CASES, *PARTS], ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_named(key: str, value: Any, words: str, recipe: Config) -> None:
    path = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
    problems = check_config(put(recipe, path, value))
    assert any(problem.startswith(dotted(path)) and words in problem for problem in problems), problems


@pytest.mark.parametrize(("values", "key", "words"), COMBINATIONS, ids=[str(each[0])[:60] for each in COMBINATIONS])
def test_contradicting_keys_are_named(values: dict[str, Any], key: str, words: str, recipe: Config) -> None:
    config = recipe
    for dotted_key, value in values.items():
        config = put(config, tuple(dotted_key.split(".")), value)
    (problem,) = check_config(config)
    assert problem.startswith(f"{key}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere", "module 'nowhere' cannot be imported"),
        (["json", "no.where"], "module 'no.where' cannot be imported"),
        (".json", "module '.json' cannot be imported"),
        (5, "found 5, expected a module's name"),
        ([None], r"found \[None\], expected a module's name"),
        ({"json": 1}, r"found a dict \(json\), expected a module's name"),
        ("broken_module", "module 'broken_module' cannot be imported .ZeroDivisionError"),
    ],
)
def test_wrong_imports(value: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "config.py"
    path.write_text(f"custom_imports = dict(imports={value!r})")
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_cfg_options_give_the_same_message(recipe: Config) -> None:
    for key, value in (("train_dataloader.batch_size", -4), ("param_scheduler.epochs", "many")):
        with pytest.raises(ConfigError, match=rf"{key}: found {value!r}, expected a positive integer") as caught:
            load_config(RECIPE, {key: value})
        assert "\n" not in str(caught.value)


def test_contradicting_values(recipe: Config) -> None:
    config = copy.deepcopy(recipe)
    config.train_dataloader.num_workers = 0
    (problem,) = check_config(config)
    assert problem.startswith("train_dataloader.persistent_workers: found True with num_workers=0, expected False")
    config.train_dataloader.persistent_workers = False
    config.train_dataloader.prefetch_factor = 2
    (problem,) = check_config(config)
    assert problem.startswith("train_dataloader.prefetch_factor: found 2 with num_workers=0, expected None")
    config = put(recipe, ("model", "student", "embed_dim"), 100)
    config.model.student.num_heads = 3
    (problem,) = check_config(config)
    assert problem == "model.student.num_heads: found 3, expected a divisor of embed_dim=100"


def test_every_key_of_the_recipe_refuses_wrong_values(recipe: Config, capsys: pytest.CaptureFixture[str]) -> None:
    keys, tried, accepted = 0, 0, []
    for path, value in leaves(dict(recipe.items())):
        # Variables, and names that are looked up.
        if path[0] not in KNOWN or path[-1] == "type" or path[0] == "custom_imports":
            continue
        keys += 1
        for wrong in wrong_values(value):
            if is_also_right(dotted(path), wrong):
                continue
            tried += 1
            problems = check_config(put(recipe, path, wrong))
            if not any(problem.startswith(dotted(path)) for problem in problems):
                accepted.append(f"{dotted(path)} = {wrong!r}: {problems}")
    with capsys.disabled():
        print(f"\n{tried} wrong values at {keys} keys, {len(accepted)} accepted")
    assert not accepted, "\n".join(accepted)
    assert keys > 75


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def test_any_value_at_any_key_is_valid_or_one_line(recipe: Config) -> None:
    paths = [path for path, _ in leaves(dict(recipe.items())) if path[0] in KNOWN]
    paths += [path[:-1] for path in paths if len(path) > 1]

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.sampled_from(paths), ANYTHING)
    def check(path: tuple[str | int, ...], value: Any) -> None:
        assert all("\n" not in problem for problem in check_config(put(recipe, path, value)))

    check()


@pytest.mark.parametrize("package", ["mmseg", "mmpretrain"])
def test_configs_of_other_toolboxes_are_valid(package: str) -> None:
    """One in forty configs; with a step of 1, all 1,220 pass."""
    folder = Path(pytest.importorskip(package).__file__).parent / ".mim/configs"
    paths = [path for path in sorted(folder.rglob("*.py")) if "_base_" not in path.parts][::40]
    assert len(paths) > 10
    for path in paths:
        try:
            config = read_config(path)
        except ConfigError:  # a base in a package that is not installed
            continue
        config.setdefault("default_scope", package)
        assert [problem for problem in check_config(config) if ": found " in problem] == [], path
