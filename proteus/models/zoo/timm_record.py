"""Records of timm's models, read from timm's own descriptions."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model

from proteus.models.backbones.timm_names import check_arch, timm_config
from proteus.models.zoo.known import IMAGENET_MEAN, IMAGENET_STD
from proteus.models.zoo.record import ModelRecord
from proteus.structures import UserError

# timm's identifiers of licences, as their authors write them.
_LICENCES = {
    "apache-2.0": "Apache-2.0",
    "apple-amlr": "Apple Machine Learning Research Model License",
    "apple-ascl": "Apple Sample Code License",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC-BY-NC 4.0",
    "dinov3-license": "DINOv3 License",
    "fair-noncommercial-research-license": "FAIR Noncommercial Research License",
    "mit": "MIT",
    "nvidia-open-model-license": "NVIDIA Open Model License",
}


def timm_record(name: str) -> ModelRecord:
    """Return the record of a timm model.

    Args:
        name: Its name in timm, with or without a tag.

    Raises:
        UserError: timm does not have the model or the tag; the message lists the nearest names, or the tags.
    """
    if not is_model(name.split(".")[0]):
        near = get_close_matches(name, [*timm.list_pretrained(), *timm.list_models()], n=3)
        listed = ", ".join(f"timm/{one}" for one in near) or "none"
        raise UserError(f"timm/{name}: timm has no model of this name; nearest: {listed}")
    check_arch(f"timm/{name}", name)
    arch = name.split(".")[0]
    pretrained: Any = get_pretrained_cfg(name)
    with torch.device("meta"):
        model: Any = timm.create_model(arch, num_classes=0)
    blocks: Any = getattr(model, "blocks", None)
    embed: Any = getattr(model, "patch_embed", None)
    has_weights = pretrained is not None and bool(pretrained.hf_hub_id)
    repository, file = _hub_address(pretrained) if has_weights else (None, "model.safetensors")
    return ModelRecord(
        name=f"timm/{name}",
        architecture=arch,
        arguments={},
        config=timm_config(name),
        patch_size=embed.patch_size[0] if blocks is not None and hasattr(embed, "patch_size") else None,
        img_size=pretrained.input_size[-1] if pretrained is not None else 224,
        width=model.num_features,
        depth=len(blocks) if blocks is not None else None,
        params=sum(value.numel() for value in model.parameters()),
        mean=tuple(pretrained.mean) if pretrained is not None else IMAGENET_MEAN,
        std=tuple(pretrained.std) if pretrained is not None else IMAGENET_STD,
        licence=licence_name(pretrained.license) if pretrained is not None else "",
        title=f"{name} (timm)",
        files=(f"{pretrained.architecture}.{pretrained.tag}.safetensors",) if has_weights else (),
        url=f"https://huggingface.co/{repository}" if repository else "",
        hub_id=repository,
        hub_file=file,
    )


def licence_name(identifier: str | None) -> str:
    """Return the name of a licence that timm abbreviates; an empty text if timm gives none."""
    return _LICENCES.get(identifier or "", identifier or "")


def _hub_address(pretrained: Any) -> tuple[str, str]:
    """Return the repository and the file name on the Hugging Face hub of a ``PretrainedCfg`` of timm's."""
    repository = pretrained.hf_hub_id
    if "/" not in repository.rstrip("/"):
        repository = f"{repository}{pretrained.architecture}.{pretrained.tag}"
    return repository, pretrained.hf_hub_filename or "model.safetensors"
