from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from proteus.datasets.teacher_cache import CacheError, CacheIndex, Float16, Int8PCA, load_encoding


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    """Tokens with a few strong directions and a nonzero mean."""
    generator = torch.Generator().manual_seed(0)
    strengths = torch.logspace(1, -2, 24)
    turned = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
    return torch.randn(4000, 24, generator=generator) * strengths @ turned + 3


def index_of(components: int) -> CacheIndex:
    return CacheIndex({}, 5, 1, 24, (2, 3), 5, {"type": "int8-pca", "components": components})


def test_components_match_scikit_learn(tokens: torch.Tensor) -> None:
    ours = Int8PCA.fit(tokens, 6)
    theirs = PCA(6, svd_solver="full").fit(tokens.double().numpy())
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-5)
    signs = np.sign((ours.basis * theirs.components_).sum(1, keepdims=True))
    np.testing.assert_allclose(ours.basis, signs * theirs.components_, atol=1e-4)


@pytest.mark.parametrize("components", [1, 6, 24])
def test_error_is_that_of_pca_and_quantization(tokens: torch.Tensor, components: int) -> None:
    ours = Int8PCA.fit(tokens, components)
    theirs = PCA(components, svd_solver="full").fit(tokens.double().numpy())
    restored = ours.restore(ours.encode(tokens[None]))[0]
    lost = float((restored - tokens).square().sum() / (tokens - tokens.mean(0)).square().sum())
    by_pca = 1 - theirs.explained_variance_ratio_.sum()
    # A uniform error of one step has a variance of a twelfth of the squared step.
    by_steps = np.square(ours.scale).sum() / 12 * len(tokens) / float((tokens - tokens.mean(0)).square().sum())
    assert lost == pytest.approx(by_pca + by_steps, rel=0.1)


def test_quantization_steps() -> None:
    encoding = Int8PCA(
        np.array([1.0, 2.0], np.float32), np.array([[0.0, 1.0]], np.float32), np.array([0.5], np.float32)
    )
    stored = encoding.encode(torch.tensor([[[9.0, 3.1], [9.0, -100.0], [9.0, 2.0]]]))
    assert stored.dtype == torch.int8
    assert stored.tolist() == [[[2], [-127], [0]]]
    wanted = [[1.0, 3.0], [1.0, -61.5], [1.0, 2.0]]
    assert encoding.restore(stored)[0].tolist() == wanted
    decoded = encoding.decode(stored[0].numpy())
    assert decoded.dtype == np.float16
    assert decoded.tolist() == wanted


def test_largest_value_maps_to_the_last_step(tokens: torch.Tensor) -> None:
    stored = Int8PCA.fit(tokens, 5).encode(tokens[None])[0]
    assert stored.abs().amax(0).tolist() == [127] * 5


def test_save_and_load(tokens: torch.Tensor, tmp_path: Path) -> None:
    encoding = Int8PCA.fit(tokens, 4)
    encoding.save(tmp_path)
    again = load_encoding(index_of(4), tmp_path)
    assert isinstance(again, Int8PCA)
    assert torch.equal(again.encode(tokens[None]), encoding.encode(tokens[None]))
    assert again.description() == {"type": "int8-pca", "components": 4}


def test_constant_components_do_not_divide_by_zero() -> None:
    encoding = Int8PCA.fit(torch.ones(10, 3), 2)
    assert encoding.restore(encoding.encode(torch.ones(1, 2, 3))).tolist() == [[[1.0] * 3] * 2]


def test_half_precision() -> None:
    patches = torch.tensor([[[1 / 3, 1000.1]]])
    stored = Float16().encode(patches)
    assert stored.dtype == torch.float16
    assert Float16().decode(stored.numpy()[0]).tolist() == [[0.333251953125, 1000.0]]


def test_bad_input(tokens: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="components=25: write a number from 1 to 24"):
        Int8PCA.fit(tokens, 25)
    with pytest.raises(CacheError, match=r"pca\.safetensors is missing or damaged"):
        load_encoding(index_of(4), tmp_path)
    (tmp_path / "pca.safetensors").write_bytes(b"nothing")
    with pytest.raises(CacheError, match=r"pca\.safetensors is missing or damaged"):
        load_encoding(index_of(4), tmp_path)
    encoding = Int8PCA.fit(tokens, 4)
    encoding.save(tmp_path)
    with pytest.raises(CacheError, match=r"basis of shape \(4, 24\), but the index expects \(5, 24\)"):
        load_encoding(index_of(5), tmp_path)
    encoding.basis[1, 2] = np.nan
    encoding.save(tmp_path)
    with pytest.raises(CacheError, match=r"pca\.safetensors .*not finite"):
        load_encoding(index_of(4), tmp_path)
    Int8PCA(encoding.mean[:3], encoding.basis, encoding.scale).save(tmp_path)
    with pytest.raises(CacheError, match=r"pca\.safetensors .* do not fit"):
        load_encoding(index_of(4), tmp_path)
    with pytest.raises(CacheError, match="unknown patch encoding 'gzip'"):
        load_encoding(dataclasses.replace(index_of(4), patches={"type": "gzip"}), tmp_path)
