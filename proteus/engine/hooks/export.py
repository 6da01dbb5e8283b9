"""The student, ready for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from proteus.checkpoints import export_backbone
from proteus.models import AdaptedBackbone, Distiller, SeveralStudents
from proteus.registry import HOOKS


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """When training ends, write ``student.safetensors`` to the work directory: the backbone alone, under timm's names
    or, if it is another toolbox's, under its own.

    The weights are those that were trained, as in the paper; where an EMA runs beside them (the released code keeps
    one and uses it for nothing), its student goes to ``student_ema.safetensors``. Of several students each has files of
    its own: ``student_<name>.safetensors`` and ``student_<name>_ema.safetensors``.

    Args:
        teacher: How the teacher is called in the file's description: name, licence, doubts.
    """

    def __init__(self, teacher: str = "") -> None:
        self.teacher = teacher

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the files."""
        averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model, ending in [(runner.model, ""), *((average, "_ema") for average in averages)]:
            for name, distiller in _distillers(_unwrapped(model)).items():
                self._export(distiller, runner, f"student{name}{ending}.safetensors")

    def _export(self, model: Distiller, runner: Runner, name: str) -> None:
        student = model.student
        if isinstance(student, AdaptedBackbone):  # another toolbox's: its own type and names
            arguments, state = dict(student.config), student.guest.state_dict()
            architecture = arguments.pop("type")
            reader = architecture.split(".")[0]
        else:
            arguments, state = dict(student.timm_args), student.timm_state()
            architecture = arguments.pop("model_name")
            reader = "timm"
        description = {
            "architecture": architecture,
            "arguments": arguments,
            "mean": model.data_preprocessor.channel_mean,
            "std": model.data_preprocessor.channel_std,
            "teacher": self.teacher,
            "iterations": runner.iter,
        }
        path = export_backbone(state, Path(runner.work_dir) / name, description)
        runner.logger.info(f"the student's backbone, for {reader}: {path}")


def _distillers(model: Any) -> dict[str, Distiller]:
    if isinstance(model, SeveralStudents):
        return {f"_{name}": distiller for name, distiller in model.distillers.items()}
    return {"": model}


def _unwrapped(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model
