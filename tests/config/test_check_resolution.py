from typing import Any

import pytest
from mmengine.config import Config

from proteus.apis import ConfigError, load_config
from proteus.config.check_resolution import check_resolution, schedule_of

STAGES = [dict(size=112, end=0.6), dict(size=224)]


@pytest.fixture
def cfg() -> Config:
    cfg = load_config("configs/proteus/vit-ti_dinov2-s.py")
    cfg.train_dataloader.batch_sampler = dict(type="ResolutionBatchSampler", stages=STAGES)
    return cfg


def timm_model(arch: str, **options: Any) -> dict[str, Any]:
    return dict(_delete_=True, type="TimmBackbone", arch=arch, **options)


def refused(cfg: Config, message: str, **values: Any) -> None:
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in values.items()})
    with pytest.raises(ConfigError, match=message) as raised:
        check_resolution(cfg)
    assert len(raised.value.problems) == 1


def test_a_recipe_with_a_schedule_is_consistent(cfg: Config) -> None:
    check_resolution(cfg)
    schedule = schedule_of(cfg)
    assert schedule is not None
    assert schedule.sizes == [(112, 112), (224, 224)]
    assert schedule.segments[0].end == round(0.6 * cfg.train_cfg.max_iters)
    cfg.train_dataloader.batch_sampler = None
    assert schedule_of(cfg) is None
    check_resolution(cfg)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_dataloader__batch_sampler__stages": [dict(size=120)]}, r"stages\[0\]\.size=120: .*; write 112 or 126"),
        ({"model__student__patch_size": 16}, r"patch_size = 14: model\.student\.patch_size is 16; write a multiple"),
        (
            {"train_dataloader__sampler__type": "DefaultSampler", "train_dataloader__sampler__repeats": 1},
            r"sampler\.type = 'DefaultSampler': .*ProxySampler",
        ),
        (
            {"model__data_preprocessor__type": "ShiftDataPreprocessor"},
            "ShiftDataPreprocessor cuts its views out of larger images",
        ),
        (
            {"train_dataloader__batch_sampler__stages": [dict(size=112, end=9, batch_size=1), dict(size=224)]},
            r"1 images of 112x112 px: none of them is masked",
        ),
        (
            {"train_dataloader__batch_sampler__stages": [dict(size=112, batch_size=60)], "model__micro_batches": 4},
            r"60 images of 112x112 px \(30 of them masked\) do not divide into model\.micro_batches = 4",
        ),
        (
            {"model__teacher__backbone": timm_model("vit_base_patch16_siglip_224")},
            r"teacher\.backbone: vit_base_patch16_siglip_224 takes images of one size, .*; write "
            r"model\.teacher\.img_size=224, or model\.teacher\.backbone\.dynamic_img_size=True$",
        ),
        (
            {"model__teacher__backbone": timm_model("vit_large_patch16_siglip_256", img_size=256)},
            r"write model\.teacher\.img_size=256, or model\.teacher\.backbone\.dynamic_img_size=True$",
        ),
        (
            {"model__teacher__backbone": timm_model("beit_base_patch16_224", img_size=256)},
            r"write model\.teacher\.img_size=256$",
        ),
        (
            {"model__student": timm_model("vit_small_patch14_reg4_dinov2")},
            r"model\.student: vit_small_patch14_reg4_dinov2 takes images of one size, .*; write "
            r"model\.student\.dynamic_img_size=True$",
        ),
        (
            {"model__student": timm_model("swin_tiny_patch4_window7_224")},
            r"swin_tiny_patch4_window7_224 takes images of one size, .*; write model\.student\.dynamic_img_size=True$",
        ),
        (
            {"model__student": timm_model("hiera_tiny_224")},
            r"hiera_tiny_224 takes images of one size, .* changes it; remove batch_sampler$",
        ),
        ({"train_dataloader__drop_last": True}, r"train_dataloader\.drop_last = True: all batches .*remove it"),
    ],
)
def test_what_a_schedule_cannot_be_combined_with(cfg: Config, values: dict[str, Any], message: str) -> None:
    refused(cfg, message, **values)


@pytest.mark.parametrize(
    "arch",
    ["vit_small_patch16_dinov3", "vit_tiny_patch16_dinov3_qkvb", "xcit_nano_12_p16_224", "efficientvit_m0"],
)
def test_models_that_take_any_size_against_what_timm_says(cfg: Config, arch: str) -> None:
    cfg.merge_from_dict({"model.teacher.backbone": timm_model(arch)})
    check_resolution(cfg)
    cfg.merge_from_dict({"model.student": timm_model(arch)})
    check_resolution(cfg)


def test_a_teacher_of_one_size_keeps_its_own(cfg: Config) -> None:
    cfg.model.teacher.backbone = dict(type="TimmBackbone", arch="vit_base_patch16_siglip_224")
    cfg.model.teacher.img_size = 224
    check_resolution(cfg)


def test_a_teacher_cache_holds_one_size(cfg: Config) -> None:
    cfg.train_dataloader.dataset = dict(type="FixedViews", cache="tokens", dataset=cfg.train_dataloader.dataset)
    refused(cfg, r"train_dataloader\.dataset\.cache = 'tokens': a teacher cache holds tokens of one image size")
    cfg.train_dataloader.dataset.cache = None
    check_resolution(cfg)


def test_a_crop_of_one_size(cfg: Config) -> None:
    cfg.train_dataloader.dataset.pipeline[0] = dict(type="ResizeSquare", scale=224)
    refused(cfg, r"dataset\.pipeline\[0\]\.type = 'ResizeSquare': .* write LoadRandomResizedCrop or RandomResizedCrop")


def test_a_run_that_counts_epochs(cfg: Config) -> None:
    cfg.train_cfg = dict(by_epoch=True, max_epochs=3)
    cfg.train_dataloader.batch_sampler.stages = [dict(size=224)]
    refused(cfg, r"train_cfg\.max_iters: missing")
