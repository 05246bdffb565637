"""An exercise names its phases, and the view that shows what is judged."""

from __future__ import annotations

import itertools

import pytest

from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.exercises import ALL_ROUND


def test_a_view_is_named_for_what_it_shows() -> None:
    squat = load_exercise("squat")
    views = squat.views_of(squat.judged)
    assert "depth" in views["from the side"]
    assert "knee valgus" in views["from the front"]
    assert set(views) == {"from the side", "from the front"}


@pytest.mark.parametrize("name", exercise_names())
def test_only_what_every_view_shows_asks_for_none(name: str) -> None:
    spec = load_exercise(name)
    for one in spec.judged:
        is_everywhere = (one.min_yaw_deg, one.max_yaw_deg) == ALL_ROUND
        assert bool(spec.view_of(one)) is not is_everywhere


@pytest.mark.parametrize("name", exercise_names())
def test_views_meet_without_overlap(name: str) -> None:
    views = sorted(load_exercise(name).views, key=lambda view: view.min_yaw_deg)
    assert (views[0].min_yaw_deg, views[-1].max_yaw_deg) == ALL_ROUND
    for one, following in itertools.pairwise(views):
        assert one.max_yaw_deg == following.min_yaw_deg


def test_phases_are_told_in_the_words_of_the_exercise() -> None:
    phases = load_exercise("squat").phases
    assert [phases.of(name) for name in ("rest", "away", "turn", "back", "unknown")] == [
        "standing",
        "descent",
        "bottom",
        "ascent",
        "",
    ]
