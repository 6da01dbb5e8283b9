"""Evaluate a backbone, given by its name, with protocols given by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.dist import barrier, get_world_size, is_main_process

from proteus.apis.evaluate import evaluate as evaluate_spec
from proteus.apis.evaluate import extract_features, protocol_configs
from proteus.apis.own_sets import kind_of
from proteus.config.locate import configs_root
from proteus.evaluation.protocols import ProtocolResult
from proteus.models.zoo import backbone_spec

ALL_PROTOCOLS = ("knn", "linear", "fine-grained", "robustness")
"""Protocols of a report on the official data sets."""
OWN_SETS_PROTOCOLS = ("knn", "fine-grained")
"""Protocols of a report on a user's labelled folders: those that need neither training of hours nor ImageNet."""
MASKS_PROTOCOLS = ("dense-knn",)
"""Protocols of a report on a user's folders of images and masks."""
CAPTIONS_PROTOCOLS = ("retrieval",)
"""Protocols of a report on a user's folders of images with captions."""


def evaluate(
    backbone: str | Path,
    *,
    sets: Sequence[str | Path] = (),
    protocols: Sequence[str] | None = None,
    data_root: str | Path | None = None,
    out: str | Path | None = None,
    arch: str | None = None,
    img_size: int = 224,
    cache: str | Path | None = None,
    device: str | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    download: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, ProtocolResult]:
    """Evaluate a backbone and write ``report.json``, ``report.md`` and ``report.png``.

    The same call resumes an interrupted one. The ranks of a process group call this together: they share the extraction
    of features, and the first rank evaluates them, with the report of one process. The group ends before that.

    Args:
        backbone: Any name of :func:`proteus.load_backbone`.
        sets: Folders of labelled images, ``DIR/train/CLASS/IMAGE`` and ``DIR/test/CLASS/IMAGE``; of images and
            masks, ``DIR/images/{train,val}`` and ``DIR/annotations/{train,val}``; or of images and a file of captions,
            that replace the data sets of the protocols.
        protocols: Some of ``knn``, ``linear``, ``linear-cached``, ``fine-grained``, ``robustness``, ``dense-knn``,
            ``zero-shot``, ``retrieval``, or config files; by default :data:`ALL_PROTOCOLS`; with ``sets``
            :data:`OWN_SETS_PROTOCOLS` for labelled images, :data:`MASKS_PROTOCOLS` for masks and
            :data:`CAPTIONS_PROTOCOLS` for captions.
        data_root: Folder of the official data sets, by default ``data``. Not needed with ``sets``.
        out: Folder of the report, by default ``work_dirs/evaluate/<backbone>``.
        arch: timm architecture, for a weight file that does not name it.
        img_size: Side of the images in pixels. Sizes before the crop are scaled in proportion; ImageNet-C's images are
            cropped and corrupted at 224 px and then resized.
        cache: Folder of extracted features, by default ``out/features``.
        device: Device to compute on; by default a GPU if there is one.
        batch_size: Images per forward pass.
        workers: Worker processes that read images; by default half the CPUs, at most 8.
        download: Download weights that are not on disk.
        overrides: Values by dotted key of the config, for a single protocol.

    Returns:
        Results by name of the protocol; empty on all ranks but the first.

    Raises:
        ConfigError: A protocol is unknown, or a config or an override is wrong.
        UserError: A folder is missing or has another layout, or an argument is out of range.
        LockedError: Another evaluation writes to ``out``.
        DataError: An earlier report in ``out`` is damaged.
    """
    names = default_protocols(sets) if protocols is None else protocols
    folder = Path(out) if out is not None else default_out(backbone)
    configs = protocol_configs(names, configs_root(), overrides, img_size, [str(each) for each in sets])
    spec = backbone_spec(str(backbone), arch, img_size, download)
    arguments: Any = (
        spec,
        configs,
        None if data_root is None else Path(data_root),
        folder,
        img_size,
        None if cache is None else Path(cache),
        device,
        batch_size,
        workers,
    )
    if get_world_size() > 1:
        extract_features(*arguments)
        is_first = is_main_process()
        barrier()
        # What follows, such as the training of a probe, runs on one process.
        dist.destroy_process_group()
        if not is_first:
            return {}
    return evaluate_spec(*arguments)


def default_protocols(sets: Sequence[str | Path]) -> tuple[str, ...]:
    """Return the protocols of a report on a user's folders; without folders, on the official data sets."""
    if not sets:
        return ALL_PROTOCOLS
    kinds = {kind_of(folder) for folder in sets}
    by_kind = {
        "ClassFolders": OWN_SETS_PROTOCOLS,
        "MaskFolders": MASKS_PROTOCOLS,
        "CaptionedImages": CAPTIONS_PROTOCOLS,
    }
    return tuple(name for kind, names in by_kind.items() if kind in kinds for name in names)


def default_out(backbone: str | Path) -> Path:
    """Return the folder of the report on a backbone."""
    return Path("work_dirs/evaluate") / str(backbone).replace("/", "-").replace(":", "-")
