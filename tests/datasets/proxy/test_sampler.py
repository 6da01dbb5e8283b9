from collections import Counter
from itertools import islice
from typing import NamedTuple

import pytest

from proteus.datasets import ProxySampler
from proteus.datasets.proxy import sampler


class Key(NamedTuple):
    seed: int
    epoch: int
    image: int
    view: int


def sampler_of(size: int, rank: int = 0, world: int = 1, **options) -> ProxySampler:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "get_dist_info", lambda: (rank, world))
        return ProxySampler(range(size), **{"seed": 0, **options})


def stream(size: int, count: int, rank: int = 0, world: int = 1, skip: int = 0, **options) -> list[Key]:
    keys = sampler_of(size, rank, world, **options)
    keys.skip(skip)
    # Tuples, since keys with equal images compare equal whatever their views.
    return [Key(*key.parts) for key in islice(keys, count)]


def dealt(size: int, count: int, world: int, **options) -> list[Key]:
    """Draw the samples of all ranks, in the order of the stream."""
    ranks = [stream(size, count // world, rank, world, **options) for rank in range(world)]
    return [key for turn in zip(*ranks, strict=True) for key in turn]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_epoch_shows_every_image_once(world: int) -> None:
    keys = dealt(10, 30, world)
    for epoch in range(3):
        part = keys[10 * epoch : 10 * epoch + 10]
        assert sorted(key.image for key in part) == list(range(10))
        assert {key.epoch for key in part} == {epoch}
        assert {key.view for key in part} == {0}
    orders = [tuple(key.image for key in keys[start : start + 10]) for start in (0, 10, 20)]
    assert len({*orders, tuple(range(10))}) == 4  # shuffled differently each time


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_draw_the_stream_of_one_process(world: int) -> None:
    assert dealt(23, 120, world) == stream(23, 120)
    assert dealt(23, 120, world, repeats=3) == dealt(23, 120, 3, repeats=3)


def test_one_process_draws_each_image_once_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeiT's repeated augmentation is for several ranks: here the views of an image would share a batch."""
    said: list[str] = []
    monkeypatch.setattr(sampler, "print_log", lambda text, _: said.append(text))
    assert stream(600, 900, repeats=3) == stream(600, 900)
    assert stream(600, 700, skip=200, repeats=3) == stream(600, 900)[200:]
    assert len(sampler_of(600, repeats=3)) == 600
    assert [text.partition(" ")[0] for text in said] == ["train_dataloader.sampler.repeats=3"] * 3


@pytest.mark.parametrize("repeats", [1, 3])
def test_skip_continues(repeats: int) -> None:
    for rank in (0, 1):
        whole = stream(10, 40, rank, 2, repeats=repeats)
        assert stream(10, 23, rank, 2, skip=17, repeats=repeats) == whole[17:]


def test_seeds() -> None:
    assert stream(50, 50, seed=1) == stream(50, 50, seed=1)
    one, other = (stream(50, 50, seed=seed) for seed in (1, 2))
    assert [key.image for key in one] != [key.image for key in other]
    assert {key.seed for key in other} == {2}


def test_repeats_match_deit() -> None:
    """DeiT: each shuffled index three times in a row, distributed over ranks; an epoch has n // 256 * 256 of them."""
    size = 600
    order = [key.image for key in stream(size, size)]  # the same shuffle without repeats
    kept = [index for index in order for _ in range(3)][: size // 256 * 256]
    keys = dealt(size, 600 + 512, 8, repeats=3)
    assert [key.image for key in keys[:512]] == kept
    assert [key.view for key in keys[:6]] == [0, 1, 2, 0, 1, 2]
    assert [key.epoch for key in keys] == [0] * 512 + [1] * 512 + [2] * 88
    assert len(set(keys)) == len(keys)  # no view twice
    # The views of an image are on different ranks.
    ranks = {}
    for position, key in enumerate(keys[:510]):
        ranks.setdefault(key.image, set()).add(position % 8)
    assert set(map(len, ranks.values())) == {3}


def test_epochs_of_imagenet() -> None:
    keys = sampler_of(1281167, world=8, repeats=3)
    assert keys.epoch_length == 1281024
    assert keys.epoch_length / 1024 == 1251
    assert len(keys) == 1251 * 128


def test_small_sets() -> None:
    keys = dealt(24, 72, 2, repeats=3)
    assert [key.epoch for key in keys] == [0] * 24 + [1] * 24 + [2] * 24
    assert set(Counter(key.image for key in keys[:24]).values()) == {3}


def test_without_shuffle() -> None:
    assert [key.image for key in stream(4, 8, shuffle=False)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match=r"sampler\.repeats=0"):
        ProxySampler(range(3), repeats=0)
    with pytest.raises(ValueError, match="empty"):
        ProxySampler([])


def together(size: int, count: int, rank: int = 0, world: int = 1, skip: int = 0) -> list[Key]:
    return stream(size, count, rank, world, skip, repeats=3, group_views=True)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_grouped_views(world: int) -> None:
    ranks = [together(30, 30, rank, world) for rank in range(world)]
    for keys in ranks:
        for start in range(0, 30, 3):
            views = keys[start : start + 3]
            assert [key.view for key in views] == [0, 1, 2]
            assert len({key[:3] for key in views}) == 1
    # Three samples of each rank are what one process sees in as many samples.
    dealt_out = [key for turn in range(10) for keys in ranks for key in keys[3 * turn : 3 * turn + 3]]
    assert dealt_out == together(30, 30 * world)


def test_grouped_views_match_the_released_stream_of_all_ranks() -> None:
    """Only the end of an epoch differs: an image that would not be shown three times is dropped."""
    released, kept = dealt(600, 512, 2, repeats=3), together(600, 510)
    assert kept == released[:510]
    assert sampler_of(600, repeats=3, group_views=True).epoch_length == 510
    assert [key.epoch for key in together(600, 1020)] == [0] * 510 + [1] * 510


@pytest.mark.parametrize("skipped", [0, 1, 17, 30])
def test_grouped_views_resume_between_views_of_an_image(skipped: int) -> None:
    for rank in (0, 1):
        assert together(10, 40, rank, 2)[skipped:] == together(10, 40 - skipped, rank, 2, skip=skipped)


def test_grouped_views_of_two_images() -> None:
    keys = together(2, 9)
    assert [key.view for key in keys] == [0, 1, 2] * 3
    assert [key.epoch for key in keys] == [0] * 3 + [1] * 3 + [2] * 3


def test_group_views_needs_repeats() -> None:
    with pytest.raises(ValueError, match=r"sampler\.group_views=True"):
        ProxySampler(range(3), group_views=True)
