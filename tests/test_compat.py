"""Patches of other packages: each is still needed and fits; private names that the package relies on exist."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import PIL
import pytest
import timm
import torch
import torch._dynamo
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook, IterTimerHook
from mmengine.logging import HistoryBuffer, MessageHub, MMLogger, print_log
from mmengine.logging.logger import MMFormatter
from mmengine.model import BaseModel, BaseModule, MMDistributedDataParallel
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmengine.utils import ManagerMixin
from PIL import Image, ImageOps
from timm.data import auto_augment
from timm.data.auto_augment import rand_augment_transform
from timm.models import group_parameters

from proteus import compat
from proteus.apis import ConfigError, load_config
from proteus.utils import files  # noqa: F401  (applies fix_log_encoding and fix_manager_lock)


@pytest.fixture(autouse=True)
def _instances_of_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the loggers of each test, since their streams close with it."""
    for manager in (MMLogger, MessageHub):
        monkeypatch.setattr(manager, "_instance_dict", manager._instance_dict.copy())


# Runs codes in forks of an interpreter that has imported torch and nothing else, and prints the status of each.
FORKS = """
import json, os, sys, traceback
import torch

for line in sys.stdin:
    code, folder = json.loads(line)
    process = os.fork()
    if process == 0:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), descriptor)
        sys.path.insert(0, folder)
        try:
            exec(code, {})
            status = 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
Run = Callable[[str, Path], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run code in an interpreter without torchvision and proteus that looks for packages in a folder first."""
    command, environment = [sys.executable, "-c", FORKS], {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
            print(json.dumps([code, str(folder)]), file=requests, flush=True)
            status = int(answers.readline())
            return subprocess.CompletedProcess(code, status, *((folder / name).read_text() for name in ("out", "err")))

        yield run


@pytest.mark.slow
def test_torchvision_is_patched_if_and_only_if_its_import_fails(tmp_path: Path, run: Run) -> None:
    alone = run("import torch, torchvision", tmp_path)
    assert alone.returncode == 0 or "operator torchvision::nms does not exist" in alone.stderr
    code = "import proteus.compat, torchvision.transforms.v2, timm; print(len(proteus.compat._libraries))"
    patched = run(code, tmp_path)
    assert patched.returncode == 0, patched.stderr
    assert bool(int(patched.stdout)) == (alone.returncode != 0)


def test_nms_is_replaced_if_and_only_if_torchvision_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes that overlap a better one by more than the threshold are left out, each class alone in ``batched_nms``."""
    import torchvision

    for module in (torchvision.ops, torchvision.ops.boxes):
        monkeypatch.setattr(module, "nms", module.nms)
    assert compat.fix_nms() is not torchvision.extension._has_ops()
    boxes = torch.tensor([[0.0, 0, 10, 4], [0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [20, 0, 30, 9]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.95]), torch.tensor([0, 0, 0, 0, 1])
    assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [4, 0, 1]
    assert torchvision.ops.nms(boxes, scores, 0.39).tolist() == [4, 0]
    assert torchvision.ops.batched_nms(boxes, scores, classes, 0.5).tolist() == [4, 0, 1, 3]
    assert torchvision.ops.nms(boxes[:0], scores[:0], 0.5).tolist() == []
    assert compat._nms(boxes, scores, 0.5).tolist() == [4, 0, 1]


@pytest.mark.slow
def test_other_faults_of_torchvision_are_not_hidden(tmp_path: Path, run: Run) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('built for another planet')")
    result = run("import proteus, torchvision", tmp_path)
    assert result.returncode != 0
    assert "built for another planet" in result.stderr


@pytest.mark.slow
def test_torchvision_with_a_library_of_its_newer_name_is_not_patched(tmp_path: Path, run: Run) -> None:
    """torchvision 0.29 loads ``_C_stable``; operators that are declared twice would end the process."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    any_library = Path(torch.__file__).parent / "lib/libtorch_global_deps.so"
    (tmp_path / "torchvision" / f"_C_stable{EXTENSION_SUFFIXES[-1]}").symlink_to(any_library)
    result = run("import proteus.compat; print(len(proteus.compat._libraries))", tmp_path)
    assert result.stdout == "0\n", result.stderr


def test_working_torchvision_is_not_patched() -> None:
    import torchvision  # works, since proteus is imported

    assert torchvision.transforms is not None
    assert compat.fix_torchvision() is False


def test_posterize_to_zero_bits_is_black(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_augment, "NAME_TO_OP", dict(auto_augment.NAME_TO_OP))
    applied = compat.fix_posterize()
    if int(PIL.__version__.split(".")[0]) >= 13:
        with pytest.raises(ValueError, match="bits"):  # if not, fix_posterize is no longer needed
            auto_augment.posterize(Image.new("RGB", (1, 1)), 0)
    image = Image.effect_noise((8, 8), 100).convert("RGB")
    try:
        ImageOps.posterize(image, 0)
        assert not applied
    except ValueError:
        assert applied
    names = [name for name in auto_augment.NAME_TO_OP if name.startswith("Posterize")]
    assert len(names) >= 3
    for name in names:
        black = auto_augment.NAME_TO_OP[name](image, 0)
        assert (black.mode, black.size, black.getextrema()) == ("RGB", (8, 8), ((0, 0),) * 3)
        for bits in (1, 4, 8):
            assert auto_augment.NAME_TO_OP[name](image, bits).tobytes() == ImageOps.posterize(image, bits).tobytes()


def test_names_that_are_not_utf_8_can_be_logged(tmp_path: Path) -> None:
    assert "fix_log_encoding" in MMFormatter.format.__qualname__  # if not, the patch is no longer needed
    logger = MMLogger("names", logger_name="names", log_file=str(tmp_path / "a.log"))
    logger.warning("corrupt: caf\udce9.jpg")
    for handler in logger.handlers:
        handler.flush()
    assert "corrupt: caf\\udce9.jpg\n" in (tmp_path / "a.log").read_text(encoding="utf-8")
    assert compat.fix_log_encoding() is False


def test_another_thread_can_log_after_an_instance_could_not_be_made() -> None:
    assert hasattr(ManagerMixin.get_instance, "__wrapped__")  # if not, the patch is no longer needed
    with pytest.raises(TypeError):
        MMLogger.get_instance("unmade", unknown=1)
    with pytest.raises(RuntimeError, match="should call get_instance"):
        type("Unmade", (ManagerMixin,), {}).get_current_instance()
    thread = threading.Thread(target=print_log, args=("from a thread", "current"), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert compat.fix_manager_lock() is False


def test_errors_of_log_files_can_be_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.FileHandler, "handleError", logging.FileHandler.handleError)
    found: list[BaseException] = []

    def handle(handler: logging.FileHandler, error: BaseException) -> bool:
        found.append(error)
        return "disk" in str(error)

    compat.handle_log_errors(handle)
    handler = logging.FileHandler(tmp_path / "a.log")
    for words in ("disk", "other"):
        monkeypatch.setattr(handler, "format", Mock(side_effect=OSError(words)))
        handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "line", None, None))
    handler.close()
    assert [str(error) for error in found] == ["disk", "other"]
    printed = capsys.readouterr().err
    assert "OSError: other" in printed
    assert "OSError: disk" not in printed


