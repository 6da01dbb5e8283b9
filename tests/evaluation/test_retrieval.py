import pytest
import torch
from torch import Tensor
from torch.nn import functional

from proteus.evaluation.retrieval import altered_views, nearest_patch_share, patch_retrieval
from proteus.structures import Features


def as_features(patches: Tensor) -> Features:
    return Features(cls=patches.mean(dim=1), patches=patches, grid=(1, patches.shape[1]))


def test_fraction_by_hand() -> None:
    # The queries' mean is (5, 5), the keys' (1, 1). Without it the queries point east, north | west, a little south
    # of east and the keys east, north | west, south: the last query is nearest to east, of the other image.
    queries = torch.tensor([[[7.0, 5.0], [5.0, 6.0]], [[1.0, 5.0], [7.0, 4.0]]])
    keys = torch.tensor([[[2.0, 1.0], [1.0, 3.0]], [[0.0, 1.0], [1.0, -1.0]]])
    assert nearest_patch_share(queries, keys) == 0.75


def test_the_fraction_ignores_scale_and_a_common_offset() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(4, 6, 8, generator=generator)
    queries = keys[:, :5] + 0.1 * torch.randn(4, 5, 8, generator=generator)
    assert nearest_patch_share(queries, keys) == 1.0
    assert nearest_patch_share(3 * queries + 100, keys - 50) == 1.0


def test_features_without_content_score_at_chance_level() -> None:
    images = torch.rand(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))

    def constant(views: Tensor) -> Features:
        return as_features(torch.full((len(views), 9, 4), 0.3))

    noise = torch.Generator().manual_seed(1)

    def random(views: Tensor) -> Features:
        return as_features(torch.randn(len(views), 400, 4, generator=noise))

    assert patch_retrieval(constant, images, size=28) == pytest.approx(1 / 5)
    assert patch_retrieval(random, images, size=28) == pytest.approx(1 / 5, abs=0.03)


def test_an_encoder_that_undoes_the_alteration_scores_one() -> None:
    # Plain pictures; blended with grey, each has the redness of the next original.
    redness = torch.tensor([0.5**step for step in range(4)])
    images = torch.stack([redness, torch.zeros(4), torch.zeros(4)], dim=1)[..., None, None]
    images = images.expand(-1, -1, 60, 60).contiguous()

    def one_hot(steps: Tensor) -> Features:
        return as_features(functional.one_hot(steps.round().long(), 6).float()[:, None].expand(-1, 4, -1))

    def from_colour(views: Tensor) -> Features:
        colour = views.mean(dim=(2, 3))
        return one_hot((colour[:, 0] - colour[:, 1]).log() / torch.tensor(0.5).log())

    def undone(views: Tensor) -> Features:
        grey = views.mean(dim=1, keepdim=True)
        return from_colour(2 * views - grey if views[:, 1].max() > 0 else views)

    assert patch_retrieval(undone, images, size=28) == 1.0
    # Each of the first three matches the next original; the last matches no original.
    assert patch_retrieval(from_colour, images, size=28) <= 0.25


def test_altered_views_are_paler_mirrored_crops_of_the_seed() -> None:
    ramp = torch.linspace(0, 1, 100).expand(2, 100, 100)
    images = torch.stack([ramp, ramp, ramp], dim=1)
    images[1, 1:] = 0.0
    views = altered_views(images, size=28, seed=3)
    assert views.shape == (2, 3, 28, 28)
    assert torch.allclose(views[0, 0], views[0, 1], atol=1e-6)  # grey stays grey
    # A red r becomes (r + r / 3) / 2 of red and (0 + r / 3) / 2 of green and blue.
    assert torch.allclose(views[1, 0], 4 * views[1, 1], atol=1e-5)
    assert bool((views[:, 0].diff(dim=-1) < 0).all())  # brighter to the right before, to the left now
    spans = views[:, 0, 0, 0] - views[:, 0, 0, -1]
    assert 0.75 < spans[0] <= 1.0
    assert 0.75 < spans[1] * 3 / 2 <= 1.0
    assert spans[0] != pytest.approx(spans[1].item() * 3 / 2, abs=1e-3)
    assert torch.equal(views, altered_views(images, size=28, seed=3))
    assert not torch.equal(views, altered_views(images, size=28, seed=4))


def test_batch_size_does_not_change_the_score() -> None:
    images = torch.rand(7, 3, 50, 50, generator=torch.Generator().manual_seed(0))

    def encode(views: Tensor) -> Features:
        return as_features(functional.unfold(views, 7, stride=7).transpose(1, 2))

    assert patch_retrieval(encode, images, 28, batch_size=2) == patch_retrieval(encode, images, 28, batch_size=7)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 8, 8), "at least two"),
        (torch.rand(2, 1, 8, 8), "RGB"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (torch.full((2, 3, 8, 8), 7.0), r"floats in \[0, 1\]"),
    ],
)
def test_invalid_images_raise(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        patch_retrieval(lambda views: as_features(views.flatten(2)), images, size=8)
