"""Patches of other packages, and the only accesses to their private names.

Each function names the version that needs it and the reason; ``tests/test_compat.py`` fails when a patch is no longer
needed or no longer fits. ``import proteus`` imports this module first, so that it must stay light: it imports torch and
nothing else that is slow, and touches no network and no GPU.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.logging import MessageHub
    from mmengine.runner import Runner

# torch.library removes the definitions of a Library when the object is deleted.
_libraries: list[torch.library.Library] = []


def fix_torchvision() -> bool:
    """Make ``import torchvision`` work if its operators cannot be loaded: PyPI's CUDA wheel with a CPU-only torch.

    torchvision 0.28 registers a fake kernel for ``torchvision::nms`` whether or not it could load the library that
    defines the operator, so that the import fails, and with it the import of timm and mmpretrain. Declaring the two
    schemas is enough for transforms, models and data sets; the operators themselves stay unavailable. The library is
    ``_C``, since 0.29 ``_C_stable``; loading it after a declaration would end the process.

    Returns:
        Whether the schemas were declared.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return False
    folder = Path(spec.origin).parent
    try:
        for path in (folder / f"{name}{suffix}" for name in ("_C", "_C_stable") for suffix in EXTENSION_SUFFIXES):
            if path.is_file():
                torch.ops.load_library(path)
                return False
    except OSError:  # linked against a CUDA that is not there
        pass
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return True


def fix_nms() -> bool:
    """Replace torchvision's NMS where its operators cannot be loaded, so that its detectors predict.

    :func:`fix_torchvision` makes the import work, but ``nms`` then raises. Slower than the operator, with its results.

    Returns:
        Whether it was replaced.
    """
    import torchvision

    if torchvision.extension._has_ops():
        return False
    torchvision.ops.nms = torchvision.ops.boxes.nms = _nms
    return True


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    from torchvision.ops import box_iou

    order = scores.argsort(descending=True, stable=True)
    overlap = box_iou(boxes[order], boxes[order]) > iou_threshold
    keep = torch.ones_like(order, dtype=torch.bool)
    for place in range(len(order)):
        if keep[place]:
            keep[place + 1 :] &= ~overlap[place, place + 1 :]
    return order[keep]


def fix_posterize() -> bool:
    """Make timm 1.0's RandAugment work with Pillow 13, which refuses to posterize to 0 bits.

    Pillow before 13 returned a black image, and timm's strongest posterize asks for that.

    Returns:
        Whether the patch was applied.
    """
    from PIL import Image, ImageOps
    from timm.data import auto_augment

    try:
        ImageOps.posterize(Image.new("RGB", (1, 1)), 0)
    except ValueError:
        posterize = auto_augment.posterize

        def posterize_or_black(img: Image.Image, bits_to_keep: int, **kwargs: Any) -> Image.Image:
            return posterize(img, bits_to_keep, **kwargs) if bits_to_keep > 0 else Image.new(img.mode, img.size)

        for name, operation in auto_augment.NAME_TO_OP.items():
            if operation is posterize:
                auto_augment.NAME_TO_OP[name] = posterize_or_black
        return True
    return False


def fix_log_encoding() -> bool:
    r"""Make the log handlers of MMEngine 0.10 write file names that are not UTF-8.

    Python keeps such bytes as lone surrogates, which no log file or terminal can encode: a traceback would replace the
    line. They are written as ``\udcff``, as Python itself writes them to stderr.

    Returns:
        Whether the patch was applied.
    """
    from mmengine.logging.logger import MMFormatter

    original = MMFormatter.format
    record = logging.LogRecord("proteus", logging.INFO, "", 0, "\udcff", None, None)
    if "\udcff" not in original(MMFormatter(color=False), record):
        return False

    def format_with_escapes(self: MMFormatter, record: logging.LogRecord) -> str:
        return original(self, record).encode("utf-8", "backslashreplace").decode("utf-8")

    MMFormatter.format = format_with_escapes
    return True