def test_dumps_of_mmengine_reach_the_log_file_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = MMLogger("quiet", logger_name="quiet", log_file=str(tmp_path / "a.log"))
    compat.quiet_terminal(logger)
    lines = [
        "Config:\na = 1",
        "\n" + "-" * 60 + "\nSystem environment:\n    GCC: 12",
        "Exp name: x",
        "student.conv_head.weight is skipped since its requires_grad=False",
        "Iter(train) [1/5]",
    ]
    for line in lines:
        logger.info(line)
    for handler in logger.handlers:
        handler.flush()
    text = (tmp_path / "a.log").read_text()
    assert all(line in text for line in lines)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "Iter(train) [1/5]" in out


def test_our_configs_can_be_bases_of_configs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.py"
    path.write_text('_base_ = "proteus::proteus/vit-s_dinov2-b.py"\nmodel = dict(student=dict(drop_path_rate=0.1))\n')
    wanted = load_config("configs/proteus/vit-s_dinov2-b.py", {"model.student.drop_path_rate": 0.1}).model
    found = load_config(path).model
    # MMEngine notes the package's scope in each part.
    assert _without_scope(found.to_dict()) == wanted.to_dict()
    assert Config.fromfile(path).model.student.drop_path_rate == 0.1
    path.write_text('_base_ = "proteus::proteus/nothing.py"\n')
    with pytest.raises(ConfigError, match=r"_base_: no such config file: .*proteus/nothing\.py"):
        load_config(path)
    path.write_text('_base_ = "proteus::proteus/vit-s_dinov2-b.py"\n')
    monkeypatch.delitem(MODULE2PACKAGE, "proteus")
    with pytest.raises(Exception, match="proteus"):  # if not, register_configs is no longer needed
        Config.fromfile(path)


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_mmengine_unpickles_checkpoints_unless_its_loaders_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    torch.save({"state_dict": Runs(tmp_path / "ran")}, tmp_path / "a.pth")
    load_from_local(str(tmp_path / "a.pth"), map_location="cpu")
    assert (tmp_path / "ran").is_file()  # if not, replace_checkpoint_loaders is no longer needed
    compat.replace_checkpoint_loaders({"": lambda filename, map_location: "ours"})
    assert CheckpointLoader.load_checkpoint(str(tmp_path / "a.pth")) == "ours"
    assert compat.rename_mmcls_weights({"state_dict": {"backbone.a": 1, "head.b": 2}})["state_dict"] == {"a": 1}


