"""DINOv2's linear probe: a grid of linear classifiers on one frozen backbone (docs/reproduction.md#linear-probe)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.backbones import build_backbone
from proteus.models.classifiers.heads import Head, HeadBank
from proteus.registry import MODELS
from proteus.structures import DataError, Features
from proteus.utils.argument_checks import check_number, check_whole
from proteus.utils.precision import has_bfloat16, no_autocast

LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
"""For a batch of 256, as DINOv2 has them."""
_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@MODELS.register_module()
class LinearProbe(BaseModel):
    """Linear classifiers on the tokens of a frozen backbone, trained all at once; the best one is the classifier.

    There is one head for each combination of ``layers``, ``avgpool`` and ``learning_rates``, in this order; one pass
    of the backbone feeds all. A head reads the cls tokens of the last ``layers`` blocks, each after the final norm,
    the first block first, and then, with ``avgpool``, the mean of the last block's patch tokens. The backbone stays in
    evaluation mode and without gradients. Heads are trained with the summed cross-entropy, so that each learns
    independently; the optimizer's ``ProbeConstructor`` gives each its learning rate.

    Instead of images the probe takes the tokens that :meth:`tokens` would make of them (``FeatureTable``).

    Args:
        backbone: Config of the backbone.
        num_classes: Number of classes.
        layers: Numbers of last blocks to read; (1,) for a backbone that has no blocks to read, as a CNN.
        avgpool: Whether to read the mean patch token: without it, with it, or both in turn.
        learning_rates: The heads' learning rates for a batch of 256.
        dtype: Precision of the backbone: ``bfloat16``, ``float16``, ``float32``, or ``auto``: bfloat16 on GPUs that
            have it (docs/reproduction.md#linear-probe: float16). Heads are float32 always.
        data_preprocessor: Config of the data preprocessor; ImageNet's mean and standard deviation by default.

    Attributes:
        heads_of_grid: Description of each head, in the order of all outputs.
        best_head: The head of the highest accuracy at the last validation, as an int64 scalar; -1 before any.
        token_count: Length ``L`` of what :meth:`tokens` gives.

    Raises:
        ValueError: The backbone has fewer blocks than ``layers`` reads, or an argument is invalid.
        CheckpointError: The backbone's weights cannot be read, or are another model's.
    """

    best_head: Tensor
    backbone: Any

    def __init__(
        self,
        backbone: Mapping[str, Any],
        num_classes: int = 1000,
        layers: Sequence[int] = (1, 4),
        avgpool: Sequence[bool] = (False, True),
        learning_rates: Sequence[float] = LEARNING_RATES,
        dtype: str = "auto",
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        # Built here: MMEngine would look the name up in its own registry where no default scope is set.
        super().__init__(data_preprocessor=MODELS.build(dict(data_preprocessor or {"type": "ProbeDataPreprocessor"})))
        _check_grid(num_classes, layers, avgpool, learning_rates, dtype)
        self.num_classes = num_classes
        self.layers, self.avgpool = tuple(layers), tuple(avgpool)
        self.learning_rates = tuple(learning_rates)
        self.dtype = dtype
        with prefix_checkpoint_errors("model.backbone.checkpoint"):
            self.backbone = build_backbone(backbone).requires_grad_(False).eval()
        self._check_blocks()
        self.token_count = max(self.layers) + any(self.avgpool)
        self.heads_of_grid = tuple(
            Head(blocks, pooled, rate) for blocks in self.layers for pooled in self.avgpool for rate in learning_rates
        )
        count = len(self.learning_rates)
        self.inputs = [self.heads_of_grid[first] for first in range(0, len(self.heads_of_grid), count)]
        self.heads = nn.ModuleDict(
            {
                head.input_name: HeadBank((head.layers + head.avgpool) * self.backbone.embed_dim, num_classes, count)
                for head in self.inputs
            }
        )
        self.register_buffer("best_head", torch.tensor(-1))

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def train(self, mode: bool = True) -> LinearProbe:
        """As for any module, but the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self,
        inputs: Tensor | None = None,
        tokens: Tensor | None = None,
        labels: Tensor | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: ``(B, 3, H, W)``, normalised images.
            tokens: ``(B, L, D)`` in place of images; see :meth:`tokens`.
            labels: ``(B,)`` int64.
            data_samples: For each image, its path and label as metainfo.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: see :meth:`losses`. ``predict``: see :meth:`predict`. ``tensor``: the best head's logits
            ``(B, C)``, or the first head's before any validation.

        Raises:
            DataError: The labels are missing, one is out of range, or ``tokens`` are of another shape.
        """
        tokens = self.tokens(inputs) if tokens is None else self._checked(tokens)
        if mode == "loss":
            return self.losses(tokens, labels, data_samples or ())
        if mode == "predict":
            return self.predict(tokens, data_samples or [BaseDataElement() for _ in tokens])
        bank, index = divmod(max(int(self.best_head), 0), len(self.learning_rates))
        with no_autocast(tokens.device.type):
            return self._bank(bank).one(self._input(tokens, self.inputs[bank]), index)

    def tokens(self, images: Tensor | None) -> Tensor:
        """What the heads read, for images ``(B, 3, H, W)``.

        Returns:
            ``(B, L, D)`` in float32, without gradient: the cls tokens of the last ``max(layers)`` blocks, first block
            first, and where any head reads it the mean patch token of the last block.
        """
        assert images is not None, "a batch has neither images nor tokens"
        with torch.no_grad(), self._precision(images.device.type):
            levels = self._levels(images)
            tokens = [level.cls for level in levels]
            if any(self.avgpool):
                # In float32: the sum of hundreds of tokens.
                tokens.append(levels[-1].patches.float().mean(1))
            return torch.stack([token.float() for token in tokens], dim=1)

    def losses(
        self, tokens: Tensor, labels: Tensor | None, data_samples: Sequence[BaseDataElement] = ()
    ) -> dict[str, Tensor]:
        """Return the heads' cross-entropies: summed as ``loss_heads``, and for the log their least and their mean.

        Args:
            tokens: ``(B, L, D)``.
            labels: ``(B,)`` int64.
            data_samples: With the labels as numbers, which are checked without waiting for the device.

        Raises:
            DataError: The labels are missing, or one is out of range.
        """
        if labels is None:
            raise DataError(
                "the batch has no labels: use a data set that has them, such as type='LabelledFolder', with "
                "collate_fn=dict(type='distill_collate')"
            )
        self._check_labels(data_samples)
        with no_autocast(tokens.device.type):
            logits = self._logits(tokens)
            count = logits.shape[1]
            each = F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(count), reduction="none")
            heads = each.unflatten(0, (-1, count)).mean(0)
        detached = heads.detach()
        return {
            "loss_heads": heads.sum(),
            "cross_entropy_min": detached.min(),
            "cross_entropy_mean": detached.mean(),
        }

    def predict(self, tokens: Tensor, data_samples: Sequence[BaseDataElement]) -> list[dict[str, Any]]:
        """Classify image by image.

        Returns:
            For each image its metainfo with ``head_labels`` ``(H,)`` int64, the class predicted by each head, or -1 if
            its scores are not finite; ``logits`` ``(C,)`` of the best head, or of the first before any validation; and
            ``heads``, the description of each head.
        """
        self._check_labels(data_samples)
        with no_autocast(tokens.device.type):
            logits = self._logits(tokens)
        labels = logits.argmax(-1).masked_fill(~logits.isfinite().all(-1), -1)
        best = logits.index_select(1, self.best_head.clamp_min(0)[None]).squeeze(1)
        return [
            {**data_sample.metainfo, "head_labels": labels[row], "logits": best[row], "heads": self.heads_of_grid}
            for row, data_sample in enumerate(data_samples)
        ]

    def parameters_by_rate(self) -> dict[float, list[nn.Parameter]]:
        """The heads' parameters, by their learning rate for a batch of 256."""
        banks = [self._bank(position) for position in range(len(self.inputs))]
        return {
            rate: [parameter for bank in banks for parameter in (bank.weights[index], bank.biases[index])]
            for index, rate in enumerate(self.learning_rates)
        }

    def _logits(self, tokens: Tensor) -> Tensor:
        banks = [self._bank(index)(self._input(tokens, head)) for index, head in enumerate(self.inputs)]
        return torch.cat(banks, dim=1)

    def _bank(self, index: int) -> HeadBank:
        bank = self.heads[self.inputs[index].input_name]
        assert isinstance(bank, HeadBank)
        return bank

    def _input(self, tokens: Tensor, head: Head) -> Tensor:
        most = max(self.layers)
        return tokens[:, most - head.layers : most + head.avgpool].flatten(1)

    def _levels(self, images: Tensor) -> tuple[Features, ...]:
        most = max(self.layers)
        return self.backbone.levels(images, range(-most, 0)) if self._has_levels else (self.backbone(images),)

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        if self.dtype == "auto":
            return torch.autocast(device, torch.bfloat16) if has_bfloat16(device) else nullcontext()
        if self.dtype == "float32":
            return no_autocast(device)
        return torch.autocast(device, _PRECISIONS[self.dtype])

    def _checked(self, tokens: Tensor) -> Tensor:
        expected = (self.token_count, self.backbone.embed_dim)
        if tuple(tokens.shape[1:]) != expected:
            raise DataError(
                f"the data set's features have {tuple(tokens.shape[1:])} tokens x width, but model.backbone, layers="
                f"{self.layers} and avgpool={self.avgpool} make {expected}: extract them with this backbone, or set "
                "model.backbone, layers and avgpool to what they were extracted with"
            )
        return tokens.float()

    def _check_labels(self, data_samples: Iterable[BaseDataElement]) -> None:
        for data_sample in data_samples:
            meta = data_sample.metainfo
            if not 0 <= meta.get("label", 0) < self.num_classes:
                raise DataError(
                    f"{meta.get('img_path') or meta} has label {meta['label']}, but model.num_classes="
                    f"{self.num_classes} (labels count from 0): set it to the data set's number of classes"
                )

    def _check_blocks(self) -> None:
        most = max(self.layers)
        self._has_levels = hasattr(self.backbone, "levels")
        if most > 1 and not self._has_levels:
            raise ValueError(
                f"model.layers={self.layers} reads the cls tokens of the last {most} blocks, and model.backbone "
                f"({type(self.backbone).__name__}) gives its last features only: write model.layers=(1,)"
            )
        depth = getattr(self.backbone, "depth", None)
        if depth is not None and most > depth:
            raise ValueError(f"model.layers={self.layers}: model.backbone has {depth} blocks; write at most {depth}")


def _check_grid(
    num_classes: int, layers: Sequence[int], avgpool: Sequence[bool], learning_rates: Sequence[float], dtype: str
) -> None:
    check_whole("model.num_classes", num_classes)
    for key, values in (("layers", layers), ("avgpool", avgpool), ("learning_rates", learning_rates)):
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise ValueError(f"model.{key}={values!r}: write a list")
        if not values or len(set(values)) < len(values):
            raise ValueError(f"model.{key}={tuple(values)}: write at least one, and each once")
    for count in layers:
        check_whole(f"model.layers={tuple(layers)}: numbers of last blocks; one", count)
    for rate in learning_rates:
        check_number(f"model.learning_rates={tuple(learning_rates)}: write positive numbers; one", rate, 0, above=True)
    if dtype not in ("auto", "float32", *_PRECISIONS):
        raise ValueError(f"model.dtype={dtype!r}: write 'auto', 'bfloat16', 'float16' or 'float32'")
