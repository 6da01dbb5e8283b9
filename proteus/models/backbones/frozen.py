"""Frozen backbones under a dense head."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

_Module = TypeVar("_Module", bound="Freezable")


class Freezable(nn.Module):
    """A module that can be frozen: no parameter is trained, and no statistics of batch norm or drop path move."""

    frozen = False
    _asked_to_train = True

    @property
    def in_training(self) -> bool:
        """Whether the model around is in training mode, in which a frozen module stays in eval mode."""
        return self._asked_to_train if self.frozen else self.training

    def freeze(self) -> None:
        """Freeze every parameter, and stay in eval mode whatever the model around does."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self: _Module, mode: bool = True) -> _Module:
        """Switch to training or eval mode; a frozen module is always in eval mode."""
        self._asked_to_train = mode
        return super().train(mode and not self.frozen)
