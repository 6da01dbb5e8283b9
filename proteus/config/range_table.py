"""Allowed values of config keys, where annotations do not limit them: MMEngine's, torch's and ours.

A key is looked up by the ``type`` of its dict (or the label of its slot), then, for our own parts, by the key alone,
then by the kind of part. A value must be in its range and fit its annotation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from proteus.config import registry_lookup as k
from proteus.config.ranges import (
    CHECKPOINT_NAMES,
    COUNT,
    COUNTS,
    DICT,
    DICTS,
    FINITE,
    LIST_OF_DICTS,
    LOCAL,
    LOG_RULES,
    NATURAL,
    NON_NEGATIVE,
    NONE,
    PART,
    POSITIVE,
    SHARE,
    SIZE,
    SWITCH,
    TEXT,
    Range,
    choice,
    compiles,
    file_name,
    integer,
    number,
    several,
)

_SCALE = Range(
    "a list of 2 numbers above 0 and up to 1, the smaller first",
    lambda v: several(number(above=0, most=1), 2).accepts(v) and v[0] <= v[1],
)
_RATIO = Range(
    "a list of 2 positive numbers, the smaller first", lambda v: several(POSITIVE, 2).accepts(v) and v[0] <= v[1]
)
_PAIR = several(COUNT, 2, "positive integers")
_SCALES = _PAIR | several(_PAIR, name="such pairs")
_MASKED = Range(
    "a number above 0 and of at most 1, or a list of 2, the smaller first",
    lambda v: number(above=0, most=1).accepts(v) or (several(SHARE, 2).accepts(v) and v[0] <= v[1] and v[1] > 0),
)
_MEAN, _STD = several(FINITE, name="numbers"), several(POSITIVE, name="positive numbers")
# Of images in [0, 1]: 0.485, not 123.675.
_RGB_MEAN = several(SHARE, 3, "numbers from 0 to 1")
_RGB_STD = several(number(above=0, most=1), 3, "positive numbers up to 1")
_DTYPE = choice("auto", "bfloat16", "float32", "float16")  # the wrapper refuses float16 with its own message
_HALF = choice("float16", "bfloat16")
_INTERVAL = COUNT
_NEVER = choice(-1)
_PRIORITY = integer(0, 100) | choice(
    "HIGHEST", "VERY_HIGH", "HIGH", "ABOVE_NORMAL", "NORMAL", "BELOW_NORMAL", "LOW", "VERY_LOW", "LOWEST"
)
_RULE = choice("greater", "less")
_METHOD = choice("fork", "spawn", "forkserver")
_PATTERN = Range("a regular expression", lambda v: isinstance(v, str) and compiles(v))
_SIDE = Range("a positive integer up to 16384", integer(1, 16384).accepts)  # pixels
_CROP_SIDE = Range(
    f"{_SIDE.expected} (for height and width, write train_dataloader.batch_sampler=dict(type='ResolutionBatchSampler', "
    "stages=[dict(size=(HEIGHT, WIDTH))]))",
    _SIDE.accepts,
)
_FOLDER = Range("the name of a folder", lambda v: isinstance(v, (str, os.PathLike)) and bool(str(v).strip()))
_SEED = integer(0, 2**32 - 1)
_LOOP = {
    "max_iters": COUNT,
    "max_epochs": COUNT,
    "val_interval": COUNT,
    "val_begin": NATURAL,
    "dynamic_intervals": several(Range("", lambda v: several(NATURAL, 2).accepts(v)), name="pairs of integers") | NONE,
}

_WRAPPER = {
    "accumulative_counts": COUNT,
    "optimizer": DICT,
    "paramwise_cfg": DICT | NONE,
    "loss_scale": POSITIVE | choice("dynamic") | DICT,
    "constructor": Range("a registered name", lambda v: isinstance(v, str) or callable(v)),
}

_CHECKPOINTS = {
    "interval": COUNT | _NEVER,
    "max_keep_ckpts": COUNT | _NEVER,
    "save_begin": NATURAL,
    "save_best": TEXT | several(TEXT, name="strings") | NONE,
    "rule": _RULE | several(_RULE, name="these") | NONE,
    "filename_tmpl": CHECKPOINT_NAMES | NONE,
    "backend_args": LOCAL | NONE,
}

# By the type of a dict, or the name of its place.
OF_TYPE: dict[str, dict[str, Range]] = {
    "DataLoader": {
        "batch_size": COUNT,
        "num_workers": integer(0, 512),
        "prefetch_factor": COUNT | NONE,
        "persistent_workers": SWITCH,
        "pin_memory": SWITCH,
        "drop_last": SWITCH,
        "timeout": NON_NEGATIVE,
        "num_batch_per_epoch": COUNT | NONE,
        "dataset": DICT,
        "collate_fn": DICT | Range("a function", callable),
        "shuffle": SWITCH | NONE,
        "multiprocessing_context": _METHOD | NONE,
    },
    "IterBasedTrainLoop": _LOOP,
    "EpochBasedTrainLoop": _LOOP,
    "custom_imports": {"imports": TEXT | several(TEXT, name="strings") | NONE, "allow_failed_imports": SWITCH},
    "randomness": {"seed": _SEED | NONE, "deterministic": SWITCH, "diff_rank_seed": SWITCH},
    "env_cfg": {"mp_cfg": DICT, "dist_cfg": DICT | NONE, "cudnn_benchmark": SWITCH, "resource_limit": COUNT},
    "mp_cfg": {"mp_start_method": _METHOD, "opencv_num_threads": NATURAL},
    "dist_cfg": {
        "timeout": POSITIVE | NONE,
        "backend": choice("nccl", "gloo", "mpi", "hccl", "cncl", "mccl", "smddp"),
    },
    "auto_scale_lr": {"enable": SWITCH, "base_batch_size": COUNT},
    "paramwise_cfg": {
        **dict.fromkeys(
            [
                *("bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult", "dwconv_decay_mult"),
                "dcn_offset_lr_mult",
            ],
            NON_NEGATIVE,
        ),
        "bypass_duplicate": SWITCH,
        "layer_decay_rate": number(above=0, most=1),
        "num_layers": COUNT,
    },
    "a custom key": {"lr_mult": NON_NEGATIVE, "decay_mult": NON_NEGATIVE},
    "clip_grad_norm_": {
        "max_norm": number(above=0, infinite=True),
        "norm_type": number(above=0, infinite=True) | choice("inf"),
        "error_if_nonfinite": SWITCH,
    },
    "clip_grad_value_": {"clip_value": POSITIVE},
    "LogProcessor": {
        "window_size": COUNT,
        "num_digits": integer(1, 17),
        "by_epoch": SWITCH,
        "mean_pattern": _PATTERN | NONE,
        "custom_cfg": LOG_RULES | NONE,
    },
    "online_eval.knn": {
        "classes": integer(2),
        "images_per_class": integer(2),
        "ks": COUNTS,
        "data_root": TEXT | NONE,
    },
    "config": {
        **dict.fromkeys(
            [
                *("model", "data_preprocessor", "optim_wrapper", "default_hooks", "visualizer", "log_processor"),
                *("train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg", "test_cfg"),
                *("auto_scale_lr", "custom_imports", "model_wrapper_cfg", "tta_model", "protocol"),
            ],
            DICT | NONE,
        ),
        "env_cfg": DICT,
        "randomness": DICT,
        "custom_hooks": LIST_OF_DICTS | NONE,
        "param_scheduler": DICTS | NONE,
        "val_evaluator": DICTS | NONE,
        "test_evaluator": DICTS | NONE,
        "compile": SWITCH | DICT,
        "runner_type": choice("Runner"),
        "log_level": choice("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"),
        "resume": SWITCH,
        "load_from": Range("the name of a file", lambda v: isinstance(v, str) and bool(v.strip())) | NONE,
        "work_dir": _FOLDER | NONE,
        "experiment_name": TEXT | NONE,
        "default_scope": TEXT | NONE,
        "sync_bn": choice("torch", "mmcv") | NONE,
        "find_unused_parameters": SWITCH,
    },
    # Models
    "ViT": {
        "patch_size": SIZE,
        "init_values": POSITIVE | choice("auto") | NONE,
        "reg_tokens": NATURAL,
        "interpolate_offset": number(least=0, most=1),
    },
    "DenseViT": {"patch_size": SIZE, "init_values": POSITIVE | choice("auto") | NONE, "reg_tokens": NATURAL},
    "LogitsObjective": {"alpha": SHARE},
    "ShiftDataPreprocessor": {"shift": COUNT, "patch_size": COUNT},
    "MixupDataPreprocessor": {"mixup": NON_NEGATIVE, "cutmix": NON_NEGATIVE, "num_classes": COUNT | NONE},
    "MMPretrainDataPreprocessor": {"mixup": NON_NEGATIVE, "cutmix": NON_NEGATIVE},
    "LinearProbe": {"layers": COUNTS, "learning_rates": several(POSITIVE, name="positive numbers")},
    "LinearClassifier": {"layers": COUNT},
    "SiLogLoss": {"variance_focus": SHARE},
    "SigLoss": {"warm_iter": NATURAL},
    "GradientLoss": {"scales": COUNT},
    "SmoothL1Loss": {"beta": NON_NEGATIVE},
    "BalancedLoss": {"cosine": NON_NEGATIVE, "smooth_l1": NON_NEGATIVE, "beta": NON_NEGATIVE},
    "StandardizedMSELoss": {"momentum": number(above=0, most=1) | NONE, "eps": POSITIVE},
    "RelationKLLoss": {"temperature": POSITIVE, "teacher_temperature": POSITIVE | NONE},
    "HiddenStatesObjective": {"cls_share": SHARE},
    "TokenRelationObjective": {"queue_size": NATURAL},
    # Averages of weights
    "ForeachEMA": {"momentum": number(above=0, below=1), "interval": COUNT, "gamma": POSITIVE | NONE},
    "ExponentialMovingAverage": {"momentum": number(above=0, below=1), "interval": COUNT},
    # Transforms
    "LoadRandomResizedCrop": {"scale": _CROP_SIDE, "crop_ratio_range": _SCALE, "aspect_ratio_range": _RATIO},
    "RandomResizedCrop": {"scale": _CROP_SIDE, "crop_ratio_range": _SCALE, "aspect_ratio_range": _RATIO},
    "RandomCrop": {"crop_size": SIZE},
    "RandomResize": {"scale": _SCALES, "ratio_range": _RATIO | NONE},
    "CenterCrop": {"crop_size": _SIDE},
    "ResizeEdge": {"scale": _SIDE, "edge": choice("short", "long")},
    "ResizeSquare": {"scale": _SIDE},
    "UniformMask": {"ratio": _MASKED, "patch_size": COUNT},
    "BlockMask": {"ratio": _MASKED, "patch_size": COUNT, "aspect": _RATIO},
    "LoadImage": {"short_side": COUNT | NONE},
    "ResizeImage": {"scale": several(COUNT, 2, "positive integers"), "divisor": COUNT},
    "DepthRandomResize": {"scale": several(COUNT, 2, "positive integers"), "ratio_range": _RATIO},
    "DepthPad": {"size": SIZE, "fill": FINITE},
    "DepthRandomCrop": {"size": SIZE},
    "DepthRandomRotate": {"degree": NON_NEGATIVE},
    "CutDepth": {"max_width": SHARE, "max_depth": POSITIVE},
    "ColorAug": {"gamma_range": _RATIO, "brightness_range": _RATIO, "color_range": _RATIO},
    "RandomGamma": {"limits": _RATIO},
    "RandomBrightnessContrast": {"brightness": NON_NEGATIVE, "contrast": NON_NEGATIVE},
    "HueSaturationValue": dict.fromkeys(["hue", "saturation", "value"], NON_NEGATIVE),
    "NYUCrop": {"box": several(NATURAL, 4, "non-negative integers")},
    "CheckLabels": {"ignore_index": integer(0, 255)},
    # Datasets
    "ImageFolder": {"held_out": number(above=0, below=1)},
    "FixedViews": {"views": COUNT, "view_seed": _SEED},
    "SingleImage": {"length": COUNT, "size": COUNT, "crop_seed": _SEED},
    "NYUDepth": {"depth_scale": POSITIVE, "check_maps": NATURAL | NONE},
    "SegmentationSet": {"read_masks": NATURAL},
    "FeatureTable": {"width": COUNT | NONE},
    "distill_collate": {"probability": SHARE},
    "ResolutionBatchSampler": {"stages": LIST_OF_DICTS, "patch_size": COUNT, "interval": COUNT},
    # Hooks
    "CheckpointHook": _CHECKPOINTS,
    "AtomicCheckpointHook": _CHECKPOINTS,
    "StopOnNaNHook": {"keep_mb": NON_NEGATIVE},
    "SaveOnSignalHook": {"patience": NON_NEGATIVE},
    "CorruptImageHook": {"max_share": SHARE, "few": NATURAL},
    "OnlineEvalHook": {"images": integer(2), "patches_per_image": COUNT},
    "SlicedInitHook": {
        "views": COUNT,
        "batch_size": COUNT,
        "pipeline": LIST_OF_DICTS | NONE,
        "teacher": TEXT | NONE,
    },
    "TeacherCacheHook": {"compared": NATURAL},
    "SegmentationVisualizationHook": {"alpha": SHARE},
    "EarlyStoppingHook": {"patience": COUNT, "rule": _RULE | NONE, "min_delta": FINITE},
    "LocalVisBackend": {
        "scalar_save_file": file_name(".json"),
        "config_save_file": file_name(".py"),
    },
    "EMAHook": {"momentum": number(above=0, below=1), "begin_iter": NATURAL, "begin_epoch": NATURAL, "ema_type": TEXT},
    "TeacherDepthHook": {
        "threshold": number(above=0, most=1),
        "max_share": number(above=0, most=1),
        "interval": COUNT,
        "images": integer(least=2),
    },
    "StudentEMAHook": {"horizon": integer(least=2), "gamma": POSITIVE, "begin_iter": NATURAL},
    # Optimizer wrappers
    "OptimWrapper": _WRAPPER,
    "AmpOptimWrapper": {"dtype": _HALF | NONE},
    "AutocastOptimWrapper": {"dtype": _DTYPE},
    # Metrics and protocols
    "TeacherAgreement": {"patches_per_image": COUNT | NONE},
    "DepthMetric": {"silog_lambda": SHARE, "silog_scale": POSITIVE},
    "KNN": {"ks": COUNTS},
    "DenseKNN": {"k": COUNT, "memory_size": COUNT, "seed": _SEED},
    "LinearProbing": {"validations": COUNT, "min_iterations": COUNT},
}
_SEVERITIES = {"severities": several(integer(1, 5), name="integers from 1 to 5")}
OF_TYPE |= dict.fromkeys(["ImageNetC", "GeneratedImageNetC"], _SEVERITIES)
OF_TYPE |= {name: {"adamw_lr_mult": POSITIVE} for name in ("Muon", "NAdaMuon")}

# By the kind of a dict with a type.
OF_KIND: dict[k.Kind, dict[str, Range]] = {
    k.OPTIMIZER: {
        "lr": POSITIVE,
        "weight_decay": NON_NEGATIVE,
        "betas": several(PART, name="numbers of at least 0 and below 1"),
        "eps": NON_NEGATIVE | several(NON_NEGATIVE, name="non-negative numbers") | NONE,
        "momentum": PART,
        "dampening": NON_NEGATIVE,
        "alpha": SHARE,
        **dict.fromkeys(["nesterov", "amsgrad", "maximize", "capturable", "differentiable"], SWITCH),
        **dict.fromkeys(["fused", "foreach"], SWITCH | NONE),
    },
    k.SCHEDULER: {
        "begin": NATURAL,
        "end": COUNT | NONE,
        "T_max": COUNT | NONE,
        "milestones": several(NATURAL, name="non-negative integers", increasing=True),
        "gamma": POSITIVE,
        "factor": POSITIVE,
        "eta_max": POSITIVE,
        "start_factor": number(above=0, most=1),
        "end_factor": SHARE,
        "eta_min": NON_NEGATIVE | NONE,
        "eta_min_ratio": SHARE | NONE,
        "power": POSITIVE,
        "step_size": COUNT,
        "total_steps": COUNT | NONE,
        "pct_start": SHARE,
        "div_factor": POSITIVE,
        "final_div_factor": POSITIVE,
        "last_step": integer(-1),
        "by_epoch": SWITCH,
        "convert_to_iter_based": SWITCH,
        "verbose": SWITCH,
        "epochs": COUNT,
        "iters_per_epoch": COUNT,
        "warmup_epochs": NATURAL,
        "warmup_lr": NON_NEGATIVE,
        "min_lr": NON_NEGATIVE,
        "warmup": NATURAL,
    },
    k.HOOK: {"interval": _INTERVAL, "priority": _PRIORITY},
    k.SAMPLER: {"repeats": COUNT, "seed": _SEED | NONE, "shuffle": SWITCH, "round_up": SWITCH},
    k.OPTIM_WRAPPER: _WRAPPER,
    k.LOOP: {**_LOOP, "fp16": SWITCH},
    k.DATASET: {
        "num_classes": COUNT | NONE,
        "indices": COUNT | several(integer(0), name="non-negative integers") | NONE,
        "test_mode": SWITCH,
        "lazy_init": SWITCH,
        "serialize_data": SWITCH,
        "max_refetch": NATURAL,
    },
    k.TRANSFORM: {"num_classes": COUNT},
    k.PROTOCOL: {
        "pipeline": several(DICT, name="transforms"),
        "temperature": POSITIVE,
        "epochs": COUNT,
        "batch_size": COUNT,
    },
    k.MODEL: {
        **dict.fromkeys(["in_dim", "out_dim", "student_dim", "teacher_dim"], COUNT),
        "num_classes": COUNT | NONE,
        "depth": COUNT | NONE,
        "embed_dim": COUNT | NONE,
        "num_heads": COUNT | several(COUNT, name="positive integers") | NONE,
        "patch_size": SIZE | COUNTS,
        "img_size": SIZE | NONE,
        "micro_batches": COUNT,
        "temperature": POSITIVE,
        "label_smoothing": PART,
        "mean": _MEAN | FINITE | NONE,
        "std": _STD | POSITIVE | NONE,
        "min_depth": POSITIVE,
        "max_depth": POSITIVE | NONE,
        "initial_depth": NON_NEGATIVE,
    },
    k.VISUALIZER: {"vis_backends": Range("a list of dicts", lambda v: isinstance(v, (list, tuple))) | NONE},
    k.METRIC: {
        "min_depth": POSITIVE,
        "max_depth": POSITIVE | NONE,
        "collect_device": choice("cpu", "gpu", "npu"),
        "collect_dir": TEXT | NONE,
        "prefix": TEXT | NONE,
    },
}
# Keys of our own parts; other packages take other types for these names.
_OURS: dict[str, Range] = {
    **dict.fromkeys(["drop_path_rate", "drop_rate", "attn_drop_rate", "dropout_ratio", "proj_drop_rate"], PART),
    "weight": NON_NEGATIVE,
    "data_root": _FOLDER | NONE,
    "erase_prob": SHARE,
    "prob": SHARE,
    "loss_weight": NON_NEGATIVE,
    "eps": POSITIVE,
    "mean": _RGB_MEAN,
    "std": _RGB_STD,
    "input_mean": _RGB_MEAN | NONE,
    "input_std": _RGB_STD | NONE,
}


# Names that other toolboxes use for types with other arguments.
_ALSO_ELSEWHERE = frozenset(
    {
        "RandomResizedCrop",
        "CenterCrop",
        "ResizeEdge",
        "ImageFolder",
        "ColorAug",
        "LinearClassifier",
        "SmoothL1Loss",
        "KNN",
    }
    | {"SingleImage", "NYUDepth", "LinearProbe", "ResizeImage", "SiLogLoss", "GradientLoss"}
)


def rule_for(label: str, kind: k.Kind | None, key: str, ours: bool) -> Range | None:
    """Find the range of a key.

    Args:
        label: Type of the dict without its scope, or the label of its slot.
        kind: Kind of part; None without a type.
        key: The key.
        ours: The type belongs to this package.

    Returns:
        The range; None if the annotation alone decides.
    """
    tables: Sequence[Mapping[str, Range]] = (
        OF_TYPE.get(label, {}) if ours or label not in _ALSO_ELSEWHERE else {},
        _OURS if ours else {},
        OF_KIND.get(kind, {}) if kind is not None else {},
    )
    return next((table[key] for table in tables if key in table), None)
