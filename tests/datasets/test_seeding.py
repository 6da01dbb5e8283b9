import random

import numpy as np
import torch

from proteus.datasets import SampleKey, seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_global_states_are_restored() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    eval_mode = [draw(), draw()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    found = [draw()]
    with seeded(7, 8):
        draw()
    found.append(draw())
    assert found == eval_mode


def test_states_are_restored_after_an_error() -> None:
    before = random.getstate(), torch.get_rng_state()
    try:
        with seeded(7):
            draw()
            raise KeyError
    except KeyError:
        pass
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_every_part_of_the_key_changes_all_streams() -> None:
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 2**31), (0, 0, 0, 0, 1)]
    streams = []
    for key in keys:
        with seeded(*key):
            streams.append(draw())
    for position in range(3):
        assert len({stream[position] for stream in streams}) == len(keys)


def test_equal_keys_give_equal_streams() -> None:
    found = []
    for _ in range(2):
        with seeded(SampleKey(3, 1, 4, 1), 5):
            found.append(draw())
    assert found[0] == found[1]


def test_first_draws_of_neighbouring_keys_are_uniform_and_uncorrelated() -> None:
    draws = []
    for image in range(2000):
        with seeded(0, 0, image, 0):
            draws.append(draw())
    values = np.array(draws)
    assert np.abs(values.mean(0) - 0.5).max() < 0.03
    assert np.abs(np.histogram(values[:, 2], bins=10, range=(0, 1))[0] - 200).max() < 60
    for column in values.T:
        assert abs(np.corrcoef(column[:-1], column[1:])[0, 1]) < 0.08
    assert abs(np.corrcoef(values[:, 0], values[:, 2])[0, 1]) < 0.08


def test_nested_blocks() -> None:
    np.random.seed(1)
    eval_mode = np.random.rand(3).tolist()
    with seeded(5):
        alone = [draw(), draw()]
    np.random.seed(1)
    before = float(np.random.rand())
    with seeded(5):
        found = [draw()]
        with seeded(6):
            draw()
            with seeded(5):
                assert draw() == alone[0]
        found.append(draw())
    assert found == alone
    assert [before, *np.random.rand(2)] == eval_mode


def test_numpy_draws_as_with_seed() -> None:
    high = int(np.random.SeedSequence((1, 2)).generate_state(2)[1])
    np.random.seed(high)
    wanted = np.random.randint(0, 15, 3).tolist(), np.random.randn(3).tolist()
    for _ in range(2):
        with seeded(1, 2):
            assert (np.random.randint(0, 15, 3).tolist(), np.random.randn(3).tolist()) == wanted
