"""Choice of the learning rate and the table of the study."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from study_table import COLUMNS, Row, best_rows, choose_rate, format_table


def figures(logistic: float, miou: float = 0.0, cosine: float = 0.0) -> dict[str, float]:
    return {**dict.fromkeys(COLUMNS, 0.0), "cifar_logistic": logistic, "camvid_miou": miou, "patch_cosine": cosine}


def row(name: str, logistic: Sequence[float]) -> Row:
    return Row(name, "", "contenders", 1e-4, [figures(value) for value in logistic], [30.0])


def test_rate_with_the_best_mean_rank_is_chosen() -> None:
    # Ranks: 1e-5: 1, 3, 3; 1e-4: 2, 1, 2; 1e-3: 3, 2, 1.
    validation = {1e-5: figures(60, 20, 0.1), 1e-4: figures(59, 30, 0.2), 1e-3: figures(40, 29, 0.9)}
    assert choose_rate(validation) == 1e-4


def test_lowest_of_equal_rates_is_chosen() -> None:
    assert choose_rate({1e-3: figures(50, 30, 0.5), 1e-4: figures(50, 30, 0.5)}) == 1e-4
    # One figure better and one worse: the mean ranks are equal.
    assert choose_rate({1e-3: figures(51, 30, 0.5), 1e-4: figures(50, 31, 0.5)}) == 1e-4


def test_no_rate_without_a_training() -> None:
    with pytest.raises(ValueError, match="diverged"):
        choose_rate({})


def test_bold_only_beyond_both_spreads() -> None:
    # Means 60 and 57, spreads 1 and 1: 3 > 2.
    assert best_rows([row("a", [59, 60, 61]), row("b", [56, 57, 58])]) == {"cifar_logistic": "a"}
    # Means 60 and 58, and 2 is not above 2.
    assert best_rows([row("a", [59, 60, 61]), row("b", [57, 58, 59])]) == {}
    # The runner-up decides, not the third.
    assert best_rows([row("c", [10, 11, 12]), row("a", [59, 60, 61]), row("b", [58.5, 59.5, 60.5])]) == {}


def test_nothing_is_bold_with_one_seed() -> None:
    assert best_rows([row("a", [60]), row("b", [20])]) == {}


def test_table() -> None:
    rows = [row("a", [59, 60, 61]), row("b", [56, 57, 58]), Row("c", "", "contenders", note="diverged at every rate")]
    lines = format_table(rows, {"cifar_logistic": 69.54}).splitlines()
    assert lines[0].startswith("| student | learning rate | CIFAR-10 k-NN | CIFAR-10 logistic |")
    assert lines[2].startswith("| a | 0.0001 | 0.0 ± 0.0 | **60.0 ± 1.0** |")
    assert lines[2].endswith("| 30.0 |")
    assert lines[3].startswith("| b | 0.0001 | 0.0 ± 0.0 | 57.0 ± 1.0 |")
    assert lines[4].startswith("| c (diverged at every rate) |  | - |")
    assert lines[5].startswith("| the teacher |  |  | 69.5 |")
    assert len({line.count("|") for line in lines}) == 1
