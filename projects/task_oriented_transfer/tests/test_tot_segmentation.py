import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from projects.task_oriented_transfer import compare_segmentation
from projects.task_oriented_transfer.segmentation import PixelObjective
from proteus.apis import ConfigError, check, load_config, train
from proteus.checkpoints import CheckpointError
from proteus.models import Distiller, StepFeatures, build_backbone
from proteus.registry import MODELS
from proteus.structures import Features

CONFIGS = compare_segmentation.CONFIGS.parent
FILES = sorted(path for folder in ("ade20k", "packaged_segmentation") for path in (CONFIGS / folder).glob("*.py"))
STEPS = [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in FILES if path.stem != "task"]


@pytest.fixture(autouse=True)
def scope():
    """Reset MMEngine's global default scope: the runs here use two."""
    before = DefaultScope.get_current_instance()
    init_default_scope("proteus")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def head(widths, classes, **more):
    return {
        "type": "mmseg.FCNHead",
        "in_channels": list(widths),
        "in_index": list(range(len(widths))),
        "input_transform": "resize_concat",
        "channels": sum(widths),
        "num_convs": 0,
        "concat_input": False,
        "num_classes": classes,
        "dropout_ratio": 0.1,
        **more,
    }


VIT = {"type": "proteus.DenseViT", "arch": "tiny", "img_size": 56, "embed_dim": 24, "depth": 2, "num_heads": 2}
VIT["out_indices"] = (0, 1)
TEACHER = {"type": "mmseg.EncoderDecoder", "backbone": VIT, "decode_head": head([24, 24], 5)}
STUDENTS = {
    "cnn": {
        "type": "mmseg.EncoderDecoder",
        "backbone": {"type": "proteus.DenseTimm", "arch": "test_resnet", "img_size": 64},
        "decode_head": head([32, 48, 192, 96], 5),
    },
    "vit": {
        "type": "mmseg.EncoderDecoder",
        "backbone": {**VIT, "embed_dim": 16, "depth": 4, "out_indices": (0, 1, 2, 3)},
        "neck": {"type": "mmseg.Feature2Pyramid", "embed_dim": 16, "norm_cfg": {"type": "BN"}},
        "decode_head": head([16] * 4, 5),
    },
}


def test_wrong_head_widths_are_reported():
    student = {**STUDENTS["cnn"], "decode_head": head([32, 48, 192, 95], 5)}
    words = r"EncoderDecoder: decode_head\.in_channels does not fit the maps of backbone: write .*=\[32, 48, 192, 96\]"
    with pytest.raises(ValueError, match=words):
        build_backbone(student)


def views(student, teacher):
    """StepFeatures with patches from maps ``(B, K, h, w)``."""
    features = [Features(m.mean((2, 3)), m.flatten(2).transpose(1, 2), tuple(m.shape[2:])) for m in (teacher, student)]
    return StepFeatures(*features)


@pytest.fixture
def adapted(tmp_path):
    """A checkpoint of an adapted teacher, and its segmentor."""
    segmentor = build_backbone(TEACHER).guest
    path = tmp_path / "iter_7.pth"
    torch.save({"state_dict": segmentor.state_dict(), "meta": {"iter": 7}}, path)
    return path, segmentor.eval()


def distiller(checkpoint, student="cnn", **objective):
    backbone = {**TEACHER, "init_cfg": {"type": "Pretrained", "checkpoint": str(checkpoint)}}
    teacher = {"type": "SegmentationTeacher", "img_size": 56, "backbone": backbone}
    return Distiller(teacher, STUDENTS[student], {"task": {"type": "PixelObjective", **objective}})


def test_loss_of_one_pixel():
    student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)

    loss = PixelObjective(2, 2)(views(student, teacher), {})

    # Probabilities 3/4 and 1/4 against 1/2 and 1/2; as in DeiT, the core's loss is divided by the number of classes.
    assert loss.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loss_and_gradient_equal_torchs(temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, 3, 4, generator=generator) for _ in range(2))
    student.requires_grad_()
    objective = PixelObjective(5, 5, loss={"type": "SoftLogitsLoss", "temperature": temperature})

    loss = objective(views(student, teacher), {})
    loss.backward()

    ours, theirs = (F.softmax(scores.detach() / temperature, dim=1) for scores in (student, teacher))
    expected = F.kl_div(ours.log(), theirs, reduction="sum") * temperature**2 / student.numel()
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(student.grad, temperature * (ours - theirs) / student.numel())


@pytest.mark.parametrize(
    ("student", "teacher", "finer"), [((6, 8), (3, 2), (6, 8)), ((2, 2), (5, 4), (5, 4)), ((4, 2), (3, 6), (4, 6))]
)
def test_maps_are_compared_at_the_finer_grid(student, teacher, finer):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(2, 3, *grid, generator=generator) for grid in (student, teacher))

    loss = PixelObjective(3, 3)(views(ours, theirs), {})

    enlarged = [F.interpolate(m, finer, mode="bilinear", align_corners=False) for m in (ours, theirs)]
    expected = F.kl_div(F.log_softmax(enlarged[0], 1), F.softmax(enlarged[1], 1), reduction="sum")
    torch.testing.assert_close(loss, expected / enlarged[0].numel())


def test_equal_scores_have_zero_loss():
    scores = torch.randn(2, 4, 3, 3)

    assert PixelObjective(4, 4)(views(scores, scores + 7.0), {}).item() == pytest.approx(0, abs=1e-7)