def fix_manager_lock() -> bool:
    """Release the lock of MMEngine 0.10's named instances, such as loggers, when one of them cannot be made.

    MMEngine keeps it after an error. If the process then continues, such as a notebook, every other thread waits
    forever at its first log line.

    Returns:
        Whether the patch was applied.
    """
    from mmengine.utils import ManagerMixin, manager

    class Unmade(ManagerMixin):
        pass

    with suppress(RuntimeError):
        Unmade.get_current_instance()
    if not manager._lock._is_owned():
        return False
    manager._release_lock()

    def releasing(method: Callable[..., Any]) -> Any:
        @wraps(method)
        def call(cls: type, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(cls, *args, **kwargs)
            except BaseException:
                manager._release_lock()
                raise

        return classmethod(call)

    for name in ("get_instance", "get_current_instance"):
        setattr(ManagerMixin, name, releasing(vars(ManagerMixin)[name].__func__))
    return True


def handle_log_errors(handle: Callable[[logging.FileHandler, BaseException], bool]) -> None:
    """Handle the errors of all log files in this process, those of MMEngine's loggers too.

    Python prints a traceback for each line that cannot be written, and offers only a method to override.

    Args:
        handle: Function of the handler and the error; returns whether the error is handled. If not, Python prints it.
    """
    default = logging.StreamHandler.handleError

    def handle_error(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is None or not handle(handler, error):
            default(handler, record)

    logging.FileHandler.handleError = handle_error  # type: ignore[method-assign, assignment]


def register_configs() -> None:
    """Let ``_base_ = "proteus::proteus/vit-s_dinov2-b.py"`` name a config of ours from anywhere.

    MMEngine 0.10 looks for ``proteus/.mim/configs``, and only in packages of a fixed table.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault("proteus", "proteus")


def hide_gpus() -> None:
    """Let this process see no GPU; MMEngine 0.10 looks for one only when it is imported."""
    from mmengine.device import utils

    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CUDA reads it when first used
    utils.DEVICE = "cpu"


def leave_mps() -> None:
    """Let MMEngine's runners use the CPU of an Apple computer; MMEngine 0.10 takes its GPU, which lacks float64."""
    from mmengine.device import utils

    if utils.DEVICE == "mps":
        utils.DEVICE = "cpu"


@contextmanager
def runners_on(device: torch.device) -> Iterator[None]:
    """Let MMEngine's runners use a device; MMEngine 0.10 uses the one that it finds when it is imported."""
    from mmengine.device import utils

    before, utils.DEVICE = utils.DEVICE, device.type
    try:
        # A runner's "cuda" is the current GPU.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        utils.DEVICE = before


def replace_checkpoint_loaders(loaders: Mapping[str | tuple[str, ...], Callable[..., Any]]) -> None:
    """Replace the functions by which MMEngine 0.10 reads checkpoints, since they unpickle.

    Args:
        loaders: Functions ``(filename, map_location)`` by prefix of the file name; ``""`` for paths.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    for prefixes, loader in loaders.items():
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=loader, force=True)


def rename_mmcls_weights(checkpoint: Any) -> Any:
    """Rename weights of MMClassification, as MMEngine 0.10 does for ``mmcls://`` in a private function."""
    from mmengine.runner import checkpoint as module

    return module._process_mmcls_checkpoint(checkpoint)


@contextmanager
def quiet_logger(level: int = logging.WARNING) -> Iterator[None]:
    """Drop MMEngine's log lines below ``level``: its optimizer constructors write one for every parameter."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


_DUMPS = (
    "------------------------------------------------------------\nSystem environment:",
    "Config:\n",
    "Hooks will be executed in the following order:",
    "Distributed training is not used, all SyncBatchNorm",
    "Exp name: ",
    "optimizer group of ",
    # Of old names that MMEngine itself uses.
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    # MLflow's backend warns about a server although the runs go to a folder.
    "Please make sure that the mlflow server is running.",
)


# Of parameters that are frozen on purpose.
_DUMP_ENDS = ("is skipped since its requires_grad=False",)


def quiet_terminal(logger: logging.Logger) -> None:
    """Keep what MMEngine 0.10 dumps at the start of a run out of the terminal: environment, config, hooks, old names.

    Log files have all of it.
    """
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_is_shown)


def quiet_pin_memory() -> None:
    """Ignore torch 2.13's warning about ``pin_memory`` on a machine without a GPU, where it has no effect."""
    import warnings

    warnings.filterwarnings("ignore", message="'pin_memory' argument is set as true but no accelerator is found")


def _is_shown(record: logging.LogRecord) -> bool:
    text = record.getMessage().strip()
    return not text.startswith(_DUMPS) and not text.endswith(_DUMP_ENDS)


@contextmanager
def quiet_init(module: Any) -> Iterator[None]:
    """Drop the three lines for each parameter that ``init_weights`` of MMEngine 0.10's ``BaseModule`` writes."""
    module._dump_init_info = lambda: None
    try:
        yield
    finally:
        del module._dump_init_info


def restart_iter_timer(runner: Runner) -> None:
    """Exclude what a hook has just done from MMEngine's time of loading data, which counts from the last iteration."""
    import time

    from mmengine.hooks import IterTimerHook

    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook):
            hook.t = time.time()


def extend_history(hub: MessageHub, name: str, values: Sequence[float]) -> None:
    """Append values to a history; ``MessageHub.update_scalar`` of MMEngine 0.10 copies the history for each value."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    hub.update_scalar(name, values[0])
    if len(values) == 1:
        return
    buffer = hub.get_scalar(name)
    history, counts = buffer.data
    history, counts = np.append(history, values[1:]), np.append(counts, [1] * (len(values) - 1))
    longest = buffer.max_length
    hub.log_scalars[name] = HistoryBuffer(history[-longest:], counts[-longest:], longest)


def timm_layer_numbers(model: Any) -> tuple[dict[str, int], int]:
    """Number the layers of a timm model; also returns the number of its classifier, even if it has none.

    timm 1.0 numbers the parameters that it finds, so that without a classifier the last layer would be one less.
    """
    from timm.models import group_parameters

    class WithClassifier(nn.Module):
        def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
            yield from model.named_parameters()
            yield "outside", nn.Parameter()

    numbers = group_parameters(WithClassifier(), model.group_matcher(coarse=False), reverse=True)
    last = numbers.pop("outside")
    return numbers, last


def change_operations(transform: Any, change: Callable[[str, Any], Any]) -> None:
    """Replace the functions of timm 1.0's RandAugment.

    Args:
        transform: timm's ``RandAugment``, changed in place.
        change: Takes an operation's name and function; returns the function to use.
    """
    import numpy as np

    for operation in transform.ops:
        operation.aug_fn = change(operation.name, operation.aug_fn)
    # NumPy draws from an array without converting the list each time; the draws are the same.
    transform.ops = np.array(transform.ops, dtype=object)


def is_resuming(runner: Runner) -> bool:
    """Whether a run resumes; MMEngine 0.10 keeps it in a private attribute."""
    return bool(getattr(runner, "_resume", False))


def checkpoint_of(runner: Runner) -> str | None:
    """The checkpoint that a run loads or resumes from; MMEngine 0.10 keeps it in a private attribute."""
    path: str | None = runner._load_from
    return path


def set_checkpoint(runner: Runner, path: str | None, resume: bool) -> None:
    """Set the checkpoint to load or resume from, between building a runner and starting it."""
    runner._load_from, runner._resume = path, resume


def loops_of(runner: Runner) -> tuple[Any, Any, Any]:
    """The loops of training, validation and test; a config if not built yet. The public properties build them."""
    return runner._train_loop, runner._val_loop, runner._test_loop


def skip_batches(loop: Any, skip: Callable[[int], None]) -> None:
    """Make a resumed ``IterBasedTrainLoop`` call ``skip`` with its iteration instead of loading what comes before.

    MMEngine 0.10 skips a sampler of samples only, by a number of batches of equal size; the iterator of a batch sampler
    is advanced by loading each batch.
    """
    iterator = loop.dataloader_iterator

    def skip_iter(count: int) -> None:
        skip(count)
        iterator._iterator = None  # built again at the next batch

    iterator.skip_iter = skip_iter


def allow_recompiles(count: int) -> None:
    """Let torch 2.13 compile a function for ``count`` shapes; by default it gives up on it after eight."""
    dynamo: Any = sys.modules.get("torch._dynamo")
    if dynamo is not None:  # else nothing is compiled
        dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, count + 8)


def run_forward(model: Any, data: Any, mode: str) -> Any:
    """Call a model or its wrapper with a batch, as ``BaseModel.train_step`` of MMEngine 0.10 does in private."""
    return model._run_forward(data, mode=mode)


def mark_initialized(dataset: Any) -> None:
    """Make MMEngine 0.10's ``BaseDataset`` skip loading its list; for data sets that have none."""
    dataset._fully_initialized = True


def set_metainfo(dataset: Any, **values: Any) -> None:
    """Add to ``BaseDataset.metainfo`` of MMEngine 0.10, which is a copy."""
    dataset._metainfo.update(values)


def config_dict(config: Config) -> Any:
    """The dictionary inside a config of MMEngine 0.10, to be changed in place or passed to a constructor."""
    return config._cfg_dict


def skip_yapf(config: Config) -> None:
    """Write a config's text without YAPF, which takes longer than the rest of starting a run.

    ``Config.fromfile`` of MMEngine 0.10 does not pass ``format_python_code`` on.
    """
    object.__setattr__(config, "_format_python_code", False)


def log_folders() -> list[Path]:
    """Folders of the files that MMEngine 0.10's loggers write to; it lists its loggers in private only."""
    from mmengine.logging import MMLogger

    handlers: Iterable[Any] = [handler for logger in MMLogger._instance_dict.values() for handler in logger.handlers]
    return [Path(handler.baseFilename).parent for handler in handlers if isinstance(handler, logging.FileHandler)]


def default_store() -> Any:
    """The key-value store of the default process group; torch 2.13 has no public name for it."""
    return torch.distributed.distributed_c10d._get_default_store()


def storage_key(tensor: Tensor) -> int:
    """Identify a tensor's storage, also on the meta device, where ``data_ptr`` is 0 for all."""
    return tensor.untyped_storage()._cdata


fix_torchvision()
register_configs()
