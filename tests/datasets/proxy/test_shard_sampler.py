from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np
import pytest

from proteus.datasets import ProxySampler, SampleKey, ShardSampler, WebShards
from proteus.datasets.proxy import shard_sampler
from proteus.datasets.proxy.shard_order import ShardOrder
from proteus.datasets.shards.index_file import INDEX, Index, Shard, write_index
from proteus.structures import ConfigError

COUNTS = (7, 7, 7, 3, 7, 1, 7, 7, 7, 7)  # images of each shard
TOTAL = sum(COUNTS)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> WebShards:
    """Ten shards of different lengths, without content: samplers read only the index."""
    folder = tmp_path_factory.mktemp("shards")
    shards = []
    for number, count in enumerate(COUNTS):
        (folder / f"{number}.tar").write_bytes(bytes(1024))
        shards.append(Shard(f"{number}.tar", 1024, [(f"{image}.jpg", 0, 1) for image in range(count)]))
    write_index(folder / INDEX, Index(shards))
    return WebShards(str(folder))


SHARD_OF = np.repeat(np.arange(len(COUNTS)), COUNTS)


def rank(monkeypatch: pytest.MonkeyPatch, number: int, world: int) -> None:
    monkeypatch.setattr(shard_sampler, "get_dist_info", lambda: (number, world))


def keys(sampler: ShardSampler, count: int, skipped: int = 0) -> list[SampleKey]:
    sampler.skip(skipped)
    return list(islice(iter(sampler), count))


def epochs(drawn: list[SampleKey]) -> Iterator[Counter[int]]:
    for epoch in range(max(key.epoch for key in drawn)):
        yield Counter(key.image for key in drawn if key.epoch == epoch)


@pytest.mark.parametrize(("lanes", "window"), [(1, 1), (2, 3), (4, 2), (16, 1)])
def test_each_epoch_has_every_image_once_in_another_order(proxy: WebShards, lanes: int, window: int) -> None:
    drawn = keys(ShardSampler(proxy, seed=3, lanes=lanes, window=window), 6 * TOTAL)
    # With more lanes than shards, some lanes are epochs ahead of others.
    whole = [counts for counts in epochs(drawn) if sum(counts.values()) == TOTAL]
    assert len(whole) >= (5 if lanes < 16 else 3)
    assert all(counts == Counter(range(TOTAL)) for counts in whole)
    first, second = ([key.image for key in drawn if key.epoch == epoch] for epoch in (0, 1))
    assert first != second
    assert sum(a < b for a, b in pairwise(first)) < 0.8 * TOTAL


