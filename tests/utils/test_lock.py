from pathlib import Path

import pytest
from runs import talk_to

from proteus.structures import LockedError
from proteus.utils import exclusive
from proteus.utils.lock import process_lock

HOLD = """
import sys, time
from proteus.utils import exclusive
from proteus.utils.lock import process_lock
with exclusive(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_by_the_name_of_the_first_until_that_is_killed(tmp_path: Path) -> None:
    with talk_to(HOLD, tmp_path) as (holder, output):
        assert output.readline() == "held\n"
        words = rf"in use by training, process {holder.pid} on "
        with pytest.raises(LockedError, match=words), exclusive(tmp_path, "training"):
            pass
        holder.kill()
        holder.join()
    with exclusive(tmp_path, "training"):
        pass


def test_it_can_be_taken_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path, "training"), pytest.raises(LockedError), exclusive(tmp_path, "training"):
            pass


def test_a_forked_child_that_outlives_its_parent_does_not_hold_it(tmp_path: Path) -> None:
    """As the workers of a data loader do for some seconds after the run was killed."""
    code = HOLD.replace('print("held"', "if not __import__('os').fork():\n        time.sleep(60)\n    print(\"held\"")
    with talk_to(code, tmp_path) as (holder, output):
        assert output.readline() == "held\n"
        holder.kill()
        holder.join()
        with exclusive(tmp_path, "training"):
            pass


def test_a_second_process_can_wait_for_the_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other ranks hear that it waits, again and again, so that none takes the run for dead."""
    news: list[str] = []
    monkeypatch.setattr("proteus.utils.lock.broadcast_object_list", lambda shared: news.extend(shared))
    monkeypatch.setattr("proteus.utils.lock._SECONDS_WITHOUT_NEWS", 0.2)
    code = HOLD.replace("time.sleep(60)", "time.sleep(1)\n    open(sys.argv[1] + '/done', 'w').close()")
    with talk_to(code, tmp_path) as (holder, output):
        assert output.readline() == "held\n"
        with exclusive(tmp_path, "training", wait=True):
            assert (tmp_path / "done").is_file()
    waiting = f"waiting: {tmp_path} is in use by training, process {holder.pid} on "
    assert capfd.readouterr().err.count(waiting) == 1
    assert len(news) > 2
    assert {*news[:-1]} == {""}


def test_a_process_lock_is_held_by_one_thread_at_a_time(tmp_path: Path) -> None:
    with process_lock(tmp_path / "lock") as held:
        assert held
        with process_lock(tmp_path / "lock", wait=False) as second:
            assert not second
    with process_lock(tmp_path / "lock", wait=False) as free:
        assert free
