"""Families of timm's models as students and teachers, in small variants; run as a script, it writes docs/models.md."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from proteus.exporters.model import ExportModel
from proteus.exporters.timm_files import write_timm
from proteus.models import Distiller, Teacher
from proteus.models.backbones.factory import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from proteus.models.backbones.hidden_states import no_hidden_states
from proteus.models.backbones.levels import feature_levels
from proteus.models.zoo import load_backbone
from proteus.models.zoo.timm_record import get_pretrained_cfg, licence_name
from proteus.structures import Features

PAGE = Path(__file__).parents[1] / "docs/models.md"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STUDENT_HEADER = ("family", "example", "step", "masks", "levels", "export", "reload")
TEACHER_HEADER = ("family", "weights", "size", "mean and std", "prefix tokens", "rotary", "hidden states", "licence")
# Gradients of random weights are below; layer norms of nothing but zeros give 1e10.
LARGEST_GRADIENT = 1e5
OBJECTIVES: dict[str, Any] = {
    "token": {"type": "TokenObjective"},
    "feature": {"type": "FeatureObjective", "cls_term": "token"},
    "patch": {"type": "PatchObjective"},
}


class Family(NamedTuple):
    """A family of models.

    Attributes:
        name: Name for people.
        weights: Name in timm of published weights, ``ARCHITECTURE.TAG``.
        options: Sizes of a small variant of the architecture.
        size: Side in pixels of the images of the test.
        grid: Patches down and across of such an image.
        arch: Architecture of the small variant, if it is another one.
        kind: Type of the backbone.
    """

    name: str
    weights: str
    options: dict[str, Any] | None = None
    size: int = 64
    grid: int = 2
    arch: str = ""
    kind: str = "TimmBackbone"

    @property
    def architecture(self) -> str:
        """Name in timm of the published architecture."""
        return self.weights.partition(".")[0]

    def config(self) -> dict[str, Any]:
        """Config of the small variant."""
        return {
            "type": self.kind,
            "arch": self.arch or self.architecture,
            "img_size": self.size,
            **(self.options or {}),
        }

    def student(self) -> dict[str, Any]:
        """The same as a student that takes masks."""
        masks = {"mask_token": True} if self.kind == "ViT" else {"mask_colour": "learnt"}
        return {**self.config(), **masks}


VIT: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
PLAIN: dict[str, Any] = {**VIT, "patch_size": 16, "init_values": None}
FOUR: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
FAMILIES = [
    Family("ResNet", "resnet18.a1_in1k", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}),
    Family("ResNeXt", "resnext50_32x4d.a1_in1k", {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 16)}),
    Family("RegNet", "regnetx_002.pycls_in1k"),
    Family("EfficientNet", "efficientnet_b0.ra_in1k", arch="test_efficientnet"),
    Family("MobileNetV3", "mobilenetv3_small_050.lamb_in1k"),
    Family("MobileNetV4", "mobilenetv4_conv_small_050.e3000_r224_in1k", arch="mobilenetv4_conv_small_035"),
    Family("FastViT", "fastvit_t8.apple_in1k", {"layers": (1, 1, 1, 1), "embed_dims": (8, 16, 32, 64)}),
    Family("RepViT", "repvit_m0_9.dist_450e_in1k", {"depth": (1, 1, 1, 1), "embed_dim": (8, 16, 24, 32)}),
    Family("ConvNeXt", "convnext_atto.d2_in1k", FOUR),
    Family("ConvNeXt V2", "convnextv2_atto.fcmae", FOUR),
    Family("ConvNeXt (DINOv3)", "convnext_tiny.dinov3_lvd1689m", FOUR),
    Family(
        "Swin",
        "swin_tiny_patch4_window7_224.ms_in1k",
        {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)},
        size=56,
        grid=7,
    ),
    Family(
        "Swin V2",
        "swinv2_tiny_window8_256.ms_in1k",
        {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)},
        grid=8,
    ),
    Family("Hiera", "hiera_tiny_224.mae_in1k_ft_in1k", {"embed_dim": 8}),
    Family("MaxViT", "maxvit_tiny_tf_224.in1k", arch="test_maxvit"),
    Family("CoAtNet", "coatnet_nano_rw_224.sw_in1k", arch="test_coatnet"),
    Family("EdgeNeXt", "edgenext_xx_small.in1k", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
    Family("EfficientViT (MIT)", "efficientvit_b0.r224_in1k"),
    Family(
        "EfficientViT (MSRA)",
        "efficientvit_m0.r224_in1k",
        {"embed_dim": (16, 32, 48), "depth": (1, 1, 1)},
        size=128,
    ),
    Family(
        "TinyViT",
        "tiny_vit_5m_224.dist_in22k",
        {"embed_dims": (16, 32, 32, 64), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)},
    ),
    Family("ViT", "vit_tiny_patch16_224.augreg_in21k", PLAIN, grid=4, kind="ViT"),
    Family("DeiT", "deit_tiny_patch16_224.fb_in1k", PLAIN, grid=4, kind="ViT"),
    Family("DeiT III", "deit3_small_patch16_224.fb_in22k_ft_in1k", VIT, grid=4),
    Family("BEiT", "beit_base_patch16_224.in22k_ft_in22k", VIT, grid=4),
    Family("EVA-02", "eva02_tiny_patch14_224.mim_in22k", VIT, size=56, grid=4),
    Family("DINOv2", "vit_small_patch14_dinov2.lvd142m", VIT, size=56, grid=4, kind="ViT"),
    Family(
        "DINOv2, registers",
        "vit_small_patch14_reg4_dinov2.lvd142m",
        {**VIT, "reg_tokens": 4},
        size=56,
        grid=4,
        kind="ViT",
    ),
    Family("DINOv3", "vit_small_patch16_dinov3.lvd1689m", VIT, grid=4),
    Family("EUPE", "vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", VIT, grid=4),
    Family("SigLIP2", "vit_base_patch16_siglip_224.v2_webli", VIT, grid=4),
    Family("PE-Core", "vit_pe_core_tiny_patch16_384.fb", VIT, grid=4),
    Family("PE-Spatial", "vit_pe_spatial_tiny_patch16_512.fb", VIT, grid=4),
    Family("TIPSv2", "vit_base_patch14_reg1_tipsv2.webli", {**VIT, "reg_tokens": 1}, size=56, grid=4, kind="ViT"),
    Family(
        "C-RADIO",
        "vit_base_patch16_radio_v3.c_radio",
        {**VIT, "patch_size": 16, "reg_tokens": 7},
        grid=4,
        kind="ViT",
    ),
    Family("RoPE-ViT", "vit_small_patch16_rope_224.naver_in1k", VIT, grid=4),
    Family("NaFlexViT", "naflexvit_base_patch16_gap.e300_s576_in1k", VIT, grid=4),
    Family("XCiT", "xcit_nano_12_p16_224.fb_in1k", VIT, grid=4),
    Family("CaiT", "cait_xxs24_224.fb_dist_in1k", VIT, grid=4),
    Family(
        "LeViT",
        "levit_128s.fb_dist_in1k",
        {"embed_dim": (16, 24, 32), "depth": (1, 1, 1), "num_heads": (1, 1, 1)},
        size=128,
    ),
]


def student_row(family: Family, folder: Path) -> tuple[str, ...]:
    """Take a training step with a student, export it and load it again.

    Args:
        family: The family.
        folder: Where to export to.

    Returns:
        Its row, under ``STUDENT_HEADER``.

    Raises:
        AssertionError: The step leaves a parameter without a gradient or unchanged features, or the export gives other
            features.
    """
    torch.manual_seed(0)
    model = _distiller(family).train()
    student: Any = model.student
    assert student.grid == (family.grid,) * 2, (family.name, student.grid)
    images = torch.rand(2, 3, family.size, family.size)
    masks = (torch.arange(family.grid**2) % 2 == 0)[None]
    batch = model.data_preprocessor(
        {"inputs": images, "masks": masks, "mask_indices": masks.flatten().nonzero().squeeze(1)}, True
    )
    losses = model(**batch, mode="loss")
    assert set(losses) == {"loss_token", "loss_feature", "loss_patch"}
    torch.stack(list(losses.values())).sum().backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert not [name for name, value in trained.items() if value.grad is None]
    assert max(float(value.grad.abs().max()) for value in trained.values() if value.grad is not None) < LARGEST_GRADIENT
    torch.optim.SGD(trained.values(), lr=1e-3).step()
    model.eval()
    with torch.no_grad():
        clean, masked = student.clean_and_masked(batch["inputs"], masks)
    assert not torch.allclose(clean.patches[:1], masked.patches)
    exported = ExportModel(student.requires_grad_(False), family.name, family.size, MEAN, STD)
    assert write_timm(exported, folder) < 1e-3
    again = load_backbone(folder)
    assert isinstance(again, type(student))
    _assert_close(again(batch["inputs"]), clean)
    masks_by = "mask token" if family.kind == "ViT" else "pixels"
    levels = "-" if family.kind == "ViT" else _levels(student, batch["inputs"])
    return family.name, f"`timm/{family.architecture}`", "yes", masks_by, levels, "yes", "yes"


@torch.no_grad()
def teacher_row(family: Family) -> tuple[str, ...]:
    """Run a teacher on images that are normalised for the student.

    Returns:
        Its row, under ``TEACHER_HEADER``.

    Raises:
        AssertionError: Its features or hidden states are not those of timm's model for images with its own statistics.
    """
    about = get_pretrained_cfg(family.weights)
    assert about is not None, family.weights
    mean, std = about.mean, about.std
    torch.manual_seed(0)
    teacher = Teacher(family.config(), mean=mean, std=std, dtype="float32", input_mean=MEAN, input_std=STD)
    pixels = torch.rand(2, 3, family.size, family.size)
    found = teacher(_normalised(pixels, MEAN, STD))
    backbone = teacher.backbone
    network = backbone.vit if family.kind == "ViT" else backbone.model
    own = _normalised(pixels, mean, std)
    _assert_close(found, backbone(own))
    norm = family.name != "Hiera"  # timm's norms the pooled features only
    last = network.forward_intermediates(own, indices=1, norm=norm, intermediates_only=True, output_fmt="NCHW")[0]
    if last.shape == found.maps.shape:  # else timm has a layer after the last level (EfficientNet)
        torch.testing.assert_close(found.maps, last, atol=1e-4, rtol=1e-3)
    prefix = getattr(network, "num_prefix_tokens", 0)
    return (
        family.name,
        f"`{family.weights}`",
        str(about.input_size[-1]),
        _statistics(mean, std),
        str(prefix),
        "yes" if any("rope" in name for name, _ in network.named_modules()) else "-",
        _hidden_states(teacher, network, _normalised(pixels, MEAN, STD), found),
        licence_name(about.license) or "-",
    )


def format_row(cells: tuple[str, ...]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def written_rows(kind: str) -> list[str]:
    """Return the rows of a table of docs/models.md: ``students`` or ``teachers``."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition(f"<!-- {kind} -->\n")[2].partition(f"<!-- /{kind} -->")[0]
    return table.splitlines()[2:]


