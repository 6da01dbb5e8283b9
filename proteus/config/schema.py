"""Schema of a config: which kind of part, or which keys, each position takes.

A :class:`Slot` is found by its path: ``train_dataloader.dataset`` takes a data set. Keys come from the signatures of
the functions that MMEngine calls with them, so that they follow the installed version.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from mmengine.dist import init_dist
from mmengine.evaluator import Evaluator
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils import import_modules_from_strings
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from proteus.config import registry_lookup as k
from proteus.config.signatures import Keys, keys_of
from proteus.registry import MODELS

_LAYER_KEY = re.compile(r"(^|_)(norm|act|conv|padding|upsample|dcn|plugin)_cfg$")
Schema = Callable[[Mapping[str, Any]], tuple[str, Keys] | None]


@dataclass(frozen=True)
class Slot:
    """A position in a config, and what it accepts.

    Attributes:
        kinds: Kinds of part to look up a ``type`` in, in this order.
        strict: A dict here needs a ``type`` of one of ``kinds``.
        untyped: Returns the label and the keys of a dict without ``type``; None if they are not known.
        type_is_key: ``type`` is an ordinary key, not a registered name.
        type_only: Check only the ``type``, since the builder of this dict adds and removes keys.
        children: Slots of keys in this dict.
        others: Slot of all other keys; by default any part.
        recursive: The other keys have this slot as well, at any depth.
    """

    kinds: tuple[k.Kind, ...] = k.ALL
    strict: bool = False
    untyped: Schema | None = None
    type_is_key: bool = False
    type_only: bool = False
    children: Mapping[str, Slot] = field(default_factory=dict)
    others: Slot | None = None
    recursive: bool = False

    @property
    def suggested(self) -> tuple[k.Kind, ...]:
        """Kinds to suggest names from if a ``type`` is unknown."""
        return self.kinds if self.strict or self.kinds is k.ALL else self.kinds[:1]

    def child(self, key: str, value: Any) -> Slot:
        """Return the slot of a key in this one."""
        if key == "datasets" and isinstance(value, Mapping) and "type" not in value:
            return NAMED_DATASETS
        if key in self.children:
            return self.children[key]
        if key == "init_cfg":
            return INITIALIZER
        if key == "vis_backends":
            return VIS_BACKEND
        if key == "on_trace_ready":  # a dict of ProfilerHook, with names that are not registered
            return PLAIN
        if key.endswith("dataloader") and isinstance(value, Mapping) and "dataset" in value and "type" not in value:
            return DATALOADER
        if _LAYER_KEY.search(key):
            return LAYER
        return self if self.recursive else self.others or PART


def _fixed(label: str, names: str, required: str = "", is_open: bool = False) -> Schema:
    keys = Keys({name: name in required.split() for name in names.split()}, is_open)
    return lambda _: (label, keys)


def _call(
    target: Callable[..., Any], filled: str = "", extra: str = "", label: str = ""
) -> Callable[[Mapping[str, Any]], tuple[str, Keys]]:
    def schema(_: Mapping[str, Any]) -> tuple[str, Keys]:
        keys = keys_of(target)
        required = {name: needed for name, needed in keys.required.items() if name not in filled.split()}
        required = {**dict.fromkeys(extra.split(), False), **required}
        return label or target.__name__, replace(keys, required=required)

    return schema


def _train_cfg(value: Mapping[str, Any]) -> tuple[str, Keys]:
    loop = EpochBasedTrainLoop if value.get("by_epoch", "max_iters" not in value) else IterBasedTrainLoop
    label, keys = _call(loop, "runner dataloader")(value)
    return label, replace(keys, required={"by_epoch": True, **keys.required})


def _optim_wrapper(value: Mapping[str, Any]) -> tuple[str, Keys]:
    if "constructor" in value and "optimizer" not in value:  # several optimizers by name
        return "optim_wrapper", Keys(open=True)
    return _call(OptimWrapper, extra="type constructor paramwise_cfg")(value)


def _clip_grad(value: Mapping[str, Any]) -> tuple[str, Keys]:
    by_value = value.get("type") == "value"
    function = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
    return _call(function, "parameters", "type")(value)


def _dist_cfg(value: Mapping[str, Any]) -> tuple[str, Keys]:
    _, ours = _call(init_dist, "launcher")(value)
    _, torchs = _call(torch.distributed.init_process_group, "backend rank world_size")(value)
    return "dist_cfg", Keys({**torchs.required, **ours.required, "device_ids": False})


def _student(value: Mapping[str, Any]) -> tuple[str, Keys] | None:
    # A dict without "student" belongs to another model.
    shared = "teacher data_preprocessor micro_batches key"
    return _call(MODELS.get("Distiller"), shared, label="a student")(value) if "student" in value else None


def _teacher(value: Mapping[str, Any]) -> tuple[str, Keys] | None:
    # A dict without these belongs to another model.
    if not {"teacher", "objectives"} & set(value):
        return None
    keys: tuple[str, ...] = MODELS.get("MultiTeacherDistiller").teacher_keys
    return "one of several teachers", Keys({key: key in ("teacher", "objectives") for key in keys})


def _evaluator(value: Mapping[str, Any]) -> tuple[str, Keys] | None:
    return _call(Evaluator)(value) if "metrics" in value else None


PART = Slot(recursive=True)
PLAIN = Slot(type_is_key=True)
TRANSFORM = Slot((k.TRANSFORM, *k.ALL), recursive=True)
PIPELINE = Slot((k.TRANSFORM,), strict=True, others=TRANSFORM)
DATASET = Slot((k.DATASET,), strict=True, children={"pipeline": PIPELINE, "transforms": TRANSFORM})
# Data sets may hold others: one, a list, or several by name.
DATASET = replace(DATASET, children={**DATASET.children, "dataset": DATASET, "datasets": DATASET})
NAMED_DATASETS = Slot(others=DATASET)
LAYER = Slot((k.MODEL, *k.ALL), type_only=True)
INITIALIZER = Slot((k.INITIALIZER,), strict=True, children={"override": Slot((k.INITIALIZER,), type_only=True)})
VIS_BACKEND = Slot((k.VIS_BACKEND,), strict=True)
HOOK = Slot(
    (k.HOOK,),
    strict=True,
    children={"knn": Slot(untyped=_fixed("online_eval.knn", "data_root classes images_per_class ks"))},
)
MODEL_PART = Slot((k.MODEL, *k.ALL), recursive=True)
TEACHERS = Slot(others=Slot(untyped=_teacher, others=MODEL_PART))
STUDENTS = Slot(others=Slot(untyped=_student, others=MODEL_PART))
_LOADER_EXTRA = "num_batch_per_epoch disable_subprocess_warning"
DATALOADER = Slot(
    untyped=lambda value: (
        "DataLoader",
        Keys(
            {
                **keys_of(DataLoader).required,
                **dict.fromkeys(_LOADER_EXTRA.split(), False),
                "dataset": True,
                "sampler": True,
            }
        ),
    ),
    children={
        "dataset": DATASET,
        "sampler": Slot((k.SAMPLER,), strict=True),
        "batch_sampler": Slot((k.BATCH_SAMPLER,), strict=True),
        "collate_fn": Slot((k.FUNCTION,), strict=True),
        "worker_init_fn": Slot((k.FUNCTION,), strict=True),
    },
)
PARAMWISE = Slot(
    untyped=_fixed(
        "paramwise_cfg",
        "custom_keys bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult dcn_offset_lr_mult "
        "bypass_duplicate layer_decay_rate num_layers",
    ),
    children={"custom_keys": Slot(others=Slot(untyped=_fixed("a custom key", "lr_mult decay_mult")))},
)
_OPTIM = {
    "optimizer": Slot((k.OPTIMIZER,), strict=True),
    "clip_grad": Slot(untyped=_clip_grad, type_is_key=True),
    "paramwise_cfg": PARAMWISE,
}
OPTIM_WRAPPER = Slot(
    (k.OPTIM_WRAPPER,), untyped=_optim_wrapper, children=_OPTIM, others=Slot((k.OPTIM_WRAPPER, *k.ALL), children=_OPTIM)
)
SCHEDULER = Slot((k.SCHEDULER,), strict=True)
SCHEDULERS = replace(SCHEDULER, others=SCHEDULER)  # a list, or one per optimizer by name
LABELLED_SET = Slot((k.LABELLED_SET,), strict=True)
PROTOCOL = Slot(
    (k.PROTOCOL,), strict=True, children={"sets": Slot(others=LABELLED_SET), "pipeline": PIPELINE}, others=PLAIN
)
_METRIC = Slot((k.METRIC,), strict=True)
EVALUATOR = Slot((k.METRIC, k.EVALUATOR), strict=True, untyped=_evaluator, children={"metrics": _METRIC})
_ENV = {
    "mp_cfg": Slot(untyped=_call(set_multi_processing, "distributed", label="mp_cfg")),
    "dist_cfg": Slot(untyped=_dist_cfg),
}

TOP: dict[str, Slot] = {
    "model": Slot((k.MODEL,), strict=True, children={"students": STUDENTS, "teachers": TEACHERS}, others=MODEL_PART),
    "tta_model": Slot((k.MODEL,), strict=True, others=MODEL_PART),
    "data_preprocessor": MODEL_PART,
    "train_dataloader": DATALOADER,
    "val_dataloader": DATALOADER,
    "test_dataloader": DATALOADER,
    "train_cfg": Slot((k.LOOP,), untyped=_train_cfg),
    "val_cfg": Slot((k.LOOP,), untyped=_call(ValLoop, "runner dataloader evaluator")),
    "test_cfg": Slot((k.LOOP,), untyped=_call(TestLoop, "runner dataloader evaluator")),
    "optim_wrapper": OPTIM_WRAPPER,
    "param_scheduler": SCHEDULERS,
    "val_evaluator": EVALUATOR,
    "test_evaluator": EVALUATOR,
    "default_hooks": Slot(others=HOOK),
    "custom_hooks": HOOK,
    "visualizer": Slot((k.VISUALIZER,), strict=True),
    "vis_backends": VIS_BACKEND,
    "log_processor": Slot((k.LOG_PROCESSOR,), untyped=_call(LogProcessor)),
    "model_wrapper_cfg": Slot((k.WRAPPER,), untyped=_call(MMDistributedDataParallel, "module device_ids")),
    "env_cfg": Slot(untyped=_fixed("env_cfg", "cudnn_benchmark mp_cfg dist_cfg resource_limit"), children=_ENV),
    "randomness": Slot(untyped=_call(Runner.set_randomness, "self", label="randomness")),
    "auto_scale_lr": Slot(untyped=_fixed("auto_scale_lr", "enable base_batch_size")),
    "custom_imports": Slot(untyped=_call(import_modules_from_strings, label="custom_imports")),
    "tta_pipeline": PIPELINE,
    "protocol": PROTOCOL,
}
# Keys that MMEngine and the toolboxes read in addition to the parameters of Runner.
_READ_BY_TOOLBOXES = {
    *("sync_bn", "find_unused_parameters", "activation_checkpointing", "efficient_conv_bn_eval", "compile"),
    *("runner_type", "strategy", "tta_cfg"),
}
KNOWN = frozenset(TOP) | frozenset(inspect.signature(Runner.__init__).parameters) - {"self"} | _READ_BY_TOOLBOXES


def top_slot(key: str) -> Slot:
    """Return the slot of a key at the top level of a config."""
    if key in TOP:
        return TOP[key]
    if key.endswith("pipeline"):
        return TRANSFORM
    if _LAYER_KEY.search(key):  # a variable in mmseg's configs
        return LAYER
    return PLAIN if key in KNOWN else PART