def test_two_ranks_read_different_shards_and_together_what_one_process_reads(
    proxy: WebShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = keys(ShardSampler(proxy, seed=5, lanes=4, window=2), 4 * TOTAL)
    for world in (2, 4):
        ranks = []
        for number in range(world):
            rank(monkeypatch, number, world)
            ranks.append(keys(ShardSampler(proxy, seed=5, lanes=4, window=2), 4 * TOTAL // world))
        assert [key for turn in zip(*ranks, strict=True) for key in turn] == alone
        for epoch in range(3):
            read = [{int(SHARD_OF[key.image]) for key in drawn if key.epoch == epoch} for drawn in ranks]
            assert sum(map(len, read)) == len(COUNTS)
            assert set.union(*read) == set(range(len(COUNTS)))


@pytest.mark.parametrize("world", [3, 7, 12])
def test_any_number_of_ranks_draws_each_image_once_per_epoch(
    proxy: WebShards, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    """Three and seven do not divide ten shards, and twelve ranks have more than there are."""
    drawn: list[tuple[int, SampleKey]] = []
    for number in range(world):
        rank(monkeypatch, number, world)
        drawn += [(number, key) for key in keys(ShardSampler(proxy, seed=5, window=2), 8 * TOTAL // world)]
    found = dict(enumerate(epochs([key for _, key in drawn])))
    whole = [epoch for epoch, counts in found.items() if sum(counts.values()) == TOTAL]
    assert whole[:4] == [0, 1, 2, 3]
    for epoch in whole:
        assert set(found[epoch].values()) == {1}
        readers = {(int(SHARD_OF[key.image]), number) for number, key in drawn if key.epoch == epoch}
        assert len(readers) == len(COUNTS)


def test_a_lane_leaves_a_shard_once_for_an_epoch(proxy: WebShards) -> None:
    drawn = keys(ShardSampler(proxy, seed=1, lanes=1, window=2), TOTAL)
    shards = [int(SHARD_OF[key.image]) for key in drawn]
    spans = sorted((shards.index(each), len(shards) - 1 - shards[::-1].index(each)) for each in set(shards))
    open_at_once = max(sum(first <= at <= last for first, last in spans) for at in range(TOTAL))
    assert open_at_once == 2


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_resumed_stream_continues_exactly(proxy: WebShards, repeats: int) -> None:
    whole = keys(ShardSampler(proxy, seed=2, lanes=4, window=2, repeats=repeats), 5 * TOTAL * repeats)
    for start in (1, 17, TOTAL * repeats, 3 * TOTAL * repeats + 5, 4 * TOTAL * repeats - 1):
        resumed = ShardSampler(proxy, seed=2, lanes=4, window=2, repeats=repeats)
        found, wanted = keys(resumed, 30, start), whole[start : start + 30]
        assert [key.parts for key in found] == [key.parts for key in wanted]


def test_views_of_an_image_are_consecutive_on_its_rank(proxy: WebShards, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ShardSampler(proxy, seed=2, lanes=4, repeats=3)
    alone = keys(sampler, 12 * TOTAL)
    once = [key.parts for key in keys(ShardSampler(proxy, seed=2, lanes=4), 4 * TOTAL)]
    assert [key.parts for key in alone] == [(*parts[:3], view) for parts in once for view in range(3)]
    assert all(set(counts.values()) == {3} for counts in list(epochs(alone))[:2])
    assert len(sampler) == 3 * TOTAL
    ranks = []
    for number in range(2):
        rank(monkeypatch, number, 2)
        ranks.append(keys(ShardSampler(proxy, seed=2, lanes=4, repeats=3), 6 * TOTAL))
    together = [key for at in range(0, 6 * TOTAL, 3) for drawn in ranks for key in drawn[at : at + 3]]
    assert [key.parts for key in together] == [key.parts for key in alone]


def test_a_sampler_can_take_another_seed(proxy: WebShards) -> None:
    sampler = ShardSampler(proxy, seed=2, lanes=2)
    sampler.reseed(9)
    assert proxy.order is sampler.order
    assert (sampler.seed, proxy.order.seed) == (9, 9)
    wanted = keys(ShardSampler(proxy, seed=9, lanes=2), TOTAL)
    assert [key.parts for key in keys(sampler, TOTAL)] == [key.parts for key in wanted]


def test_lanes_stay_balanced_over_many_epochs(proxy: WebShards) -> None:
    order = ShardOrder(*proxy.shard_numbers(), lanes=4, window=2, seed=0)
    loads = [sum(order.length(epoch, lane) for epoch in range(50)) for lane in range(4)]
    assert sum(loads) == 50 * TOTAL
    assert max(loads) - min(loads) <= max(COUNTS)


def test_the_place_of_an_image_is_where_the_stream_draws_it(proxy: WebShards) -> None:
    order = ShardOrder(*proxy.shard_numbers(), lanes=3, window=2, seed=4)
    for epoch in (2, 0, 3):
        for lane in range(3):
            for window, images in enumerate(order.images(epoch, lane)):
                assert {order.place(epoch, int(image)) for image in images} == {(epoch, lane, window)}
    following = order.next_window(0, 1, 0, first=1)
    assert following[:2] == [f"{shard}.tar" for shard in order.shards(0, 1)[1::-1]]
    assert set(following[2:]) == {f"{shard}.tar" for shard in order.shards(0, 1)[2:4]}


def test_a_subset_is_grouped_by_shard(proxy: WebShards) -> None:
    taken = WebShards(proxy.data_root, indices=[40, 3, 25, 4, 41, 0])
    assert taken.names() == [proxy.names()[position] for position in (40, 3, 25, 4, 41, 0)]
    drawn = keys(ShardSampler(taken, seed=0, lanes=1, window=1), 6)
    assert sorted(key.image for key in drawn) == list(range(6))
    shards = [taken.names()[key.image].partition("/")[0] for key in drawn]
    assert len([shard for shard, before in zip(shards, ["", *shards], strict=False) if shard != before]) == 3


def test_without_shuffling_shards_and_images_are_in_order(proxy: WebShards) -> None:
    drawn = keys(ShardSampler(proxy, seed=0, lanes=1, shuffle=False), TOTAL)
    assert [key.image for key in drawn] == list(range(TOTAL))


def test_other_sets_and_numbers_of_ranks_are_refused(proxy: WebShards, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="ShardSampler reads sets of type WebShards, found list; write ProxySampler"):
        ShardSampler([1, 2])
    rank(monkeypatch, 0, 3)
    assert ShardSampler(proxy, seed=0).order.lanes == 9
    with pytest.raises(ConfigError, match=r"sampler\.lanes=8 is not a multiple of 3 ranks; write 6"):
        ShardSampler(proxy, seed=0, lanes=8)
    assert ProxySampler(proxy, seed=0).epoch_length == TOTAL
    assert proxy.order is None
