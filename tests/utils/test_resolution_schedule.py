from itertools import pairwise
from typing import Any

import pytest

from proteus.utils.resolution_schedule import ResolutionSchedule, Segment


def schedule(*stages: Any, batch_size: int = 16, max_iters: int | None = 100, **options: Any) -> ResolutionSchedule:
    return ResolutionSchedule(list(stages), batch_size, max_iters, **options)


def test_stages_end_at_iterations_or_fractions() -> None:
    made = schedule(dict(size=112, end=0.6), dict(size=(112, 224), end=80, batch_size=8), dict(size=224))
    assert made.segments == (
        Segment(0, 60, (112, 112), 16),
        Segment(60, 80, (112, 224), 8),
        Segment(80, 100, (224, 224), 16),
    )
    assert [made.at(i).size for i in (0, 59, 60, 79, 80, 99, 1000)] == [
        *[(112, 112)] * 2,
        *[(112, 224)] * 2,
        *[(224, 224)] * 3,
    ]


def test_images_before_are_those_of_all_earlier_batches() -> None:
    made = schedule(
        dict(size=28, end=3, batch_size=5), dict(size=56, grow_from=28, end=10), dict(size=70, batch_size=7)
    )
    for iteration in range(30):
        assert made.images_before(iteration) == sum(made.at(i).batch_size for i in range(iteration))


def test_a_growing_stage_takes_every_size_for_equally_long() -> None:
    made = schedule(dict(grow_from=112, size=224, end=0.9), dict(size=224))
    grown = made.segments[:-1]
    assert [segment.size[0] for segment in grown] == list(range(112, 224, 14))
    assert {segment.end - segment.begin for segment in grown} == {10}
    # The last size of the stage is the next stage's.
    assert made.segments[-1] == Segment(80, 100, (224, 224), 16)
    assert all(one.end == other.begin for one, other in pairwise(made.segments))


def test_sizes_change_between_epochs_only() -> None:
    made = schedule(dict(size=70, end=7), dict(grow_from=28, size=56, end=95), dict(size=70), interval=20)
    begins = [segment.begin for segment in made.segments if segment.size[0] < 70]
    assert begins == [7, 27, 47]  # not 36 and 65


def test_a_short_stage_skips_sizes() -> None:
    made = schedule(dict(grow_from=112, size=224, end=3), dict(size=224))
    assert [(segment.begin, segment.size[0]) for segment in made.segments] == [(0, 140), (1, 182), (2, 224)]


def test_sides_that_grow_differently_stay_whole_patches() -> None:
    made = schedule(dict(grow_from=(56, 112), size=(84, 182), end=90), dict(size=(84, 182)))
    assert [segment.size for segment in made.segments] == [
        *[(56, 112), (56, 126), (70, 140), (70, 154), (84, 168), (84, 182)],
    ]


@pytest.mark.parametrize(("rule", "factor"), [(None, 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_constant_patches_and_the_learning_rate(rule: str | None, factor: float) -> None:
    stages = [dict(size=112, end=10), dict(size=168, end=20), dict(size=70, end=30, batch_size=16), dict(size=224)]
    made = schedule(*stages, constant_patches=True, scale_lr=rule)
    small, middle, own, large = made.segments
    assert (small.batch_size, small.lr_factor) == (64, factor)
    assert middle.batch_size == 24  # 16 * (224 / 168) ** 2 = 28.4, a multiple of 8
    assert own.batch_size == large.batch_size == 16
    assert own.lr_factor == large.lr_factor == 1.0


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        ([], {}, r"\.stages=\[\]: write a list"),
        ([112], {}, r"stages\[0\]=112: write a dict"),
        ([dict(size=100)], {}, r"stages\[0\]\.size=100: 100 px is not a multiple of patch_size=14; write 98 or 112"),
        ([dict(size=(112, 120))], {}, r"size=\(112, 120\): 120 px is not .*; write 112 or 126"),
        ([dict(size=5)], {}, "5 px is not .*; write 14$"),
        ([dict(size=224.0)], {}, r"stages\[0\]\.size=224\.0: write a side in pixels, or \(height, width\)"),
        (
            [dict(size=112, until=0.5)],
            {},
            r"\.until: unknown key .* takes: size, end, batch_size, grow_from",
        ),
        ([dict(sise=112)], {}, r"\.sise: unknown key of a stage; did you mean 'size'"),
        ([dict(end=1)], {}, r"stages\[0\]\.size: missing"),
        ([dict(size=112), dict(size=224)], {}, r"stages\[0\]\.end: missing"),
        ([dict(size=112, end=1.0), dict(size=224)], {}, r"stages\[0\]\.end=1\.0: write an iteration, or a fraction"),
        ([dict(size=112, end=100), dict(size=224)], {}, r"end=100: train_cfg.max_iters is 100; write less"),
        ([dict(size=28, end=9), dict(size=56, end=5), dict(size=70)], {}, r"stages\[1\]\.end=5: .* iteration 9"),
        ([dict(size=112, end=0.001), dict(size=224)], {}, r"end=0\.001, iteration 0: the stage begins at iteration 0"),
        ([dict(size=112, end=0.999), dict(size=224)], {}, r"end=0\.999, iteration 100: train_cfg\.max_iters is 100"),
        ([dict(size=112, end=0.5)], {}, r"stages\[0\]\.end=0\.5: the last stage .* remove end"),
        ([dict(size=112, end=0.5), dict(size=224)], {"max_iters": None}, r"end=0\.5 is a fraction of .*max_iters"),
        ([dict(size=112, batch_size=0)], {}, r"stages\[0\]\.batch_size=0: write a whole number"),
        ([dict(size=112, grow_from=112)], {}, r"stages\[0\]\.grow_from=112: write a smaller size than size=112"),
        ([dict(size=112, grow_from=56)], {"max_iters": None}, r"stages\[0\]\.grow_from: the run has no known end"),
        ([dict(size=112)], {"scale_lr": "cubic"}, r"scale_lr='cubic': choose from: None, 'linear', 'sqrt'"),
    ],
)
def test_mistakes_name_the_key_and_what_to_write(stages: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(*stages, **options)
