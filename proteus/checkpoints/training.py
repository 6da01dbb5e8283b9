"""Read MMEngine's training checkpoints as data."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint

from proteus.checkpoints.errors import CheckpointError, DamagedFileError, first_sentence
from proteus.checkpoints.load import open_weights
from proteus.checkpoints.parts import check_values, take_part
from proteus.checkpoints.paths import check_file, locate, split_part
from proteus.compat import rename_mmcls_weights, replace_checkpoint_loaders

# Entries that MMEngine's runner reads when it resumes; the last two are optional.
_STATE: dict[str, Any] = {"meta": Mapping, "message_hub": Mapping}
_STATE |= {"optimizer": Mapping, "param_schedulers": (Mapping, list)}
_BY_URL = ("http://", "https://")
_BY_NAME = ("torchvision://", "modelzoo://", "open-mmlab://", "openmmlab://", "mmcls://")
_ELSEWHERE = ("pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://")


def use_safe_checkpoints() -> None:
    """Make MMEngine read every checkpoint without unpickling; applies to this process from now on.

    Official MMEngine 0.10 unpickles them, and its maintained fork falls back to unpickling what it cannot read safely.
    This covers local files, downloads, and weights that a part of a model names in ``init_cfg``.
    """
    replace_checkpoint_loaders({"": load_checkpoint, _BY_URL: _download, _BY_NAME: _look_up, _ELSEWHERE: _refuse})


class Checkpoint(dict[str, Any]):
    """Entries of a checkpoint, and the path of its file.

    Args:
        content: Entries by name.
        source: The file, for messages.
    """

    def __init__(self, content: Mapping[str, Any], source: Path) -> None:
        super().__init__(content)
        self.source = source


def load_checkpoint(filename: str | Path, map_location: Any = None) -> Checkpoint:
    """Read a training checkpoint, or any weight file to start from.

    Args:
        filename: A path as for :func:`~proteus.checkpoints.read_state_dict`, including ``#ema``.
        map_location: As for ``torch.load``; ``meta`` neither reads nor checks the weights.

    Returns:
        All entries of a checkpoint with a ``state_dict``; for any other file, one model's tensors under ``state_dict``
        and the entries without tensors. The config text in ``meta`` is removed: MMEngine would run it as Python.

    Raises:
        CheckpointError: The file is missing or damaged, would run code, or has no weights or weights that are not
            finite.
    """
    path, part = locate(filename), split_part(filename)[1]
    headers_only = isinstance(map_location, (str, torch.device)) and torch.device(map_location).type == "meta"
    check_file(path, "checkpoint")
    try:
        content = open_weights(path, "meta" if headers_only else "cpu")
    except DamagedFileError as error:
        cause = error.__cause__ or error
        reason = "not a torch.save file" if isinstance(cause, pickle.UnpicklingError) else first_sentence(cause)
        raise DamagedFileError(f"{path} is damaged or not a checkpoint ({reason}); use an earlier one") from error
    weights = content.get("state_dict") if isinstance(content, Mapping) else None
    if part is not None or not isinstance(weights, Mapping):
        kept = content if isinstance(content, Mapping) else {}
        rest = {key: value for key, value in kept.items() if not isinstance(value, torch.Tensor) and not _holds(value)}
        content = Checkpoint({**rest, "state_dict": dict(take_part(content, part, path))}, path)
    else:
        content = Checkpoint(content, path)
    for nest in ("state_dict", "ema_state_dict"):
        if nest in content:
            if not isinstance(content[nest], Mapping):
                raise CheckpointError(f"{path}: {nest} is a {type(content[nest]).__name__}, not tensors by name")
            if not headers_only and content[nest]:
                check_values(take_part(content[nest], None, path), path)
    if isinstance(content.get("meta"), Mapping):
        content["meta"] = {key: value for key, value in content["meta"].items() if key != "config"}
    return content if map_location is None or headers_only else Checkpoint(_moved(dict(content), map_location), path)


def check_resumable(checkpoint: Mapping[str, Any], path: str | Path, needed: Sequence[str] = ()) -> None:
    """Check that a checkpoint holds what a run needs to continue.

    Args:
        checkpoint: From :func:`load_checkpoint`.
        path: Its file, for messages.
        needed: Further entries that the run needs: ``optimizer``, ``param_schedulers``.

    Raises:
        CheckpointError: The checkpoint lacks an entry that resuming needs; the message names it.
    """
    missing = [key for key in ("meta", "message_hub", *needed) if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f"{path} cannot be resumed from: it holds weights without {', '.join(missing)}. Resume from an iter_*.pth "
            "or epoch_*.pth of the run (best_*.pth have weights alone), or start a new run from these weights with "
            "--cfg-options load_from=FILE"
        )
    for key, kind in _STATE.items():
        if key in checkpoint and not isinstance(checkpoint[key], kind):
            raise CheckpointError(f"{path} cannot be resumed from: {key} is a {type(checkpoint[key]).__name__}")
    for key in ("epoch", "iter"):
        value = checkpoint["meta"].get(key)
        if type(value) is not int or value < 0:
            raise CheckpointError(f"{path} cannot be resumed from: meta.{key} is {value!r}, not a whole number")


def _holds(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, torch.Tensor) for item in value.values())


def _moved(content: Any, map_location: Any) -> Any:
    device = None if callable(map_location) or isinstance(map_location, dict) else torch.device(map_location)
    if device is None or device.type == "cpu":
        return content
    if isinstance(content, torch.Tensor):
        return content.to(device)
    if isinstance(content, dict):
        return type(content)((key, _moved(value, device)) for key, value in content.items())
    return [_moved(value, device) for value in content] if type(content) is list else content


def _download(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Fetch a file to torch's cache, as MMEngine does, and read it safely."""
    from mmengine.dist import barrier, get_dist_info, get_local_rank

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / filename.partition("?")[0].rpartition("/")[2]
    if get_local_rank() == 0 and not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(filename, str(path), progress=get_dist_info()[0] == 0)
        except OSError as error:
            raise CheckpointError(f"{filename} cannot be downloaded ({error}); give the path of a file") from error
    barrier()
    return load_checkpoint(path, map_location)


def _look_up(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load published weights by their name in MMEngine's lists."""
    scheme, _, name = filename.partition("://")
    lists: Callable[[], Mapping[str, str]] = {
        "torchvision": mmengine_checkpoint.get_torchvision_models,
        "modelzoo": mmengine_checkpoint.get_torchvision_models,
        "mmcls": mmengine_checkpoint.get_mmcls_models,
    }.get(scheme, mmengine_checkpoint.get_external_models)
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    address = lists().get(name)
    if address is None:
        raise CheckpointError(f"{filename}: no published weights of this name; give the path of a file")
    content = load_checkpoint(address, map_location) if "://" not in address else _download(address, map_location)
    return rename_mmcls_weights(content) if scheme == "mmcls" else content


def _refuse(filename: str, map_location: Any = None) -> dict[str, Any]:
    raise CheckpointError(f"{filename}: copy the file to this machine and give its path")