def main() -> None:
    """Write both tables."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        students = [student_row(family, Path(folder, str(number))) for number, family in enumerate(FAMILIES)]
    tables = {
        "students": (STUDENT_HEADER, students),
        "teachers": (TEACHER_HEADER, [teacher_row(family) for family in FAMILIES]),
    }
    for kind, (header, rows) in tables.items():
        before, _, rest = text.partition(f"<!-- {kind} -->\n")
        after = rest.partition(f"<!-- /{kind} -->")[2]
        lines = [format_row(header), f"|{'---|' * len(header)}", *map(format_row, rows)]
        text = "\n".join([f"{before}<!-- {kind} -->", *lines, f"<!-- /{kind} -->{after}"])
    PAGE.write_text(text, encoding="utf-8")


def _distiller(family: Family) -> Distiller:
    teacher = {
        "type": "Teacher",
        "backbone": {
            "type": "ViT",
            "arch": "tiny",
            "img_size": family.size,
            "patch_size": family.size // family.grid,
            "embed_dim": 16,
            "depth": 1,
            "num_heads": 1,
        },
    }
    return Distiller(teacher, family.student(), OBJECTIVES)


def _normalised(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def _assert_close(found: Features, expected: Features) -> None:
    assert found.grid == expected.grid
    torch.testing.assert_close(found.cls, expected.cls, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.patches, expected.patches, atol=1e-4, rtol=1e-3)


def _hidden_states(teacher: Teacher, network: Any, images: torch.Tensor, expected: Features) -> str:
    """Encode images with hidden states, if the model has them; returns ``yes`` or ``-``."""
    if no_hidden_states(teacher.backbone):
        return "-"
    streams: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda *args: streams.append(args[-1])) for block in network.blocks]
    output = teacher.encode(images, hidden_states=True)
    for hook in hooks:
        hook.remove()
    assert torch.equal(output.features.cls, expected.cls)
    assert torch.equal(output.features.patches, expected.patches)
    for found, stream in zip(output.hidden, streams, strict=True):
        assert found.grid == expected.grid
        assert torch.equal(found.cls, stream[:, 0])
        assert torch.equal(found.patches, stream[:, network.num_prefix_tokens :])
    return "yes"


@torch.no_grad()
def _levels(student: Any, images: torch.Tensor) -> str:
    """Encode images with the last two levels; returns ``yes``."""
    plain = student(images)
    student.feature_levels = feature_levels(student.model, "levels", "", (-2, -1))
    student._level_norm = student._takes_level_norm()
    both = student(images)
    torch.testing.assert_close(both.cls, plain.cls)
    assert both.grid >= plain.grid
    assert both.patches.isfinite().all()
    assert both.patches.shape == (2, both.grid[0] * both.grid[1], student._shapes(student.img_size).patches.shape[-1])
    return "yes"


def _statistics(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    known = {(MEAN, STD): "ImageNet", (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD): "CLIP"}
    return known.get((tuple(mean), tuple(std)), f"{mean[0]:g} and {std[0]:g}")


if __name__ == "__main__":
    sys.exit(main())
