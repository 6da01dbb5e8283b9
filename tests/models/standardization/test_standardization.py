from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from two_ranks import on_two_ranks

from proteus.models import ChannelStandardization, PHIStandardization
from proteus.models.standardization.moments import Moments
from proteus.structures import Features
from proteus.utils.rotations import hadamard

DIM = 12
KINDS = (ChannelStandardization, PHIStandardization)


def features(seed: int = 0, images: int = 64, dim: int = DIM) -> Features:
    """Correlated channels with means and scales far from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)) * torch.logspace(-1, 1, dim)
    mean = torch.linspace(-50, 50, dim)
    cls = torch.randn(images, dim, generator=generator) @ mixing.T + mean
    patches = 0.3 * torch.randn(images, 4, dim, generator=generator) @ mixing + 2 * mean
    return Features(cls, patches, (2, 2))


def fitted(kind: type[Any], *batches: Features, **options: Any) -> Any:
    module = kind(batches[0].cls.shape[-1], **options)
    module.fit(batches)
    return module


def rows(tokens: Tensor) -> np.ndarray[Any, Any]:
    return tokens.flatten(0, -2).double().numpy()


def phi_s(tokens: Tensor) -> np.ndarray[Any, Any]:
    """The published formula, in NumPy: ``H U^T (x - mu) / phi``."""
    values = rows(tokens)
    matrix = hadamard(values.shape[1])
    assert matrix is not None
    variances, directions = np.linalg.eigh(np.cov(values.T, bias=True))
    largest = np.abs(directions).argmax(0)
    directions = directions * np.sign(directions[largest, range(len(largest))])
    rotated = matrix.numpy() / np.sqrt(len(matrix)) @ directions.T @ (values - values.mean(0)).T
    return (rotated / np.sqrt(variances.mean())).T


def test_phi_s_is_the_published_formula() -> None:
    given = features()
    found = fitted(PHIStandardization, given)(given)
    for kind in ("cls", "patches"):
        np.testing.assert_allclose(rows(getattr(found, kind)), phi_s(getattr(given, kind)), atol=1e-4)


@pytest.mark.parametrize("dim", [DIM, 10])  # 10: there is no Hadamard matrix
def test_phi_s_gives_every_channel_variance_one_and_keeps_the_geometry(dim: int) -> None:
    given = features(dim=dim)
    found = fitted(PHIStandardization, given)(given)
    for kind in ("cls", "patches"):
        before, after = rows(getattr(given, kind)), rows(getattr(found, kind))
        np.testing.assert_allclose(after.mean(0), 0, atol=1e-4)
        covariance, original = np.cov(after.T, bias=True), np.cov(before.T, bias=True)
        np.testing.assert_allclose(np.diag(covariance), 1, atol=1e-4)
        expected = np.linalg.eigvalsh(original) / np.trace(original) * dim
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance), expected, atol=1e-3)
        distances = np.linalg.norm(after[:5, None] - after[None, :5], axis=-1)
        scale = np.sqrt(np.trace(original) / dim)
        np.testing.assert_allclose(
            distances, np.linalg.norm(before[:5, None] - before[None, :5], axis=-1) / scale, atol=1e-3
        )


def test_channels_have_mean_zero_and_deviation_one() -> None:
    given = features()
    found = fitted(ChannelStandardization, given)(given)
    for kind in ("cls", "patches"):
        values = rows(getattr(given, kind))
        expected = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
        np.testing.assert_allclose(rows(getattr(found, kind)), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_mapped_back(kind: type[Any]) -> None:
    given = features()
    module = fitted(kind, given)
    found = module(given)
    for part in ("cls", "patches"):
        torch.testing.assert_close(
            module.restore(part, getattr(found, part)), getattr(given, part), atol=1e-3, rtol=1e-4
        )


@pytest.mark.parametrize("kind", KINDS)
def test_without_statistics_nothing_changes(kind: type[Any]) -> None:
    module, given = kind(DIM), features()
    found = module(given)
    assert torch.equal(found.cls, given.cls)
    assert torch.equal(module.restore("patches", found.patches), given.patches)
    assert not module.fitted


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_in_parts_have_the_statistics_of_all(kind: type[Any]) -> None:
    parts = [features(seed, images) for seed, images in enumerate((30, 20, 50))]
    whole = Features(torch.cat([each.cls for each in parts]), torch.cat([each.patches for each in parts]), (2, 2))
    found, expected = fitted(kind, *parts), fitted(kind, whole)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-5, rtol=1e-5)


def test_moments_of_a_large_mean() -> None:
    tokens = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 0.01 + 1000
    scatter = Moments.of(tokens, pairs=True).scatter
    expected = np.cov(tokens.double().numpy().T, bias=True)
    np.testing.assert_allclose(scatter.numpy() / 1000, expected, atol=1e-7)


def is_map(key: str) -> bool:
    """Whether a buffer is of the map itself, not of the statistics so far."""
    return key.endswith(("_mean", "_rotation", "_scale", "_deviation"))


def test_fewer_tokens_than_channels() -> None:
    # Most eigenvalues are 0, and phi counts them: the mean over all channels is 1, in each of them.
    given = features(images=5)
    module = fitted(PHIStandardization, given)
    found = module(given)
    variances = rows(found.cls).var(0)
    np.testing.assert_allclose(variances, 1, atol=1e-4)
    torch.testing.assert_close(module.restore("cls", found.cls), given.cls, atol=1e-3, rtol=1e-4)
    new = features(seed=7)  # outside of the span, too, lengths are those of the teacher over phi
    norms = rows(new.cls - given.cls.mean(0))
    expected = np.linalg.norm(norms, axis=1) / np.sqrt(rows(given.cls).var(0).mean())
    np.testing.assert_allclose(np.linalg.norm(rows(module(new).cls), axis=1), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_become_fixed_and_resume(kind: type[Any]) -> None:
    module = kind(DIM, images=0, steps=6)
    maps, resumed, changed = [], None, []
    for step in range(8):
        given = features(step)
        maps.append(module(given).cls)
        before = copy.deepcopy({key: value for key, value in module.state_dict().items() if is_map(key)})
        module.end_step()
        if any(not torch.equal(module.state_dict()[key], value) for key, value in before.items()):
            changed.append(step + 1)
        if step == 3:
            resumed = kind(DIM, images=0, steps=6)
            resumed.load_state_dict(copy.deepcopy(module.state_dict()))
        elif resumed is not None:
            assert torch.equal(resumed(given).cls, maps[-1])
            resumed.end_step()
    assert torch.equal(maps[0], features(0).cls)  # no statistics yet
    expected = fitted(kind, *(features(step) for step in range(6)))  # those of the first six steps
    torch.testing.assert_close(maps[-1], expected(features(7)).cls, atol=1e-3, rtol=1e-4)
    assert changed == [1, 2, 4, 6]
    assert module.seen == -1
    assert not module._step


def test_evaluations_do_not_count() -> None:
    module = PHIStandardization(DIM, images=0).eval()
    module(features())
    assert not module._step


RANK = """
from test_standardization import KINDS, features, fitted
from proteus.structures import Features

