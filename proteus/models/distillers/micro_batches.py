"""One optimizer step from several passes over parts of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor

from proteus.compat import run_forward
from proteus.models.objectives import shares_of_parts


class MicroBatchedModel(BaseModel):
    """A model that runs its batch in parts, one after the other, and then updates the weights once.

    A step needs the memory of one part; gradients, logged losses, schedule, averaged weights and masks are those of the
    whole batch. This differs from MMEngine's ``accumulative_counts``, which loads a batch per iteration and updates in
    some iterations only, so that everything that counts iterations (schedule, average, validation) counts parts. Do not
    combine the two.

    The parts are interleaved (image ``i`` goes to part ``i % n``), so that each has the same number of masked images,
    which are the first of the batch. Random layers of the model (drop path) draw other numbers than for the whole
    batch; batch norm sees one part at a time.

    Args:
        micro_batches: Number of parts; it divides the batch and its masked images.
        **model: As for MMEngine's ``BaseModel``.

    Raises:
        ValueError: ``micro_batches`` is not a whole number above 0.
    """

    def __init__(self, micro_batches: int = 1, **model: Any) -> None:
        if isinstance(micro_batches, bool) or not isinstance(micro_batches, int) or micro_batches < 1:
            raise ValueError(f"model.micro_batches={micro_batches!r}: write a whole number, 1 for the batch as it is")
        super().__init__(**model)
        self.micro_batches = micro_batches

    def train_step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Make one optimizer step of a batch.

        Args:
            data: The collated batch.
            optim_wrapper: MMEngine's, around the optimizer.

        Returns:
            The batch's losses, to be logged.
        """
        if self.micro_batches == 1:
            return super().train_step(data, optim_wrapper)
        return self.train_step_in_parts(self, data, optim_wrapper)

    def train_step_in_parts(self, wrapped: Any, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """The same with the model as other processes share it; they exchange gradients in the last part alone.

        Args:
            wrapped: This model, or its data-parallel wrapper.
            data: As for :meth:`train_step`.
            optim_wrapper: Likewise.

        Returns:
            Likewise.

        Raises:
            ValueError: The batch or its masked images cannot be divided.
        """
        logs: list[dict[str, Tensor]] = []
        with optim_wrapper.optim_context(self):
            parts = self._parts(data)
        for number, part in enumerate(parts, 1):
            with ExitStack() as stack:
                if number < len(parts) and hasattr(wrapped, "no_sync"):
                    stack.enter_context(wrapped.no_sync())
                with optim_wrapper.optim_context(wrapped):
                    losses = run_forward(wrapped, part, mode="loss")
                loss, log = self.parse_losses(losses)
                logs.append({name: value.detach() / len(parts) for name, value in log.items()})
                if number < len(parts):
                    optim_wrapper.backward(loss / len(parts))
                else:
                    optim_wrapper.update_params(loss / len(parts))
        return {name: sum(log[name] for log in logs) for name in logs[0]}  # type: ignore[misc]

    def mask_shares(self, masks: Sequence[Tensor], indices: Sequence[Tensor], images: Tensor) -> Any:
        """``StepFeatures.mask_share`` of each part of a batch, or for each part that of each student by name.

        Args:
            masks: Masks ``(M, N)`` of each part, on the host.
            indices: Indices of their masked patches.
            images: The batch's images.
        """
        return shares_of_parts([len(part) for part in indices])

    def _parts(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        count, masks = self.micro_batches, data.get("masks")
        for name, size in (("images", len(data["inputs"])), ("masked images", 0 if masks is None else len(masks))):
            if size % count:
                raise ValueError(f"model.micro_batches={count} does not divide the {size} {name} of a batch")
        if masks is not None:
            # Before the batch is moved: how many patches a part masks is read here, and would be waited for there.
            indices = [masks[part::count].flatten().nonzero().squeeze(1) for part in range(count)]
            data = {**data, "mask_indices": [i.pin_memory() if masks.is_pinned() else i for i in indices]}
        data = self.data_preprocessor(data, True)
        of_images = {key: value for key, value in data.items() if key != "mask_indices" and value is not None}
        parts = [{key: _every(value, part, count) for key, value in of_images.items()} for part in range(count)]
        if masks is not None:
            if data.get("shift") is None:
                shares = self.mask_shares([masks[part::count] for part in range(count)], indices, data["inputs"])
            else:  # the preprocessor has taken the patches that both views show
                shares = shares_of_parts([len(own) for own in data["mask_indices"]])
            for part, own, share in zip(parts, data["mask_indices"], shares, strict=True):
                part.update(mask_indices=own, mask_share=share)
        for part in parts[:-1]:
            part["last_part"] = False
        return parts


def _every(value: Any, start: int, step: int) -> Any:
    """Every ``step``-th image of a tensor or list, or of each tensor of several teachers."""
    if isinstance(value, dict):
        return {name: each[start::step] for name, each in value.items()}
    return value[start::step]
