"""Train and test a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.runner import Runner

from proteus.apis.guarded_runner import GuardedRunner
from proteus.apis.loggers import prepare_loggers
from proteus.apis.resources import check_out_folder
from proteus.apis.run_state import add_run_hooks, exclusive_run, exclusive_test, run_training, set_resume
from proteus.apis.run_summary import log_end, log_start
from proteus.checkpoints import locate
from proteus.checkpoints.training import use_safe_checkpoints
from proteus.compat import leave_mps, quiet_pin_memory
from proteus.config.build_errors import as_config_error, check_transforms
from proteus.config.check_consistency import check_batch, check_present, check_sizes, has_fixed_views
from proteus.config.check_dense import batch_norm_for_cpus, check_dense, show_in, use_tta
from proteus.config.check_files import check_files
from proteus.config.check_resolution import check_resolution, schedule_of
from proteus.config.locate import config_names
from proteus.config.overrides import RUNNER_HOOKS
from proteus.config.suggestions import near_file
from proteus.datasets.proxy.seeded_set import seeded_config
from proteus.engine.runner import keep_start_method, prepare_processes
from proteus.evaluation.targets import published_line
from proteus.registry import FUNCTIONS
from proteus.structures import ConfigError


@keep_start_method()
def train(cfg: Config, resume: str | Path | None = None, override: bool = False) -> Runner:
    """Train a config from :func:`proteus.config.load.load_config`.

    Args:
        cfg: The config.
        resume: Checkpoint to resume from, or ``auto`` for the newest complete one in the work directory.
        override: When resuming, take learning rates, weight decay and schedules from the config instead of the
            checkpoint.

    Raises:
        ConfigError: Parts do not fit each other or have wrong arguments, or a file is missing. Raised before training.
        LockedError: Another run trains in the work directory.
        DivergedError: A loss, a gradient norm or a weight became NaN or infinite.
        FullDiskError: A checkpoint or result could not be written.
        StoppedBySignal: SIGTERM, SIGUSR1 or Ctrl-C, after a checkpoint was saved.
        CheckpointError: Weights are unsafe, or made for another model.
        FileNotFoundError: A proxy set is empty.
        CorruptProxySetError: Too many images could not be read.
        DataError: Images and annotations do not fit.
    """
    check_present(cfg, "model", "train_dataloader", "train_cfg", "optim_wrapper")
    check_batch(cfg)
    check_sizes(cfg)
    check_resolution(cfg)
    check_dense(cfg)
    otherwise = None if resume is None else set_resume(cfg, resume)
    check_files(cfg, ("load_from", "model", "train_dataloader", "val_dataloader"))
    prepare_processes(cfg)
    with exclusive_run(cfg):
        runner = build_runner(cfg)
        log_start(runner)
        run_training(runner, otherwise, override)
        log_end(runner)
    return runner


@keep_start_method()
def test(
    cfg: Config,
    checkpoint: str | Path,
    show_dir: str | Path | None = None,  # noqa: PT028 (not a pytest test)
    tta: bool = False,  # noqa: PT028
) -> dict[str, float]:
    """Compute the test metrics of a config for a checkpoint.

    Args:
        cfg: The config.
        checkpoint: A training checkpoint.
        show_dir: Folder for a picture of each image, drawn by ``default_hooks.visualization``.
        tta: Average over the views of the config's ``tta_pipeline``, with its ``tta_model``.

    Returns:
        The metrics by name.

    Raises:
        ConfigError: The checkpoint or another file is missing, or the config lacks what ``show_dir`` or ``tta`` needs.
        UserError: The work directory or ``show_dir`` is not writable.
        LockedError: Another test writes to the work directory or ``show_dir``.
        CheckpointError: The checkpoint does not fit the config's model.
        DataError: Images and annotations do not fit.
    """
    if "://" not in str(checkpoint) and not locate(checkpoint).exists():
        raise ConfigError([f"no such checkpoint: '{checkpoint}'{near_file(locate(checkpoint))}"], "test")
    cfg.load_from, cfg.resume = str(checkpoint), False
    check_present(cfg, "model", "test_dataloader", "test_cfg", "test_evaluator")
    drop_initial_weights(cfg.model)
    check_dense(cfg)
    check_files(cfg, ("load_from", "model", "test_dataloader"))
    if tta:
        use_tta(cfg)
    if show_dir is not None:
        show_in(cfg, show_dir)
    prepare_processes(cfg)
    with exclusive_test(cfg, show_dir):
        runner = build_runner(cfg)
        metrics = runner.test()
        published = published_line(cfg.filename or "")
        if published:
            runner.logger.info(published)
        return metrics


def build_runner(cfg: Config) -> Runner:
    """Build MMEngine's runner for this process, on any number of processes, with or without GPUs.

    The config is prepared in place. Hooks that every run needs are added to ``default_hooks`` and ``custom_hooks``, and
    unset ones of other toolboxes removed. Collate functions get a scope, data sets that are not ours a wrapper that
    seeds them, and SyncBN becomes BN for several processes without GPUs.

    Raises:
        ConfigError: A part has wrong arguments.
    """
    use_safe_checkpoints()
    quiet_pin_memory()
    leave_mps()
    prepare_loggers(cfg)
    prepare_processes(cfg)
    batch_norm_for_cpus(cfg)
    _scope_collate_functions(cfg)
    add_run_hooks(cfg)
    if cfg.get("train_dataloader"):
        cfg.train_dataloader["dataset"] = seeded_config(cfg.train_dataloader, cfg.get("default_scope"))
    _drop_unset_hooks(cfg)
    _add_teacher_cache_hook(cfg)
    _add_standardization_hook(cfg)
    _add_resolution_hook(cfg)
    check_transforms(cfg)
    with as_config_error(cfg):
        return GuardedRunner.from_cfg(cfg)


def use_bfloat16(cfg: Config) -> None:
    """Set a config to autocast to bfloat16, on any device."""
    wrapper = cfg.optim_wrapper
    wrapper.type = "proteus.AutocastOptimWrapper"
    wrapper.dtype = "bfloat16"
    wrapper.pop("loss_scale", None)


def set_work_dir(cfg: Config, work_dir: str | Path | None) -> None:
    """Set the work directory: the argument, else that of the config, else ``work_dirs/<name of the config>``.

    The name is that of the file. Of files with one name that come with Proteus it is the shortest unique one,
    such as ``finetune/vit-s``, so that their checkpoints do not replace each other.

    Raises:
        UserError: The folder is a file, or cannot be written to.
    """
    chosen = work_dir or cfg.get("work_dir") or Path("work_dirs") / _unique_name(Path(cfg.filename))
    cfg.work_dir = str(check_out_folder(chosen))


def _unique_name(path: Path) -> str:
    path = path.resolve()
    return next((name for name, file in config_names().items() if file == path), path.stem)


def drop_initial_weights(model: Any) -> None:
    """Remove the file that a backbone started from out of a model's config, in place.

    A checkpoint of the model contains the backbone, and the file may be gone. It is named by the backbone's
    ``checkpoint``, ``pretrained`` or ``init_cfg``, or by ``pretrained`` of a segmentor, which hands it to the backbone.
    """
    backbone = model.get("backbone") or {}
    for part, key in ((backbone, "checkpoint"), (backbone, "pretrained"), (model, "pretrained")):
        if isinstance(part.get(key), (str, Path)):
            part[key] = None
    init = backbone.get("init_cfg")
    if isinstance(init, Mapping) and init.get("type") == "Pretrained":
        del backbone["init_cfg"]  # backbones of other toolboxes need not take it


def _drop_unset_hooks(cfg: Config) -> None:
    # MMEngine accepts None for its own default hooks only.
    for name in [name for name, hook in (cfg.get("default_hooks") or {}).items() if hook is None]:
        if name not in RUNNER_HOOKS:
            del cfg.default_hooks[name]


def _add_teacher_cache_hook(cfg: Config) -> None:
    # Without this hook, tokens of another teacher or of other views would go unnoticed.
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    if dataset.get("cache") and has_fixed_views(dataset):
        _add_hook(cfg, "TeacherCacheHook")


def _add_standardization_hook(cfg: Config) -> None:
    # Without this hook, objectives would compare with unstandardised tokens.
    model = cfg.get("model") or {}
    parts = [model, *(model.get("teachers") or {}).values(), *(model.get("students") or {}).values()]
    if any(isinstance(part, Mapping) and part.get("standardization") for part in parts):
        _add_hook(cfg, "StandardizationHook")


def _add_resolution_hook(cfg: Config) -> None:
    if schedule_of(cfg) is not None:
        cfg.train_dataloader.batch_sampler["max_iters"] = cfg.train_cfg.get("max_iters")
        _add_hook(cfg, "ResolutionHook")


def _add_hook(cfg: Config, name: str) -> None:
    """Add a hook of ours to ``custom_hooks``, unless the config has it."""
    hooks = [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or [])]
    if name not in {str(hook["type"]).rpartition(".")[2] for hook in hooks if hook is not None}:
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), {"type": f"proteus.{name}"}]


def _scope_collate_functions(cfg: Config) -> None:
    # MMEngine's runner looks functions up at the root registry, where our names need their scope.
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        collate = (cfg.get(loader) or {}).get("collate_fn")
        if collate and FUNCTIONS.get(collate["type"]) is not None and collate["type"] not in ROOT_FUNCTIONS.module_dict:
            collate["type"] = f"proteus.{collate['type'].removeprefix('proteus.')}"
