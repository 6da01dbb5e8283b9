"""Find a model's weights on this machine, or download them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from proteus.checkpoints import CheckpointError, locate
from proteus.checkpoints.hub_cache import cached_file, download_file
from proteus.models.zoo.record import ModelRecord

CHECKPOINTS = Path("checkpoints")


def find_weights(record: ModelRecord, download: bool = False, folder: Path = CHECKPOINTS) -> Path:
    """Return the weight file of a model.

    It is looked for in ``folder`` under its official names, in torch.hub's folder, and in the cache of the Hugging Face
    hub.

    Args:
        record: The model.
        download: Download it from the Hugging Face hub if it is not on this machine.
        folder: Folder with weight files.

    Raises:
        CheckpointError: The file is not on this machine, or cannot be downloaded. The message names the file, the
            folder to put it in, and the page that describes it.
    """
    found = weights_on_disk(record, folder)
    if found is not None:
        return found
    if download and record.hub_id is not None:
        return download_file(record.hub_id, record.hub_file)
    if record.weights:
        raise CheckpointError(f"{record.name}: weights not found: {locate(record.weights)}")
    if not record.files:
        raise CheckpointError(
            f"{record.name} is an architecture without trained weights: write random:{record.name}, or name a weight "
            "file"
        )
    offer = f", or add --download (download=True) to fetch {record.hub_id} from the Hugging Face hub"
    if record.hub_id is None:
        offer = "; it is not on the Hugging Face hub, so --download cannot fetch it" if download else ""
    raise CheckpointError(
        f"{record.name}: its weights are not on this machine; put {record.files[0]} ({record.url}) into "
        f"{folder}/{offer}"
    )


def weights_on_disk(record: ModelRecord, folder: Path = CHECKPOINTS) -> Path | None:
    """Return the weight file of a model if it is on this machine; see :func:`find_weights`."""
    if record.weights:
        return locate(record.weights) if locate(record.weights).is_file() else None
    for name in _names(record):
        for place in (folder, Path(torch.hub.get_dir()) / "checkpoints"):
            if (place / name).is_file():
                return place / name
    return None if record.hub_id is None else cached_file(record.hub_id, record.hub_file)


def _names(record: ModelRecord) -> Iterator[str]:
    """Yield the official names, and those that a conversion to safetensors gives."""
    for name in record.files:
        yield name
        yield f"{name.removesuffix('.safetensors').removesuffix('.pth').removesuffix('.pt')}.safetensors"
    if record.files:
        yield f"{record.name.rpartition('/')[2]}.safetensors"