def test_teacher_equals_mmsegs_segmentor(adapted):
    path, segmentor = adapted
    images = torch.randn(2, 3, 56, 56)

    said = distiller(path).teacher(images)

    with torch.no_grad():
        expected = segmentor(images)
    torch.testing.assert_close(said.patches.transpose(1, 2).unflatten(2, said.grid), expected)


@pytest.mark.parametrize("student", list(STUDENTS))
def test_only_the_student_is_trained_and_saved(adapted, student):
    path, segmentor = adapted
    model = distiller(path, student).train()
    side = 64 if student == "cnn" else 56

    (loss,) = model(torch.randn(4, 3, side, side), mode="loss").values()
    loss.backward()

    assert not any(module.training for module in model.teacher.modules())
    assert all(not p.requires_grad and p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any(p.grad.abs().sum() > 0 for p in model.student.guest.decode_head.parameters())
    guest = model.teacher.backbone.guest.state_dict()
    assert all(torch.equal(guest[name], value) for name, value in segmentor.state_dict().items())
    assert {name.split(".")[0] for name in model.state_dict()} == {"student"}
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.student.parameters())


@pytest.mark.parametrize("folder", ["ade20k", "packaged_segmentation"])
def test_padded_and_ignored_pixels_do_not_count(folder):
    cfg = load_config(CONFIGS / folder / "finetune.py")
    init_default_scope("mmseg")
    prepare, classifier = MODELS.build(cfg.model.data_preprocessor), MODELS.build(cfg.model.decode_head)
    sample = SegDataSample(metainfo={"img_shape": (60, 90), "ori_shape": (60, 90)})
    mask = torch.zeros(1, 60, 90, dtype=torch.long)
    mask[:, :20, :30] = 255
    sample.gt_sem_seg = PixelData(data=mask)
    batch = prepare({"inputs": [torch.zeros(3, 60, 90, dtype=torch.uint8)], "data_samples": [sample]}, training=True)
    scores = torch.randn(1, cfg.model.decode_head.num_classes, *batch["inputs"].shape[2:], requires_grad=True)

    sum(classifier.loss_by_feat(scores, batch["data_samples"]).values()).backward()

    counted = scores.grad.abs().sum((0, 1)) > 0
    expected = torch.zeros_like(counted)
    expected[:60, :90] = True
    expected[:20, :30] = False
    assert batch["inputs"].shape[2:] == tuple(cfg.model.data_preprocessor.size)
    assert torch.equal(counted, expected)


def test_teacher_of_other_classes_is_rejected(adapted):
    path, _ = adapted
    with pytest.raises(ValueError, match=r"has 4 scores per pixel, model.teacher.backbone 5:.*num_classes=5"):
        PixelObjective(4, 5)
    backbone = {**TEACHER, "decode_head": head([24, 24], 9)}
    backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": str(path)}
    with pytest.raises(
        CheckpointError,
        match=r"model\.teacher\.backbone\.init_cfg\.checkpoint: .*iter_7\.pth has 5 classes, the config's "
        r"teacher 9: write model\.teacher\.backbone\.decode_head\.num_classes=5",
    ):
        Distiller({"type": "SegmentationTeacher", "backbone": backbone}, STUDENTS["cnn"], {})


def test_checkpoints_of_other_models_are_rejected(tmp_path):
    torch.save({"state_dict": {"cls_token": torch.zeros(1)}}, tmp_path / "vit.pth")

    with pytest.raises(CheckpointError, match=r"vit\.pth has no decode_head\.conv_seg\.weight; name a checkpoint"):
        distiller(tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"init_cfg\.checkpoint: weights not found: .*gone\.pth.*teacher\.py"):
        distiller(tmp_path / "gone.pth")


def test_missing_teacher_and_images_are_reported_by_key(tmp_path):
    cfg = load_config(CONFIGS / "ade20k/task_oriented.py", {"work_dir": str(tmp_path)})

    with pytest.raises(ConfigError) as caught:
        train(cfg)

    for key in ("model.teacher.backbone.init_cfg.checkpoint", "train_dataloader.dataset.data_root"):
        assert f"--cfg-options {key}=" in str(caught.value)


def plain(value):
    """A part of a config without scopes and without its initial checkpoint."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != "checkpoint"}
    return value.rpartition(".")[2] if isinstance(value, str) else value


@pytest.mark.parametrize("folder", ["ade20k", "packaged_segmentation"])
def test_all_steps_share_student_teacher_and_labels(folder):
    files = [path for path in (CONFIGS / folder).glob("*.py") if path.stem != "task"]
    steps = {path.stem: load_config(path, {"load_from": None}) for path in files}

    oriented, agnostic = steps["task_oriented"], steps["task_agnostic"]
    for part in ("backbone", "decode_head"):
        assert plain(steps["finetune"].model[part]) == plain(oriented.model.student[part])
        assert plain(steps["teacher"].model[part]) == plain(oriented.model.teacher.backbone[part])
    assert agnostic.model.student.arch == oriented.model.student.backbone.arch
    assert {name for name, objective in agnostic.model.objectives.items() if objective} == {"token", "feature"}
    for key in ("train_dataloader", "param_scheduler", "optim_wrapper", "train_cfg"):
        assert oriented[key] == agnostic[key]
    supervised = [cfg.train_dataloader.dataset.dataset.indices for cfg in steps.values() if "val_evaluator" in cfg]
    assert len(supervised) == len(steps) - 2
    assert all(indices == supervised[0] for indices in supervised)


@pytest.mark.slow
@pytest.mark.parametrize("path", STEPS)
def test_configs_build_without_data(path):
    assert "every key is known and every part was built" in check(load_config(path, {"load_from": None}))
