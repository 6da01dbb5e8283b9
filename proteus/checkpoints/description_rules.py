"""Arguments of an architecture that a weight file may set, and their allowed values.

Anything else is refused: names of classes, files, addresses, or settings of another part (``type``,
``checkpoint_path``, ``pretrained``, ``pretrained_cfg``, ``init_cfg``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from proteus.checkpoints.errors import CheckpointError, shown

LARGEST_SIDE = 4096
"""Largest side in pixels of the images of a model."""


class Rule(NamedTuple):
    """A set of allowed values.

    Attributes:
        expected: Description for messages.
        allows: Whether a JSON value is allowed.
    """

    expected: str
    allows: Callable[[Any], bool]


def _integer(low: int, high: int) -> Rule:
    return Rule(f"an integer from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def _number(low: float, high: float) -> Rule:
    def allows(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high and math.isfinite(value)

    return Rule(f"a number from {low:g} to {high:g}", allows)


def _choice(*names: str) -> Rule:
    return Rule(f"one of {', '.join(map(repr, names))}", lambda value: isinstance(value, str) and value in names)


def _several(rule: Rule, longest: int = 64) -> Rule:
    def allows(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and 0 < len(value) <= longest and all(map(rule.allows, value))

    return Rule(f"1 to {longest} of: {rule.expected}", allows)


def _either(*rules: Rule) -> Rule:
    expected = ", or ".join(rule.expected for rule in rules)
    return Rule(expected, lambda value: any(rule.allows(value) for rule in rules))


def _table(rules: Mapping[str, Rule]) -> Rule:
    def allows(value: Any) -> bool:
        return isinstance(value, dict) and all(key in rules and rules[key].allows(item) for key, item in value.items())

    return Rule(f"an object with {', '.join(sorted(rules))}", allows)


_NONE = Rule("null", lambda value: value is None)
_FLAG = Rule("true or false", lambda value: isinstance(value, bool))
_SWITCH = _either(_FLAG, _NONE)
_RATE = _number(0, 0.999)
_COUNT = _integer(1, 256)
_COUNTS = _either(_COUNT, _several(_COUNT))
_WIDTH = _integer(1, 16384)
_WIDTHS = _either(_WIDTH, _several(_WIDTH))
_SIDE = _integer(1, LARGEST_SIDE)
_SIDES = _either(_SIDE, _several(_SIDE, 2))
_KERNELS = _either(_integer(0, 64), _several(_integer(0, 64)))
_RATIOS = _either(_number(0.01, 64), _several(_number(0.01, 64)))
_SCALE = _either(_NONE, _number(0, 100))
_INDEX = _integer(-64, 256)
_SWITCHES = _either(_SWITCH, _several(_SWITCH))

# Layers of OpenMMLab's registries that only compute with numbers.
_NORMS = _choice("BN", "BN1d", "BN2d", "SyncBN", "GN", "LN", "LN2d", "RMS", "GRN")
_ACTIVATIONS = _choice("ReLU", "LeakyReLU", "ReLU6", "GELU", "QuickGELU", "SiLU", "Swish", "HSwish", "HSigmoid", "Tanh")
_SETTINGS = {"requires_grad": _FLAG, "inplace": _FLAG, "eps": _number(0, 1), "momentum": _number(0, 1)}
_SETTINGS |= {"num_groups": _WIDTH, "affine": _FLAG, "negative_slope": _number(0, 1)}
_NORM_CONFIG = _table({"type": _NORMS, **_SETTINGS})
_ACTIVATION_CONFIG = _table({"type": _ACTIVATIONS, **_SETTINGS})
_CONVOLUTION_CONFIG = _either(_NONE, _table({"type": _choice("Conv1d", "Conv2d", "Conv3d", "Conv")}))

_BY_RULE: dict[Rule, str] = {
    _SIDES: "img_size",
    _KERNELS: "patch_size kernel_size kernel_sizes window_size stem_stride",
    _integer(3, 3): "in_chans in_channels",
    _COUNTS: "depth depths num_layers layers num_stages strides dilations sr_ratios num_blocks downsample_ratios",
    _either(_COUNT, _several(_COUNT), _NONE): "num_heads heads groups num_fcs",
    _WIDTHS: "embed_dim embed_dims dims channels base_channels stem_channels stem_width base_width width_per_group "
    "feedforward_channels hidden_dim hidden_dims head_dim num_features out_channels cardinality base_dims",
    _integer(0, 256): "reg_tokens num_extra_tokens",
    _SCALE: "init_values layer_scale_init_value ls_init_value",
    _RATE: "drop_rate drop_path_rate proj_drop_rate attn_drop_rate pos_drop_rate patch_drop_rate head_drop_rate",
    _RATIOS: "mlp_ratio mlp_ratios expand_ratio expansion reduction width_factor depth_factor widen_factor "
    "deepen_factor channel_multiplier depth_multiplier se_ratio rd_ratio",
    _SWITCHES: "no_embed_class class_token qkv_bias qk_norm pre_norm final_norm fc_norm dynamic_img_size "
    "dynamic_img_pad strict_img_size norm_eval with_cls_token output_cls_token patch_norm patch_bias deep_stem "
    "avg_down zero_init_residual with_cp with_se use_abs_pos_embed use_rel_pos_bias use_shared_rel_pos_bias "
    "use_rope use_rot_pos_emb conv_bias proj_bias attn_bias scale_norm use_grn linear_pw_conv gap_before_final_norm "
    "scale_attn_norm scale_mlp_norm use_abs_pos grad_checkpointing ceil_mode bn_tf bias qv_bias pad_small_map "
    "out_origin frozen always_partition",
    _choice("", "avg", "max", "avgmax", "catavgmax", "fast", "token", "map"): "global_pool",
    _choice("gelu", "gelu_tanh", "quick_gelu", "relu", "relu6", "leaky_relu", "silu", "swish", "hard_swish", "mish"): (
        "act_layer"
    ),
    _choice("layernorm", "layernorm2d", "batchnorm", "batchnorm2d", "groupnorm", "rmsnorm", "rmsnorm2d"): (
        "norm_layer"
    ),
    _integer(1, 64): "output_stride",
    _number(0, 1): "bn_eps bn_momentum norm_eps head_init_scale",
    _either(_INDEX, _several(_INDEX)): "out_indices frozen_stages",
    _choice("raw", "cls_token", "featmap", "avg_featmap"): "out_type",
    _choice("pytorch", "caffe"): "style",
    _choice("bicubic", "bilinear", "nearest"): "interpolate_mode",
    _choice("corner", "same"): "patch_pad",
    _NORM_CONFIG: "norm_cfg",
    _ACTIVATION_CONFIG: "act_cfg",
    _CONVOLUTION_CONFIG: "conv_cfg",
}
_RULES = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}
_LAYER = _table(
    {key: _RULES[key] for key in ("act_cfg", "norm_cfg", "qkv_bias")}
    | {"ffn_type": _choice("origin", "swiglu_fused", "swiglu")}
)
_SIZES = _table(
    {
        key: _either(_RULES[key], _several(_RULES[key]))
        for key in (
            "embed_dims",
            "num_layers",
            "num_heads",
            "feedforward_channels",
            "depths",
            "channels",
            "dims",
            "layers",
            "mlp_ratios",
            "window_size",
            "expand_ratio",
            "patch_size",
            "num_blocks",
            "strides",
        )
    }
)
# A variant that the class itself knows, such as 'b0' or 'deit-small': never a path, never an address.
_VARIANT = Rule(
    "the name of a variant", lambda value: isinstance(value, str) and bool(re.fullmatch(r"\w[\w.-]{0,63}", value, re.A))
)
_RULES |= {"layer_cfgs": _either(_LAYER, _several(_LAYER)), "arch": _either(_VARIANT, _SIZES)}


def check_arguments(arguments: Any, where: str) -> dict[str, Any]:
    """Check the arguments that a weight file sets for its architecture.

    Args:
        arguments: The parsed JSON.
        where: File and field, for messages.

    Returns:
        The arguments, with tuples in place of lists.

    Raises:
        CheckpointError: ``arguments`` is not an object, or an argument is unknown or has a value of another type or
            range.
    """
    if not isinstance(arguments, dict):
        raise CheckpointError(f"{where}: arguments is {shown(arguments)}; expected an object")
    for key, value in arguments.items():
        rule = _RULES.get(key)
        if rule is None:
            raise CheckpointError(
                f"{where}: arguments has {shown(key)}, which a weight file may not set; write it in a config instead"
            )
        if not rule.allows(value):
            raise CheckpointError(f"{where}: arguments.{key} is {shown(value)}; expected {rule.expected}")
    return {key: _with_tuples(value) for key, value in arguments.items()}


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value
