from __future__ import annotations

import torch
from sliced_vits import images, student, teacher

from proteus.models.initialization import noise_images, slice_teacher


def test_noise_is_normalised_repeatable_and_smooth() -> None:
    noise = noise_images(64, 28)
    assert torch.equal(noise, noise_images(64, 28))
    assert not torch.equal(noise, noise_images(64, 28, seed=1))
    assert noise.mean().abs() < 0.1
    assert 0.7 < noise.std() < 1.3
    neighbours = (noise[..., 1:] - noise[..., :-1]).square().mean()
    assert neighbours < noise.var()  # of white noise it is twice the variance
    channels = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    assert channels[0, 1] > 0.5


def test_a_fit_on_noise_is_worse_than_one_on_images_and_better_than_none() -> None:
    source = teacher(strong=True)
    ours, noisy = student(), student()
    slice_teacher(ours, source, images(256))
    slice_teacher(noisy, source, noise_images(256, 28))
    fresh = images(64, seed=1)

    def wrong(vit: torch.nn.Module) -> float:
        with torch.no_grad():
            found, wanted = (torch.cdist(model(fresh).cls, model(fresh).cls) for model in (vit, source))
        found = found / found.mean() * wanted.mean()
        return ((found - wanted).square().sum() / (wanted - wanted.mean()).square().sum()).item()

    assert wrong(ours) < wrong(noisy) < wrong(student())