given = features()
half = slice(40) if rank == 0 else slice(40, 64)  # unequal shares
result = {}
for kind in KINDS:
    running = kind(12, images=0, steps=1)
    running(given[half])
    running.end_step()
    for name, module in (("before", fitted(kind, given[half])), ("running", running)):
        result[f"{kind.__name__} {name}"] = module(given[:8]).patches
few = features(images=5)  # most eigenvalues are 0
rank_deficient = fitted(KINDS[1], few[:3] if rank == 0 else few[3:])
result["map"] = rank_deficient.state_dict()
"""


@pytest.mark.slow
def test_two_ranks_have_the_statistics_of_one(tmp_path: Path) -> None:
    first, second = on_two_ranks(RANK, __file__, tmp_path)
    for kind in KINDS:
        expected = fitted(kind, features())(features()[:8]).patches
        for name in ("before", "running"):
            found = first[f"{kind.__name__} {name}"]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            assert torch.equal(found, second[f"{kind.__name__} {name}"])
    for key, value in first["map"].items():
        assert torch.equal(value, second["map"][key]), key
    expected = fitted(PHIStandardization, features(images=5)).cls_scale
    torch.testing.assert_close(first["map"]["cls_scale"], expected)


def test_numbers_that_are_refused() -> None:
    with pytest.raises(ValueError, match="images=-1: write a whole number, 0 or more"):
        PHIStandardization(DIM, images=-1)
    with pytest.raises(ValueError, match="steps=0: write a whole number, 1 or more"):
        ChannelStandardization(DIM, images=0, steps=0)
    with pytest.raises(ValueError, match="eps=0: write a number above 0"):
        ChannelStandardization(DIM, eps=0)
