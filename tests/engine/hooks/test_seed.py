from collections.abc import Callable

import torch
from mmengine.runner import Runner

from proteus.engine import SeedEachStepHook


def test_a_function_of_seed_and_iteration(make_runner: Callable[..., Runner]) -> None:
    draws = {}
    for seed in (0, 1):
        runner = make_runner(f"seed{seed}", randomness__seed=seed)
        loop = runner.build_train_loop(runner._train_loop)
        runner._train_loop = loop
        for iteration in (0, 1, 0):
            loop._iter = iteration
            torch.rand(7)
            SeedEachStepHook().before_train_iter(runner, 0)
            found = torch.rand(1).item()
            assert draws.setdefault((seed, iteration), found) == found
    assert len(set(draws.values())) == 4
