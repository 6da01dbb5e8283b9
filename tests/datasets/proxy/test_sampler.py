from collections import Counter
from itertools import islice
from typing import NamedTuple

import pytest

from proteus.datasets import ProxySampler


class Key(NamedTuple):
    seed: int
    epoch: int
    image: int
    view: int


def stream(size: int, count: int, rank: int = 0, world: int = 1, skip: int = 0, **options) -> list[Key]:
    sampler = ProxySampler(range(size), **{"seed": 0, **options})
    sampler.rank, sampler.world = rank, world
    sampler.skip(skip)
    # Tuples, since keys with equal images compare equal whatever their views.
    return [Key(*key.parts) for key in islice(sampler, count)]


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


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_draw_the_stream_of_one_process(world: int, repeats: int) -> None:
    assert dealt(23, 120, world, repeats=repeats) == stream(23, 120, repeats=repeats)


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
    keys = stream(size, 600 + 512, repeats=3)
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
    sampler = ProxySampler(range(1281167), seed=0, repeats=3)
    assert sampler.epoch_length == 1281024
    assert sampler.epoch_length / 1024 == 1251
    sampler.world = 8
    assert len(sampler) == 1251 * 128


def test_small_sets() -> None:
    keys = stream(24, 72, repeats=3)
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


def test_grouped_views_match_the_released_stream_in_one_process() -> None:
    """Only the end of an epoch differs: an image that would not be shown three times is dropped."""
    released, kept = stream(600, 512, repeats=3), together(600, 510)
    assert kept == released[:510]
    sampler = ProxySampler(range(600), seed=0, repeats=3, group_views=True)
    assert sampler.epoch_length == 510
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