def test_optimizer_constructors_log_every_parameter_unless_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    logger = MMLogger.get_instance("quiet", logger_name="quiet")
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    logger.addHandler(handler)
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1, "weight_decay": 0.1}}
    build = DefaultOptimWrapperConstructor(wrapper, {"bias_decay_mult": 0.0})
    level = logger.level
    try:
        build(torch.nn.Linear(2, 2))
        assert any("bias:weight_decay" in line for line in lines)  # if not, quiet_logger is no longer needed
        lines.clear()
        with compat.quiet_logger():
            build(torch.nn.Linear(2, 2))
    finally:
        logger.removeHandler(handler)
    assert lines == []
    assert logger.level == level


def test_base_modules_report_their_initialization_unless_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[BaseModule] = []
    monkeypatch.setattr(BaseModule, "_dump_init_info", lambda self: reports.append(self))
    BaseModule().init_weights()
    assert len(reports) == 1  # if not, quiet_init is no longer needed
    module = BaseModule()
    with compat.quiet_init(module):
        module.init_weights()
    assert len(reports) == 1
    assert "_dump_init_info" not in vars(module)


def test_iteration_timer_counts_from_where_it_is_restarted() -> None:
    hook, logged = IterTimerHook(), []
    hub = SimpleNamespace(update_scalar=lambda name, value: logged.append(value))
    runner: Any = SimpleNamespace(hooks=[hook], message_hub=hub)
    hook.t = 0.0
    hook._before_iter(runner, 0)
    compat.restart_iter_timer(runner)
    hook._before_iter(runner, 0)
    assert logged[0] > 1e6
    assert 0 <= logged[1] < 60


def test_histories_are_extended_as_by_single_updates(tmp_path: Path) -> None:
    hubs = [MessageHub.get_instance(f"{tmp_path}{number}") for number in range(2)]
    for hub in hubs:
        hub.log_scalars["a"] = HistoryBuffer([1.0, 2.0], [1, 1], max_length=4)
    compat.extend_history(hubs[0], "a", [3.0, 4.0, 5.0])
    compat.extend_history(hubs[0], "b", [1.0])
    for value in (3.0, 4.0, 5.0):
        hubs[1].update_scalar("a", value)
    assert hubs[0].get_scalar("a").data[0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert hubs[0].get_scalar("a").data[0].tolist() == hubs[1].get_scalar("a").data[0][-4:].tolist()
    assert hubs[0].get_scalar("a").max_length == 4
    assert hubs[0].get_scalar("b").data[0].tolist() == [1.0]


def test_layers_of_timm_models_are_numbered_as_with_a_classifier() -> None:
    bare, full = (timm.create_model("test_vit", num_classes=classes) for classes in (0, 2))
    numbers, last = compat.timm_layer_numbers(bare)
    wanted = group_parameters(full, full.group_matcher(coarse=False), reverse=True)
    assert numbers == {name: number for name, number in wanted.items() if not name.startswith("head.")}
    assert last == wanted["head.weight"]


def _augmented(transform: Any, image: Image.Image, seed: int) -> np.ndarray:
    random.seed(seed)
    np.random.seed(seed)
    return np.array(transform(image))


def test_changed_operations_of_timm_are_drawn_as_before() -> None:
    transform = rand_augment_transform("rand-m9-mstd0.5-inc1", {"translate_const": 10})
    names = {operation.name for operation in transform.ops}
    calls: list[str] = []

    def change(name: str, function: Any) -> Any:
        return lambda image, *arguments, **options: calls.append(name) or function(image, *arguments, **options)

    image = Image.effect_noise((16, 16), 100).convert("RGB")
    plain = [_augmented(transform, image, seed) for seed in range(10)]
    compat.change_operations(transform, change)
    changed = [_augmented(transform, image, seed) for seed in range(10)]
    assert all(map(np.array_equal, plain, changed))
    assert calls
    assert set(calls) <= names


def test_private_attributes_of_runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(BaseModelOf(), str(tmp_path), experiment_name=tmp_path.name)
    assert (compat.is_resuming(runner), compat.checkpoint_of(runner)) == (False, None)
    assert compat.loops_of(runner) == (None, None, None)
    loaded: list[str] = []
    monkeypatch.setattr(runner, "load_checkpoint", loaded.append)
    monkeypatch.setattr(runner, "resume", loaded.append)
    compat.set_checkpoint(runner, "a.pth", resume=False)
    runner.load_or_resume()
    runner._has_loaded = False
    compat.set_checkpoint(runner, "b.pth", resume=True)
    runner.load_or_resume()
    assert loaded == ["a.pth", "b.pth"]
    assert (compat.is_resuming(runner), compat.checkpoint_of(runner)) == (True, "b.pth")
    assert Path(tmp_path) in [folder.parent for folder in compat.log_folders()]


class BaseModelOf(BaseModel):
    """Returns what it is called with."""

    def forward(self, inputs: Any, mode: str) -> Any:  # type: ignore[override]
        """Return the arguments."""
        return inputs, mode


def test_run_forward_calls_models_with_mappings_and_sequences() -> None:
    for data in ({"inputs": 1}, [1]):
        assert compat.run_forward(BaseModelOf(), data, mode="loss") == (1, "loss")
    assert hasattr(MMDistributedDataParallel, "_run_forward")


def test_private_attributes_of_data_sets_and_configs(tmp_path: Path) -> None:
    dataset = BaseDataset(lazy_init=True)
    compat.mark_initialized(dataset)
    dataset.full_init()  # would fail: the data set has no list
    compat.set_metainfo(dataset, source="here")
    assert dataset.metainfo["source"] == "here"
    config = Config({"a": {"b": 1}})
    compat.config_dict(config)["a"]["b"] = 2
    assert config.a.b == 2
    (tmp_path / "a.py").write_text("a = dict(b=1)\n")
    config = Config.fromfile(tmp_path / "a.py", format_python_code=False)
    assert config._format_python_code  # if not, skip_yapf is no longer needed
    compat.skip_yapf(config)
    assert not config._format_python_code


def test_private_names_of_torch() -> None:
    assert callable(torch.distributed.distributed_c10d._get_default_store)
    first, second = (torch.empty(2, device="meta") for _ in range(2))
    assert first.data_ptr() == second.data_ptr()  # if not, storage_key is no longer needed
    assert compat.storage_key(first) == compat.storage_key(first[1:])
    assert compat.storage_key(first) != compat.storage_key(second)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch, "_foreach_lerp_"),  # models.ema
        (BaseDataset, "_metainfo"),
        (BaseModel, "_run_forward"),
        (CheckpointHook, "_save_checkpoint"),  # engine.hooks.best_head
        (CheckpointHook, "_save_checkpoint_with_step"),  # engine.hooks.checkpoint
        (DefaultOptimWrapperConstructor, "_validate_cfg"),  # engine.optim.layer_decay
        (_ParamScheduler, "_get_value"),  # engine.optim.schedule
    ],
)
def test_private_names_that_subclasses_rely_on(owner: Any, name: str) -> None:
    instance = BaseDataset(lazy_init=True) if owner is BaseDataset else owner
    assert hasattr(instance, name)


