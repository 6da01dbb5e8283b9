from typing import Any

import pytest

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.description_rules import check_arguments


def test_lists_become_tuples() -> None:
    arguments = {"img_size": [224, 448], "depth": 12, "arch": {"embed_dims": 384, "num_layers": [2, 2]}}
    checked = check_arguments(arguments, "a.safetensors")
    assert checked == {"img_size": (224, 448), "depth": 12, "arch": {"embed_dims": 384, "num_layers": (2, 2)}}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_heads": None},
        {"arch": "deit-small"},
        {"init_values": 1e-5, "qkv_bias": True, "global_pool": ""},
        {"norm_cfg": {"type": "LN", "eps": 1e-6}, "conv_cfg": None},
        {"layer_cfgs": [{"act_cfg": {"type": "GELU"}}]},
    ],
)
def test_settings_of_a_model_pass(arguments: dict[str, Any]) -> None:
    assert set(check_arguments(arguments, "a")) == set(arguments)


@pytest.mark.parametrize(
    "key", ["type", "checkpoint_path", "pretrained", "pretrained_cfg", "init_cfg", "__class__", ""]
)
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_arguments({key: True}, "a")
    assert (
        str(caught.value) == f"a: arguments has {key!r}, which a weight file may not set; write it in a config instead"
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("depth", 257, "an integer from 1 to 256, or 1 to 64 of: an integer from 1 to 256"),
        ("depth", True, "an integer from 1 to 256, or 1 to 64 of: an integer from 1 to 256"),
        ("depth", [], "an integer from 1 to 256, or 1 to 64 of: an integer from 1 to 256"),
        ("drop_rate", float("nan"), "a number from 0 to 0.999"),
        ("in_chans", 4, "an integer from 3 to 3"),
        ("act_layer", "torch.nn.GELU", "one of 'gelu', "),
        ("arch", "../../weights", "the name of a variant, or an object with "),
        ("act_cfg", {"type": "os.system"}, "an object with "),
        ("norm_cfg", {"type": "LN", "init_cfg": {}}, "an object with "),
    ],
)
def test_other_values_are_refused(key: str, value: Any, expected: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_arguments({key: value}, "a")
    assert str(caught.value).startswith(f"a: arguments.{key} is {value!r}; expected {expected}")


@pytest.mark.parametrize("arguments", [None, [], "depth=12"])
def test_arguments_are_an_object(arguments: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_arguments(arguments, "a")
    assert str(caught.value) == f"a: arguments is {arguments!r}; expected an object"
