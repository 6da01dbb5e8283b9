"""For the tests of the package and of the projects alike."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import torch.utils.data._utils
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

# Before any test module: importing timm or torchvision first would fail without its patches.
import proteus  # noqa: F401

# Seconds that torch waits for each worker of a loader that ended with an error. It waits when the loader is collected
# as garbage, which may be in any later test.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5
# Many containers set PYTHONDONTWRITEBYTECODE. Each process of a test would then compile the package again, and each
# session the assertions of all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep the order of the files; by default the files with the fewest tests come last."""
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that no long file comes last, when only one worker is busy."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="module")
def modules_exempt_from_garbage_collection() -> None:
    """Exempt what has been imported so far: each of MMEngine's data sets collects garbage when it is built."""
    gc.collect()
    gc.freeze()


def _left_as_found() -> Iterator[None]:
    """Remove the default scopes, loggers and message hubs that a test made, and the folders it added to ``sys.path``.

    In another's default scope, names would be looked up in our registries. Runs that start within a second have one
    name, and would share a logger with a closed stream. A module would be found in the folder of another test: configs
    with ``custom_imports`` add theirs.
    """
    managers = (DefaultScope, MMLogger, MessageHub)
    before = [dict(manager._instance_dict) for manager in managers]
    folders = list(sys.path)
    yield
    sys.path[:] = folders
    for manager, instances in zip(managers, before, strict=True):
        manager._instance_dict.clear()
        manager._instance_dict.update(instances)


# Of a module too, since the fixtures of a module may make some before its first test begins.
left_as_found_by_module = pytest.fixture(autouse=True, scope="module", name="left_as_found_by_module")(_left_as_found)
left_as_found = pytest.fixture(autouse=True, name="left_as_found")(_left_as_found)
