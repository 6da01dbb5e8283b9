"""The released schedule's training step, reimplemented for ``distill_step.py --baseline released``.

See docs/reproduction.md#losses: all images pass the student twice, clean and masked, although the second half of the
masked view has no masked patch and reaches no loss; the teacher has float32 weights under autocast, and resamples the
position embeddings of 518 px at each step; four losses are read one by one. Where the released code needs xformers,
this uses fused attention, which computes the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models import Distiller, FeatureObjective, PatchObjective, TokenObjective, ViT

# Pixels that DINOv2's release has positions for.
LEARNT_SIZE = 518


class Encoder(nn.Module):
    """A ViT of timm's with a mask token and, for the teacher, positions that are resampled at each forward."""

    def __init__(self, ours: ViT, positions: Tensor | None = None) -> None:
        super().__init__()
        self.vit = timm.create_model(**ours.timm_args, num_classes=0, dynamic_img_size=True)
        self.vit.load_state_dict(ours.timm_state())
        self.resampled = positions is not None
        if positions is not None:
            self.vit.pos_embed = nn.Parameter(positions.clone())
        self.mask_token = None if ours.mask_token is None else nn.Parameter(ours.mask_token.detach().clone())

    def forward(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        """Encode ``(B, 3, H, W)`` with ``(B, N)`` masks; returns ``(B, 1 + N, D)`` after the final norm."""
        patches = self.vit.patch_embed(images)
        grid = patches.shape[1:3]
        patches = patches.flatten(1, 2)
        if masks is not None and self.mask_token is not None:
            patches = torch.where(masks.unsqueeze(-1), self.mask_token.to(patches.dtype).unsqueeze(0), patches)
        positions = resample(self.vit.pos_embed, grid) if self.resampled else self.vit.pos_embed
        tokens = torch.cat([self.vit.cls_token.expand(len(patches), -1, -1), patches], dim=1) + positions
        return self.vit.norm(self.vit.blocks(self.vit.norm_pre(tokens)))


def resample(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings ``(1, 1 + s * s, D)`` at another grid as DINOv2's release does it: bicubic, offset 0.1."""
    side = round((positions.shape[1] - 1) ** 0.5)
    square = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = tuple((new + 0.1) / side for new in grid)
    resized = F.interpolate(square, scale_factor=factors, mode="bicubic", antialias=False)
    return torch.cat([positions[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class ReleasedStep:
    """The released schedule with the weights of one of our distillers.

    Args:
        model: A distiller of ViTs under token, feature and patch objectives. Its teacher's position embeddings are
            replaced by random ones of 518 px, resampled once for ours and at each step for this.
        lr: Learning rate.
        weight_decay: Of matrices, position embeddings and tokens; vectors have none.
        dtype: What autocast computes in.
        ema: Keep an exponential moving average of the student, tensor by tensor.
        passes: ``two`` student passes of B images, or ``one`` of 2 B.

    Raises:
        SystemExit: The model has parts that the released schedule does not know.
    """

    def __init__(
        self,
        model: Distiller,
        lr: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
        ema: bool = False,
        passes: str = "two",
    ) -> None:
        self.device = next(model.student.parameters()).device
        self.dtype = dtype
        self.passes = passes
        teacher, student = model.teacher, model.student
        if not (isinstance(getattr(teacher, "backbone", None), ViT) and isinstance(student, ViT)):
            raise SystemExit("--baseline released supports only ViT teachers and students; use --baseline none")
        if teacher.img_size not in (None, student.img_size):
            raise SystemExit("--baseline released needs a teacher with the student's input size; use --baseline none")
        self.statistics = None if teacher.same_statistics else (teacher.scale, teacher.shift)
        self.teacher = Encoder(teacher.backbone, give_large_positions(teacher.backbone))
        self.teacher = self.teacher.to(self.device).float().requires_grad_(False)
        self.student = Encoder(student).to(self.device)
        self.heads, self.weights = nn.ModuleDict(), {}
        for objective in model.objectives.values():
            kind = next((kind for kind, cls in KINDS.items() if type(objective) is cls), None)
            if kind is None or (kind == "feature" and objective.cls_term is None):
                raise SystemExit(
                    f"--baseline released knows no {type(objective).__name__} like this one: --baseline none"
                )
            head = nn.Sequential(nn.LayerNorm(student.embed_dim), nn.Linear(student.embed_dim, teacher.embed_dim))
            head.load_state_dict(objective.head.state_dict())
            self.heads[kind], self.weights[kind] = head.to(self.device), objective.weight
        if "token" not in self.heads:
            raise SystemExit("--baseline released needs a token objective; use --baseline none")
        if "patch" not in self.heads and self.student.mask_token is not None:
            self.student.mask_token.requires_grad_(False)
        groups = decayed_and_not(self.student, self.heads)
        # What torch does by default: one kernel for many tensors on a GPU, one tensor after another on a CPU.
        self.optimizer = torch.optim.AdamW(
            [{"params": groups[0], "weight_decay": weight_decay}, {"params": groups[1], "weight_decay": 0.0}], lr=lr
        )
        self.average = copy.deepcopy(self.student).requires_grad_(False) if ema else None
        self.logged: dict[str, float] = {}

    def step(self, batch: dict[str, Tensor]) -> None:
        """One step on a batch of :func:`released_batch`, with everything that the released loop does in it."""
        losses = self.losses(**{key: value.to(self.device, non_blocking=True) for key, value in batch.items()})
        total = sum(losses.values())
        self.logged = {name: loss.item() for name, loss in {"loss": total, **losses}.items()}
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.average is not None:
            self._update_average()

    def gradients(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Losses by name, with the gradients left in the parameters."""
        self.optimizer.zero_grad()
        losses = self.losses(**{key: value.to(self.device) for key, value in batch.items()})
        sum(losses.values()).backward()
        return {"loss": sum(losses.values()).item(), **{f"loss_{kind}": loss.item() for kind, loss in losses.items()}}

    def losses(
        self,
        images: Tensor,
        masks: Tensor,
        mask_indices: Tensor,
    ) -> dict[str, Tensor]:
        """The weighted terms for normalised ``(B, 3, H, W)``, ``(B, N)`` masks and the masked patches' rows."""
        with self.autocast():
            taught = self._teach(images)
            clean, masked = self._encode(images, masks)
            cls = self.heads["token"](clean[:, 0])
            losses = {"token": F.mse_loss(cls.float(), taught[:, 0])}
            if "feature" in self.heads:
                feature = torch.cat([cls.unsqueeze(1), self.heads["feature"](clean[:, 1:])], dim=1)
                losses["feature"] = F.mse_loss(feature.float(), taught)
            if "patch" in self.heads:
                assert masked is not None
                seen = masked[:, 1:].flatten(0, 1).index_select(0, mask_indices)
                wanted = taught[:, 1:].flatten(0, 1).index_select(0, mask_indices)
                losses["patch"] = F.mse_loss(self.heads["patch"](seen).float(), wanted)
        return {kind: self.weights[kind] * loss for kind, loss in losses.items()}

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast to ``dtype``; none for float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _teach(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            if self.statistics is not None:
                images = images * self.statistics[0] + self.statistics[1]
            return self.teacher(images).float()

    def _encode(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor | None]:
        if "patch" not in self.heads:
            return self.student(images), None
        if self.passes == "two":
            return self.student(images), self.student(images, masks)
        both = self.student(torch.cat([images, images]), torch.cat([torch.zeros_like(masks), masks]))
        clean, masked = both.chunk(2)
        return clean, masked

    @torch.no_grad()
    def _update_average(self, decay: float = 0.99996) -> None:
        assert self.average is not None
        now = self.student.state_dict()
        for name, kept in self.average.state_dict().items():
            kept.copy_(kept * decay + (1.0 - decay) * now[name])

    def parameters(self, model: Distiller) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
        """Yield the name of each trained parameter, Proteus' parameter and the one here."""
        own = dict(self.student.named_parameters())
        for name, parameter in model.student.named_parameters():
            yield f"student.{name}", parameter, own[name]
        for objective in model.objectives.values():
            kind = next(kind for kind, cls in KINDS.items() if type(objective) is cls)
            for (name, parameter), same in zip(
                objective.head.named_parameters(), self.heads[kind].parameters(), strict=True
            ):
                yield f"{kind} head {name}", parameter, same


KINDS = {"token": TokenObjective, "feature": FeatureObjective, "patch": PatchObjective}


def released_batch(images: Tensor, masks: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the released collate function gives: images in the dtype of autocast, a mask for every image.

    Args:
        images: ``(B, 3, H, W)``, normalised.
        masks: ``(M, N)`` bool, of the first ``M`` images; the others get an empty one.
        dtype: Of the images that are copied to the device.
    """
    empty = masks.new_zeros(len(images) - len(masks), masks.shape[1])
    masks = torch.cat([masks, empty])
    batch = {"inputs": images.to(dtype), "masks": masks, "mask_indices": masks.flatten().nonzero().squeeze(1)}
    return {key: value.pin_memory() if torch.cuda.is_available() else value for key, value in batch.items()}


@torch.no_grad()
def give_large_positions(backbone: ViT) -> Tensor:
    """Random position embeddings for 518 px; the backbone gets them resampled to its own grid."""
    side = LEARNT_SIZE // backbone.patch_size
    generator = torch.Generator().manual_seed(7)
    large = 0.02 * torch.randn(1, 1 + side * side, backbone.embed_dim, generator=generator)
    own = backbone.vit.pos_embed
    own.copy_(resample(large, backbone.grid).to(own))
    return large


def decayed_and_not(*modules: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters with and without weight decay, as timm parts them: vectors and biases have none."""
    trained = [
        (name, parameter)
        for module in modules
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    spared = [parameter for name, parameter in trained if parameter.ndim <= 1 or name.endswith(".bias")]
    names = {id(parameter) for parameter in spared}
    return [parameter for _, parameter in trained if id(parameter) not in names], spared
