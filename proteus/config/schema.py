"""What may stand where in a config: the kind of part, or the keys of a dict that has no ``type``.

A :class:`Place` is known by the way to it: ``train_dataloader.dataset`` takes a dataset, whatever it is called.
Keys are read from the signatures of what MMEngine calls with them, so that they follow its version.
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
class Place:
    """What a config may hold at one place.

    Attributes:
        kinds: the kinds of typed dicts that are looked for here, in this order.
        strict: a dict here must have a ``type``, of one of ``kinds``.
        schema: gives the label and the keys of a dict without ``type``; None where they are not known.
        plain: ``type`` is an ordinary key here, not a registered name.
        layer: the builder of this dict adds and takes keys of its own, so only its ``type`` is checked.
        inner: the places of keys inside.
        rest: the place of all other keys inside; any kind of part where there is none.
        keep: keys inside stand at the same place again, one deeper.
    """

    kinds: tuple[k.Kind, ...] = k.ALL
    strict: bool = False
    schema: Schema | None = None
    plain: bool = False
    layer: bool = False
    inner: Mapping[str, Place] = field(default_factory=dict)
    rest: Place | None = None
    keep: bool = False

    @property
    def hinted(self) -> tuple[k.Kind, ...]:
        """The kinds whose names are offered when a ``type`` is unknown."""
        return self.kinds if self.strict or self.kinds is k.ALL else self.kinds[:1]

    def into(self, key: str, value: Any) -> Place:
        """Give the place of one key inside this one."""
        if key == "datasets" and isinstance(value, Mapping) and "type" not in value:
            return NAMED_DATASETS
        if key in self.inner:
            return self.inner[key]
        if key == "init_cfg":
            return INITIALIZER
        if key == "vis_backends":
            return VIS_BACKEND
        if key == "on_trace_ready":  # ProfilerHook's own two names
            return PLAIN
        if key.endswith("dataloader") and isinstance(value, Mapping) and "dataset" in value and "type" not in value:
            return DATALOADER
        if _LAYER_KEY.search(key):
            return LAYER
        return self if self.keep else self.rest or PART


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
    if "constructor" in value and "optimizer" not in value:  # several optimizers, under names of their own
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
    # What another model calls its students may be anything.
    shared = "teacher data_preprocessor micro_batches"
    return _call(MODELS.get("Distiller"), shared, label="a student")(value) if "student" in value else None


def _evaluator(value: Mapping[str, Any]) -> tuple[str, Keys] | None:
    return _call(Evaluator)(value) if "metrics" in value else None


PART = Place(keep=True)
PLAIN = Place(plain=True)
TRANSFORM = Place((k.TRANSFORM, *k.ALL), keep=True)
PIPELINE = Place((k.TRANSFORM,), strict=True, rest=TRANSFORM)
DATASET = Place((k.DATASET,), strict=True, inner={"pipeline": PIPELINE, "transforms": TRANSFORM})
# A set of sets holds datasets in turn, in a list or under names, and may leave to them what they get from it.
DATASET = replace(DATASET, inner={**DATASET.inner, "dataset": DATASET, "datasets": DATASET})
NAMED_DATASETS = Place(rest=DATASET)
LAYER = Place((k.MODEL, *k.ALL), layer=True)
INITIALIZER = Place((k.INITIALIZER,), strict=True, inner={"override": Place((k.INITIALIZER,), layer=True)})
VIS_BACKEND = Place((k.VIS_BACKEND,), strict=True)
HOOK = Place(
    (k.HOOK,),
    strict=True,
    inner={"knn": Place(schema=_fixed("online_eval.knn", "data_root classes images_per_class ks"))},
)
MODEL_PART = Place((k.MODEL, *k.ALL), keep=True)
STUDENTS = Place(rest=Place(schema=_student, rest=MODEL_PART))
_LOADER_EXTRA = "num_batch_per_epoch disable_subprocess_warning"
DATALOADER = Place(
    schema=lambda value: (
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
    inner={
        "dataset": DATASET,
        "sampler": Place((k.SAMPLER,), strict=True),
        "batch_sampler": Place((k.BATCH_SAMPLER,), strict=True),
        "collate_fn": Place((k.FUNCTION,), strict=True),
        "worker_init_fn": Place((k.FUNCTION,), strict=True),
    },
)
PARAMWISE = Place(
    schema=_fixed(
        "paramwise_cfg",
        "custom_keys bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult dcn_offset_lr_mult "
        "bypass_duplicate layer_decay_rate num_layers",
    ),
    inner={"custom_keys": Place(rest=Place(schema=_fixed("a custom key", "lr_mult decay_mult")))},
)
_OPTIM = {
    "optimizer": Place((k.OPTIMIZER,), strict=True),
    "clip_grad": Place(schema=_clip_grad, plain=True),
    "paramwise_cfg": PARAMWISE,
}
OPTIM_WRAPPER = Place(
    (k.OPTIM_WRAPPER,), schema=_optim_wrapper, inner=_OPTIM, rest=Place((k.OPTIM_WRAPPER, *k.ALL), inner=_OPTIM)
)
SCHEDULER = Place((k.SCHEDULER,), strict=True)
SCHEDULERS = replace(SCHEDULER, rest=SCHEDULER)  # a list, or one per optimizer under its name
LABELLED_SET = Place((k.LABELLED_SET,), strict=True)
PROTOCOL = Place((k.PROTOCOL,), strict=True, inner={"sets": Place(rest=LABELLED_SET), "pipeline": PIPELINE}, rest=PLAIN)
_METRIC = Place((k.METRIC,), strict=True)
EVALUATOR = Place((k.METRIC, k.EVALUATOR), strict=True, schema=_evaluator, inner={"metrics": _METRIC})
_ENV = {
    "mp_cfg": Place(schema=_call(set_multi_processing, "distributed", label="mp_cfg")),
    "dist_cfg": Place(schema=_dist_cfg),
}

TOP: dict[str, Place] = {
    "model": Place((k.MODEL,), strict=True, inner={"students": STUDENTS}, rest=MODEL_PART),
    "tta_model": Place((k.MODEL,), strict=True, rest=MODEL_PART),
    "data_preprocessor": MODEL_PART,
    "train_dataloader": DATALOADER,
    "val_dataloader": DATALOADER,
    "test_dataloader": DATALOADER,
    "train_cfg": Place((k.LOOP,), schema=_train_cfg),
    "val_cfg": Place((k.LOOP,), schema=_call(ValLoop, "runner dataloader evaluator")),
    "test_cfg": Place((k.LOOP,), schema=_call(TestLoop, "runner dataloader evaluator")),
    "optim_wrapper": OPTIM_WRAPPER,
    "param_scheduler": SCHEDULERS,
    "val_evaluator": EVALUATOR,
    "test_evaluator": EVALUATOR,
    "default_hooks": Place(rest=HOOK),
    "custom_hooks": HOOK,
    "show_hook": Place((k.SHOW_HOOK,), strict=True),
    "visualizer": Place((k.VISUALIZER,), strict=True),
    "vis_backends": VIS_BACKEND,
    "log_processor": Place((k.LOG_PROCESSOR,), schema=_call(LogProcessor)),
    "model_wrapper_cfg": Place((k.WRAPPER,), schema=_call(MMDistributedDataParallel, "module device_ids")),
    "env_cfg": Place(schema=_fixed("env_cfg", "cudnn_benchmark mp_cfg dist_cfg resource_limit"), inner=_ENV),
    "randomness": Place(schema=_call(Runner.set_randomness, "self", label="randomness")),
    "auto_scale_lr": Place(schema=_fixed("auto_scale_lr", "enable base_batch_size")),
    "custom_imports": Place(schema=_call(import_modules_from_strings, label="custom_imports")),
    "tta_pipeline": PIPELINE,
    "protocol": PROTOCOL,
}
# What MMEngine and the toolboxes read of a config beside the parameters of Runner.
_READ_BESIDE = {
    *("sync_bn", "find_unused_parameters", "activation_checkpointing", "efficient_conv_bn_eval", "compile"),
    *("runner_type", "strategy", "tta_cfg"),
}
KNOWN = frozenset(TOP) | frozenset(inspect.signature(Runner.__init__).parameters) - {"self"} | _READ_BESIDE


def top_place(key: str) -> Place:
    """Give the place of a key at the top level of a config."""
    if key in TOP:
        return TOP[key]
    if key.endswith("pipeline"):
        return TRANSFORM
    if _LAYER_KEY.search(key):  # a variable of mmseg's configs, used further down
        return LAYER
    return PLAIN if key in KNOWN else PART