def test_batch_samplers_are_skipped_without_loading_only_with_the_patch() -> None:
    loaded, skipped = [], []

    class Set(torch.utils.data.Dataset):
        def __getitem__(self, index: int) -> int:
            loaded.append(index)
            return index

    batches = [[0], [1, 2], [3]] * 10

    def skip(count: int) -> None:
        skipped.append(count)
        del batches[:count]

    loop = SimpleNamespace(
        dataloader_iterator=_InfiniteDataloaderIterator(torch.utils.data.DataLoader(Set(), batch_sampler=batches))
    )
    assert loop.dataloader_iterator._resolve_sampler() is None  # MMEngine would load each batch
    compat.skip_batches(loop, skip)
    loop.dataloader_iterator.skip_iter(4)
    assert next(loop.dataloader_iterator).tolist() == [1, 2]
    assert (skipped, loaded) == ([4], [1, 2])


@torch._dynamo.config.patch(recompile_limit=8)
def test_the_limit_of_compilations_is_only_raised() -> None:
    compat.allow_recompiles(20)
    compat.allow_recompiles(2)
    assert torch._dynamo.config.recompile_limit == 28


def _without_scope(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_scope(item) for key, item in value.items() if key != "_scope_"}
    return [_without_scope(item) for item in value] if isinstance(value, list) else value


def test_hidden_gpus_are_hidden_from_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("mmengine.device.utils.DEVICE", "cuda")  # found at import; if not, the patch is not needed
    assert get_device() == "cuda"
    compat.hide_gpus()
    assert get_device() == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_runners_use_a_device_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmengine.device.utils.DEVICE", "cuda")  # found at import; if not, the patch is not needed
    with compat.runners_on(torch.device("cpu")):
        assert get_device() == "cpu"
    assert get_device() == "cuda"


def test_runners_leave_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, used in (("mps", "cpu"), ("cuda", "cuda")):
        monkeypatch.setattr("mmengine.device.utils.DEVICE", found)
        compat.leave_mps()
        assert get_device() == used
