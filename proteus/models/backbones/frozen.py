"""Frozen backbones under a dense head."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

_Module = TypeVar("_Module", bound="Freezable")


class Freezable(nn.Module):
    """A module that can be frozen: no parameter is trained, and no statistics of batch norm or drop path move."""

    frozen = False

    def freeze(self) -> None:
        """Freeze every parameter, and stay in eval mode whatever the model around does."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self: _Module, mode: bool = True) -> _Module:
        """Switch to training or eval mode; a frozen module is always in eval mode."""
        return super().train(mode and not self.frozen)
