from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor

from proteus.utils.compile import compiled


def twice(values: Tensor) -> Tensor:
    return values + values


def test_false_leaves_the_function_alone() -> None:
    assert compiled("key", twice, False) is twice


def test_true_and_options_compile_at_the_first_call() -> None:
    seen: list[tuple[int, ...]] = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append(tuple(inputs[0].shape))
        return graph.forward

    function = compiled("key", twice, ConfigDict(backend=backend))
    assert not seen
    for size in (2, 3, 2):
        assert torch.equal(function(torch.ones(size)), torch.full((size,), 2.0))
    assert seen == [(2,), (3,)]  # static shapes, each compiled once


@pytest.mark.parametrize("value", ["max-autotune", 1, None])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"model\.compile_student=.*write True, False, or options"):
        compiled("model.compile_student", twice, value)


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"key\.modus: torch\.compile takes .*mode"):
        compiled("key", twice, {"modus": "max-autotune"})
    with pytest.raises(ValueError, match="key="):
        compiled("key", twice, {"mode": "fastest"})
