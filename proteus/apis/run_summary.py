"""The lines that a training run prints before its first and after its last iteration."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import Runner

from proteus.apis.dry_run import build_without_memory, describe_cost
from proteus.config.check_resolution import schedule_of
from proteus.engine.hooks.metrics_log import FILE
from proteus.structures import UserError
from proteus.utils.models import unwrap_model

# Counting FLOPs takes up to two seconds, which shorter runs spend on a schedule of image sizes only.
_COUNTED_FROM = 1000  # iterations


def log_start(runner: Runner) -> None:
    """Log what is trained, on how much, at which cost, and where the log file is."""
    if not is_main_process():
        return
    cfg = runner.cfg
    batch, ranks = cfg.train_dataloader.get("batch_size"), get_world_size()
    length = cfg.train_cfg.get("max_iters")
    schedule = f"{length:,} iterations" if length else f"{cfg.train_cfg.get('max_epochs')} epochs"
    images = f"{batch} images per process, " if batch else ""
    rows = [*_cost(runner), f"  {'schedule':<18}{schedule}, {images}{ranks} process{'es' if ranks > 1 else ''}"]
    rows.append(f"  {'log':<18}{_log_file(runner)} (also environment, config, hooks)")
    rows.append(f"  {'metrics':<18}{Path(runner.work_dir) / FILE}")
    runner.logger.info("\n".join([f"training {cfg.filename or ''}".rstrip(), *rows]))


def log_end(runner: Runner) -> None:
    """Log which files the run has written."""
    if is_main_process():
        folder = Path(runner.work_dir)
        names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        runner.logger.info(f"files in {folder}: {', '.join(names)}")


def _cost(runner: Runner) -> list[str]:
    if (runner.cfg.train_cfg.get("max_iters") or 0) >= _COUNTED_FROM or schedule_of(runner.cfg) is not None:
        try:
            return describe_cost(runner.cfg, build_without_memory(runner.cfg.model))
        # A model of another toolbox may lack what is counted, or a kernel for meta tensors. The run needs no figure.
        except (UserError, RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError) as error:
            runner.logger.debug(f"the FLOPs of this model cannot be counted ({error})")
    parameters = list(unwrap_model(runner.model).parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    return [f"  {'trained':<18}{trained / 1e6:.2f} M parameters"]


def _log_file(runner: Runner) -> Path:
    return Path(runner.log_dir) / f"{runner.timestamp}.log"
