"""The table of known models against timm's models and descriptions."""

from __future__ import annotations

import pytest
import torch
from timm.models import get_pretrained_cfg, is_model

from proteus.models import build_backbone
from proteus.models.zoo.known import known_students, known_teachers
from proteus.models.zoo.timm_record import licence_name, timm_record

TEACHERS = known_teachers()
# timm marks OpenAI's CLIP Apache-2.0; the licence of OpenAI's repository is MIT.
OTHER_LICENCES = {"clip": ("MIT", "Apache-2.0")}
# One model per release; the rest of a release differs in size alone.
SAMPLE = [
    "dinov2_vits14",
    "dinov2_vits14_reg",
    "dinov2_vitg14",
    "dinov3_vits16plus",
    "dinov3_convnext_tiny",
    "clip_vitb32",
    "openclip_vitb16",
    "dfn_vitb16",
    "metaclip_vitb32",
    "siglip_vitb16_256",
    "siglip2_vitb16",
    "pe_core_vits16_384",
    "pe_spatial_vitt16",
    "eva02_vitt14",
    "eupe_vitt16",
    "tipsv2_vitb14",
    "c_radio_v3_vitb16",
    "c_radio_v4_so400m16",
]


@pytest.mark.parametrize("name", [name for name, record in TEACHERS.items() if record.hub_id])
def test_facts_equal_timms_description(name: str) -> None:
    record = TEACHERS[name]
    timm_name = record.files[-1].removesuffix(".safetensors")
    pretrained = get_pretrained_cfg(timm_name)
    assert pretrained is not None
    assert record.architecture == timm_name.split(".")[0]
    assert (record.mean, record.std) == (pretrained.mean, pretrained.std)
    assert record.img_size == pretrained.input_size[-1]
    assert record.hub_id == pretrained.hf_hub_id
    assert record.hub_file == (pretrained.hf_hub_filename or "model.safetensors")
    licence = licence_name(pretrained.license)
    ours, theirs = OTHER_LICENCES.get(name.split("_")[0], (licence, licence))
    assert (record.licence, licence) == (ours, theirs)


@pytest.mark.parametrize("name", SAMPLE)
def test_sizes_equal_timms_model(name: str) -> None:
    record = TEACHERS[name]
    timm = timm_record(record.architecture)
    assert (record.patch_size, record.width, record.depth) == (timm.patch_size, timm.width, timm.depth)
    assert record.params == timm.params
    # The config builds the same model, with the same names and shapes.
    options = {"img_size": record.img_size}
    with torch.device("meta"):
        ours, theirs = (build_backbone({**config, **options}).timm_state() for config in (record.config, timm.config))
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("name", ["synclr_vitb16", "synclr_vitl14", "packaged", *known_students()])
def test_sizes_of_models_that_timm_does_not_have(name: str) -> None:
    record = {**TEACHERS, **known_students()}[name]
    assert is_model(record.architecture)
    with torch.device("meta"):
        model = build_backbone({"patch_size": 14, **record.config, "img_size": record.img_size})
    params = sum(value.numel() for value in model.vit.parameters())
    assert (record.width, record.depth, record.params) == (model.embed_dim, model.depth, params)


def test_names_and_files_are_unique() -> None:
    files = [file for record in TEACHERS.values() for file in record.files]
    assert len(files) == len(set(files))
    assert not set(TEACHERS) & set(known_students())
    assert len(TEACHERS) == 81
