"""Send a run to Weights & Biases without a copy of the user's code."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.visualization import WandbVisBackend as MMEngineWandbVisBackend

from proteus.registry import VISBACKENDS


@VISBACKENDS.register_module()
class WandbVisBackend(MMEngineWandbVisBackend):
    """MMEngine's backend, which uploads code only if ``log_code_name`` is given.

    MMEngine's own always uploads every Python file below the current folder: other projects, and the packages of a
    virtual environment. Its arguments are the same.
    """

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Send the config of a run."""
        if self._log_code_name is not None:
            super().add_config(config, **kwargs)
            return
        allow_change = self._init_kwargs.get("allow_val_change", False)
        self.experiment.config.update(config.to_dict(), allow_val_change=allow_change)
