"""The frozen model that is distilled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from torch import Tensor, nn

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.backbones import build_backbone
from proteus.models.backbones.features import both_sides, sides_of
from proteus.models.teachers.sharding import blocks_of, shard_blocks, shards_wanted
from proteus.models.teachers.spread import Request, SpreadTeacher
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_channels
from proteus.utils.compile import compiled
from proteus.utils.precision import has_bfloat16, no_autocast


class TeacherOutput(NamedTuple):
    """What objectives read of a teacher, in float32.

    Attributes:
        features: Features of the images, ``(B, ...)``.
        logits: Class scores of the teacher's classifier, ``(B, C)``, if an objective asks for them.
        hidden: The residual stream after each block, if an objective asks for it.
    """

    features: Features
    logits: Tensor | None = None
    hidden: tuple[Features, ...] = ()


@MODELS.register_module()
class Teacher(nn.Module):
    """A frozen backbone with its own statistics, input size and dtype.

    It stays in eval mode and gives no gradient. Its owner does not register it as a submodule, so that it is never in a
    checkpoint, optimizer, average of weights or broadcast.

    Args:
        backbone: Config of the backbone, ours or mmpretrain's; its ``checkpoint`` names the weights.
        mean: Channel means it was trained with, for images in [0, 1].
        std: Channel standard deviations, likewise.
        classifier: Config of the classifier that belongs to the backbone, where an objective asks for class scores.
        img_size: Side in pixels to which images are resized (bicubic, antialiased) before they enter; their own
            size by default.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: bfloat16 on GPUs that have it, else float32.
        compile: Compile the backbone with ``torch.compile``: False, True, or its options, for instance
            ``dict(mode='reduce-overhead')`` for CUDA graphs.
        shard: For a teacher that does not fit on one device: spread the backbone's weights over all ranks (FSDP2). Each
            rank must then run it equally often. It has no effect with a single process.
        input_mean: Statistics that the incoming images are normalised with; the distiller fills them in.
        input_std: Likewise.

    Attributes:
        sharded: Whether each rank has a part of the backbone's weights.
        compiled: Whether the backbone is compiled.
        size_rule: Which size images are resized to, by their own, if ``img_size`` is None; None, or a result of None,
            keeps theirs. The distiller sets it where the teacher's patches shall lie on the student's grid.
        spread: Which process holds the teacher, if ``MultiTeacherDistiller`` spreads its teachers.
        last_block: Number of blocks after which the features are taken; None for all. ``TeacherDepthHook`` sets it.

    Raises:
        ValueError: ``dtype`` is not one of those, ``torch.compile`` does not take an option, the backbone cannot be
            sharded, or the classifier reads more blocks than the backbone gives.
        CheckpointError: The weights of the backbone or the classifier cannot be read, or are another model's.
    """

    scale: Tensor
    shift: Tensor
    classifier: Any
    sharded: bool = False
    compiled: bool = False
    size_rule: Callable[[tuple[int, int]], tuple[int, int] | None] | None = None
    spread: SpreadTeacher | None = None
    last_block: int | None = None

    def __init__(
        self,
        backbone: dict[str, Any],
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        classifier: dict[str, Any] | None = None,
        img_size: int | None = None,
        dtype: str = "auto",
        compile: bool | Mapping[str, Any] = False,
        shard: bool = False,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ValueError(f"teacher.dtype={dtype!r}: write 'auto', 'float32', 'bfloat16' or 'float16'")
        check_channels("mean", mean)
        check_channels("std", std, positive=True)
        with prefix_checkpoint_errors("backbone.checkpoint"):
            self.backbone = build_backbone(backbone).requires_grad_(False)
        if shard and compile is not False:
            raise ValueError(
                "teacher.shard=True gathers weights between blocks, which is not compiled: write compile=False"
            )
        self._compiled_backbone = compiled("teacher.compile", self._run_backbone, compile)
        self.compiled = compile is not False
        if shard:
            blocks_of(self.backbone)
        self.sharded = shards_wanted(shard)
        self._split = False
        self.classifier = None
        if classifier is not None:
            with prefix_checkpoint_errors("classifier.checkpoint"):
                built = MODELS.build(classifier, default_args={"in_dim": self.backbone.embed_dim})
            self.classifier = built.requires_grad_(False)
            if built.layers > 1 and not hasattr(self.backbone, "levels"):
                raise ValueError(
                    f"teacher.classifier.layers={built.layers}, but {type(self.backbone).__name__} gives its last "
                    "features only: write layers=1"
                )
        self.img_size = img_size
        self.dtype = dtype
        # x = (image - input_mean) / input_std  ->  (image - mean) / std is one multiplication and one addition.
        scale = [i / s for i, s in zip(input_std or std, std, strict=True)]
        shift = [(i - m) / s for i, m, s in zip(input_mean or mean, mean, std, strict=True)]
        self.same_statistics = scale == [1.0] * len(scale) and not any(shift)
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1), persistent=False)
        super().train(False)
        self.to_device(self.scale.device)

    @property
    def embed_dim(self) -> int:
        """Width of the tokens."""
        return self.backbone.embed_dim

    @property
    def collective(self) -> bool:
        """Whether several ranks run the teacher together: what one rank asks of it, all must ask."""
        return self.sharded or self.spread is not None

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """``(h, w)`` of the patches it makes of images of ``img_size`` pixels, a side or height and width."""
        return self.backbone.grid_for(self.input_size(both_sides(img_size)))

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that images of ``size`` have when they enter the backbone."""
        if self.img_size is not None:
            return (self.img_size, self.img_size)
        return (self.size_rule(size) if self.size_rule is not None else None) or size

    def check_size(self, key: str) -> None:
        """Check that the backbone takes images of ``img_size``.

        Args:
            key: Key of the teacher in the config, for the message.

        Raises:
            ValueError: It does not; the message names the nearest sizes.
        """
        size = self.img_size
        if size is None or self._takes(size):
            return
        own = getattr(self.backbone, "img_size", None)
        embed = getattr(getattr(self.backbone, "model", None), "patch_embed", None)
        patch = both_sides(getattr(self.backbone, "patch_size", None) or getattr(embed, "patch_size", None) or 1)[0]
        nearest = [near for near in (size // patch * patch, (size // patch + 1) * patch) if near and self._takes(near)]
        if {*nearest} - {own}:
            remedy = f"write {' or '.join(map(str, nearest))}"
        elif isinstance(own, int) and self._takes(own):  # a model that is built for one size
            remedy = f"write {own}, or {key}.backbone.img_size for another size as well"
        else:
            return  # other sizes fail as well: the first step reports why
        raise ValueError(f"{key}.img_size={size}: {key}.backbone does not take images of this size; {remedy}")

    def _takes(self, size: int) -> bool:
        patch = getattr(self.backbone, "patch_size", None)
        if isinstance(patch, int) and size % patch:  # a ViT's grid rounds down
            return False
        try:
            self.backbone.grid_for(both_sides(size))
        except (AssertionError, AttributeError, RuntimeError, ValueError):
            return False
        return True

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, whatever ``mode`` is."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        # An EMA deep-copies the model that owns this teacher; what never changes can be shared.
        return self

    def to_device(self, device: torch.device) -> None:
        """Move the weights to ``device`` in the dtype that is right there.

        A sharded backbone waits where it was loaded, and its parts go where its first images are. A teacher that
        another process holds stays on the meta device.

        Raises:
            RuntimeError: It has been sharded on another device.
        """
        if self.spread is not None and not self.spread.held:
            return
        dtype = getattr(torch, self.dtype) if self.dtype != "auto" else _best_dtype(device)
        if not self.sharded or device.type == "meta":
            self.to(device)
            self.backbone.to(dtype)
            return
        if self._split:
            raise RuntimeError(f"the teacher was sharded on {self.scale.device} and cannot be moved to {device}")
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)
        if self.classifier is not None:
            self.classifier.to(device)
        self.backbone.to(dtype)

    def forward(self, images: Tensor) -> Features:
        """Encode images that are normalised with ``input_mean`` and ``input_std``.

        Args:
            images: ``(B, 3, H, W)``.

        Returns:
            ``Features`` in float32, after the backbone's final LayerNorm, without gradient.
        """
        return self.encode(images).features

    def classify(self, images: Tensor) -> tuple[Features, Tensor]:
        """Encode and classify images in one pass.

        Args:
            images: ``(B, 3, H, W)``.

        Returns:
            The ``Features`` of :meth:`forward`, and the classifier's logits ``(B, C)`` in float32.

        Raises:
            ValueError: The teacher has no classifier.
        """
        output = self.encode(images, logits=True)
        return output.features, output.logits  # type: ignore[return-value]

    @torch.no_grad()
    def encode(self, images: Tensor, logits: bool = False, hidden_states: bool = False) -> TeacherOutput:
        """Encode images in one pass.

        Args:
            images: ``(B, 3, H, W)``.
            logits: Classify them as well.
            hidden_states: Return the residual stream after each block as well.

        Returns:
            The ``Features`` of :meth:`forward` and what else was asked for, in float32.

        Raises:
            ValueError: The teacher has no classifier.
        """
        if self.spread is not None and not images.is_meta:
            request = Request(self, logits, hidden_states)
            return self.spread.exchange.run({self.spread.name: request}, images)[self.spread.name]
        return self.encode_here(images, logits, hidden_states)

    @torch.no_grad()
    def encode_here(self, images: Tensor, logits: bool = False, hidden_states: bool = False) -> TeacherOutput:
        """As :meth:`encode`, in this process alone; without values where another process holds the teacher."""
        if logits and self.classifier is None:
            raise ValueError("the teacher has no classifier: set model.teacher.classifier")
        count = self.classifier.layers if logits else 1
        encoded = self._levels(images, count, hidden_states)
        levels, hidden = encoded[:count], tuple(encoded[count:])
        with no_autocast(images.device):
            return TeacherOutput(levels[-1], self.classifier(levels) if logits else None, hidden)

    def _levels(self, images: Tensor, count: int, hidden_states: bool = False) -> list[Features]:
        """The features of the last ``count`` blocks in float32, the last block's last, and then all hidden states."""
        if self.sharded and not self._split and not images.is_meta:
            shard_blocks(self.backbone, images.device)
            self._split = True
        # FSDP2 keeps what it gathers from one pass to the next, and a tensor made in inference mode could not be
        # written again outside of it; nor can a step that is compiled as a whole save one for its backward pass.
        quick = not self.sharded and not torch.compiler.is_compiling()
        # The meta device, on which a config is checked, has nothing to compile for.
        run_backbone = self._run_backbone if images.is_meta else self._compiled_backbone
        with torch.inference_mode() if quick else torch.no_grad(), no_autocast(images.device):
            levels = run_backbone(self._prepared(images), count, hidden_states)
        # Copies made out here: losses save the targets for their backward pass, which inference tensors forbid, and
        # what a CUDA graph returns is overwritten when it is run again.
        with torch.no_grad():
            return [Features(_copied(level.cls), _copied(level.patches), level.grid) for level in levels]

    def _prepared(self, images: Tensor) -> Tensor:
        if not self.same_statistics:
            images = torch.addcmul(self.shift, images, self.scale)
        size = self.input_size(sides_of(images))
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bicubic", antialias=True)
        return images.to(next(self.backbone.parameters()).dtype)

    def _run_backbone(self, images: Tensor, count: int, hidden_states: bool = False) -> list[Features]:
        if hidden_states:
            features, _, hidden = self.backbone.encode_with_hidden_states(images)
            return [*([features] if count == 1 else self.backbone.levels(images, range(-count, 0))), *hidden]
        if self.last_block is not None:
            return [*self.backbone.levels(images, [self.last_block - 1])]
        return [self.backbone(images)] if count == 1 else [*self.backbone.levels(images, range(-count, 0))]


def _copied(tokens: Tensor) -> Tensor:
    return tokens.to(torch.float32, copy=True)


def _best_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if has_bfloat16(device) else torch.float32
