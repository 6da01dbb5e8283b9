"""Export of the trained student."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from proteus.checkpoints import CheckpointError, export_backbone
from proteus.checkpoints.description import check_description
from proteus.config.check_consistency import trained_size
from proteus.engine.hooks.student_ema import delivers_average
from proteus.models import AdaptedBackbone
from proteus.models.backbones import architecture_of, weights_of
from proteus.models.heads.head_file import heads_of, student_digest, write_heads
from proteus.models.zoo.teacher_text import contradiction
from proteus.registry import HOOKS
from proteus.utils.models import unwrap_model

_SIBLINGS = ("_ema", "_plain", "_heads", "_ema_heads", "_plain_heads")


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """When training ends, write the student's backbone to ``student.safetensors`` in the work directory.

    Weights have timm's names, or those of the backbone's toolbox. They are the trained weights, as in the paper; the
    EMA, if there is one (the released code keeps one without using it), is written to ``student_ema.safetensors``. With
    ``StudentEMAHook`` it is the other way round: ``student.safetensors`` has the average, and
    ``student_plain.safetensors`` the trained weights. With several students the files are
    ``student_<name>.safetensors``, ``student_<name>_ema.safetensors`` and ``student_<name>_plain.safetensors``. Those
    of an earlier run in the folder that this run has no weights for are removed.

    Args:
        teacher: Description of the teacher in the file, from which the model card takes it: name, licence, remarks. A
            config inherits that of its base, so the run warns if the text does not name the released models that the
            teachers are, or names another one.
        heads: Also write the heads that map cls token and patches to the teacher's space, to
            ``student_heads.safetensors`` (``student_<name>_heads.safetensors`` and the like):
            ``proteus.load_backbone(..., mapped=True)`` then returns mapped features; of several teachers,
            ``mapped="NAME"`` chooses one.

    Raises:
        UserError: At the start, with ``heads``: the model has no ``DistillHead`` for one of them.
    """

    def __init__(self, teacher: str = "", heads: bool = False) -> None:
        self.teacher = teacher
        self.heads = heads

    def before_train(self, runner: Runner) -> None:
        """Check the heads; warn of another teacher than the model's, and of an architecture that cannot be rebuilt."""
        if self.heads:
            for one in _distillers(unwrap_model(runner.model)).values():
                for distiller in getattr(one, "distillers", {"": one}).values():
                    heads_of(distiller)
        self._check_teacher(runner)
        self._check_descriptions(runner)

    @master_only
    def _check_teacher(self, runner: Runner) -> None:
        fault = contradiction(self.teacher, runner.cfg.get("model") or {})
        if fault:
            runner.logger.warning(f"default_hooks.export.teacher={self.teacher!r}: {fault}")

    @master_only
    def _check_descriptions(self, runner: Runner) -> None:
        for distiller in _distillers(unwrap_model(runner.model)).values():
            reason = _description_error(self._description(distiller, runner))
            if reason:
                runner.logger.warning(f"the exported student will not have a description of its architecture: {reason}")

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the files.

        Raises:
            CheckpointError: Weights are not finite; files of other students are written.
        """
        averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        average_first = delivers_average(runner)
        models = [(runner.model, "plain"), *((average, "ema") for average in averages)]
        plain = _distillers(unwrap_model(runner.model))
        refused = []
        written: set[Path] = set()
        for model, weights in models:
            ending = "" if (weights == "ema") == average_first else f"_{weights}"
            about = {"weights": weights} if averages else {}
            for name, distiller in _distillers(unwrap_model(model)).items():
                if weights == "ema":
                    about["average_of"] = student_digest(weights_of(plain[name].student))
                try:
                    written |= self._export(distiller, runner, f"student{name}{ending}.safetensors", about)
                except CheckpointError as error:
                    refused.append(error)
        _remove_outdated(runner, written)
        if refused:
            raise refused[0]

    def _export(self, model: Any, runner: Runner, name: str, about: Mapping[str, str]) -> set[Path]:
        description = {**self._description(model, runner), **about}
        guest = isinstance(model.student, AdaptedBackbone)
        reader = str(description["architecture"]).partition(".")[0] if guest else "timm"
        if _description_error(description):
            description = {key: value for key, value in description.items() if key not in ("architecture", "arguments")}
        weights = weights_of(model.student)
        path = export_backbone(weights, Path(runner.work_dir) / name, description)
        written = {path}
        if self.heads:
            written.add(write_heads(model, weights, path.with_name(f"{path.stem}_heads.safetensors")))
        runner.logger.info(f"exported the student's backbone for {reader}: {path}")
        return written

    def _description(self, model: Any, runner: Runner) -> dict[str, Any]:
        architecture, arguments = architecture_of(model.student)
        size = None if "img_size" in arguments else trained_size(runner.cfg, model.student)
        return {
            **({} if size is None else {"img_size": size}),
            "architecture": architecture,
            "arguments": arguments,
            "mean": model.data_preprocessor.channel_mean,
            "std": model.data_preprocessor.channel_std,
            "teacher": self.teacher,
            "iterations": runner.iter,
        }


def _remove_outdated(runner: Runner, written: Collection[Path]) -> None:
    """Remove what an earlier run wrote next to a file that has been replaced."""
    for path in written:
        for ending in _SIBLINGS:
            other = path.with_name(f"{path.stem}{ending}.safetensors")
            if other not in written and other.is_file():
                other.unlink()
                runner.logger.info(f"removed {other}, which an earlier run wrote")


def _description_error(description: dict[str, Any]) -> str:
    """Return why a description cannot be read back; empty if it can."""
    try:
        check_description(json.loads(json.dumps(description)), "student.safetensors")
    except (CheckpointError, TypeError) as error:
        return str(error)
    return ""


def _distillers(model: Any) -> dict[str, Any]:
    # A model of one student needs nothing else: a custom model, or one of several teachers.
    distillers = {"": model} if hasattr(model, "student") else model.distillers
    return {f"_{name}" if name else "": distiller for name, distiller in distillers.items()}
