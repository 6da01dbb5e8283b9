import pytest

from proteus.datasets import PackagedPhotographs


def test_both_splits_are_read() -> None:
    try:
        train, held_out = (PackagedPhotographs(split) for split in ("train", "held-out"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert (len(train), len(held_out)) == (74, 40)
    paths = [{one.get_data_info(i)["img_path"] for i in range(len(one))} for one in (train, held_out)]
    assert not paths[0] & paths[1]
    assert train.get_data_info(0)["img_path"].startswith("/")


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="'train', 'held-out'"):
        PackagedPhotographs("test")
