"""A hold begins when it has settled, survives a short break, and lasts as long as it was kept."""

from __future__ import annotations

import math

import pytest

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.hold_timer import HoldTimer
from pose_analyzer.types import Rep

FPS = 20.0
IN, OUT = 0.5, 1.5
Part = tuple[float, float]


def timer() -> HoldTimer:
    spec = load_exercise("plank")
    assert spec.hold is not None
    return HoldTimer(spec.hold, spec.signal.min_duration_s)


def held(*parts: Part, by: HoldTimer | None = None) -> list[Rep]:
    """Return the holds of a signal given as parts of (seconds, value)."""
    by = by or timer()
    values = [value for seconds, value in parts for _ in range(round(seconds * FPS))]
    reps = [rep for i, value in enumerate(values) for rep in by.update(value, i / FPS, i)]
    return reps + list(by.finish())


def test_a_hold_is_one_full_repetition_with_its_time() -> None:
    (rep,) = held((3.0, OUT), (20.0, IN), (4.0, OUT))
    assert (rep.number, rep.is_partial) == (1, False)
    assert rep.start_s == pytest.approx(3.0)
    assert rep.hold_s == rep.duration_s == pytest.approx(20.0, abs=0.1)
    assert (rep.away_s, rep.back_s) == (0.0, 0.0)


def test_a_hold_cut_by_the_end_lasts_until_there() -> None:
    (rep,) = held((1.0, OUT), (12.0, IN))
    assert rep.hold_s == pytest.approx(12.0, abs=0.1)
    assert not rep.is_partial


@pytest.mark.parametrize("broken", [OUT, math.nan])
def test_a_short_break_does_not_end_a_hold_and_a_long_one_does(broken: float) -> None:
    (whole,) = held((8.0, IN), (1.0, broken), (8.0, IN))
    first, second = held((8.0, IN), (3.0, broken), (9.0, IN))
    assert whole.hold_s == pytest.approx(17.0, abs=0.1)
    assert [first.number, second.number] == [1, 2]
    assert first.end_s == pytest.approx(8.0, abs=0.1)
    assert second.hold_s == pytest.approx(9.0, abs=0.1)


def test_a_gap_without_frames_ends_a_hold() -> None:
    one = timer()
    for index in range(200):
        assert not one.update(IN, index / FPS, index)
    (rep,) = one.update(IN, 60.0, 201)
    assert rep.end_s == pytest.approx(9.95)


def test_a_short_hold_is_partial_and_not_counted() -> None:
    one = timer()
    (rep,) = held((1.0, OUT), (3.0, IN), (4.0, OUT), by=one)
    assert (rep.number, rep.is_partial, one.count) == (0, True, 0)


def test_passing_through_the_position_is_no_hold() -> None:
    assert held((2.0, OUT), (0.5, IN), (2.0, OUT), (0.5, IN), (2.0, OUT)) == []


def test_it_holds_only_once_settled() -> None:
    one = timer()
    told = []
    for index in range(60):
        one.update(IN, index / FPS, index)
        told.append(one.is_holding)
    assert told.index(True) == 20
    assert one.so_far() is not None


def test_reset_is_as_new() -> None:
    parts: tuple[Part, ...] = ((2.0, OUT), (9.0, IN), (3.0, OUT), (2.0, IN))
    one = timer()
    first = held(*parts, by=one)
    one.update(IN, 100.0, 2000)
    one.reset()
    assert held(*parts, by=one) == first
    assert one.count == 1
