"""StreamTimeline: glitches are refused, a clock set anew is followed, what is placed increases."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from pose_analyzer.serving.stream_timeline import (
    MOST_AHEAD_S,
    MOST_LATE_S,
    N_TO_CONFIRM,
    StreamTimeline,
)

STEP_S = 1.0 / 30.0


def placed(times_s: list[float], every_s: float = STEP_S) -> list[float | None]:
    timeline = StreamTimeline()
    return [timeline.place(time_s, index * every_s) for index, time_s in enumerate(times_s)]


def running(n: int, first_s: float = 0.0) -> list[float]:
    return [first_s + index * STEP_S for index in range(n)]


@pytest.mark.parametrize("first_s", [0.0, -5.0, 1.7e9])
def test_times_that_increase_stay_as_they_are(first_s: float) -> None:
    assert placed(running(50, first_s)) == running(50, first_s)


@pytest.mark.parametrize("every_s", [0.0, 1e-3, 10.0])
def test_a_file_may_be_sent_faster_or_slower_than_it_was_taken(every_s: float) -> None:
    assert placed(running(50), every_s) == running(50)


@pytest.mark.parametrize("glitch_s", [1e9, -1e9, 0.0, 70.0])
def test_one_glitch_costs_one_frame(glitch_s: float) -> None:
    sent = running(20)
    sent[5] = glitch_s
    assert placed(sent) == [None if index == 5 else s for index, s in enumerate(running(20))]


@pytest.mark.parametrize("first_s", [0.0, -100.0, 1e9])
def test_a_clock_set_anew_costs_two_frames_and_time_goes_on(first_s: float) -> None:
    found = placed(running(60) + running(10, first_s))
    assert found[60:62] == [None] * (N_TO_CONFIRM - 1)
    assert found[:60] + found[62:] == pytest.approx(running(60) + running(70)[62:])


def test_frames_that_are_late_or_sent_again_are_not_taken_for_a_new_clock() -> None:
    sent = running(60)
    found = placed(sent[:40] + sent[20:])
    assert found == sent[:40] + [None] * 20 + sent[40:]


def test_a_first_frame_from_far_ahead_does_not_silence_the_stream() -> None:
    found = placed([1e9, *running(10)])
    assert found[1:3] == [None, None]
    assert found[3:] == pytest.approx([1e9 + index * STEP_S for index in range(3, 11)])


def test_frames_of_a_pause_may_be_far_apart() -> None:
    timeline = StreamTimeline()
    assert timeline.place(0.0, 0.0) == 0.0
    assert timeline.place(3600.0, 3600.0) == 3600.0
    assert timeline.place(3600.0 + MOST_AHEAD_S, 3600.0) == 3600.0 + MOST_AHEAD_S


def test_a_clock_that_stands_still_is_never_taken_for_a_new_one() -> None:
    assert placed([1.0] + [0.5] * 20) == [1.0] + [None] * 20


@given(st.lists(st.tuples(st.floats(-1e11, 1e11), st.floats(0.0, 100.0)), max_size=30))
def test_whatever_was_sent_a_good_sender_is_heard_and_what_is_placed_increases(
    sent: list[tuple[float, float]],
) -> None:
    timeline, now_s = StreamTimeline(), 0.0
    found = []
    for time_s, passed_s in sent:
        now_s += passed_s
        found.append(timeline.place(time_s, now_s))
    good = [timeline.place(time_s, now_s + time_s) for time_s in running(60)]
    assert None not in good[round(MOST_LATE_S / STEP_S) + N_TO_CONFIRM :]
    kept = [each for each in found + good if each is not None]
    assert all(later > sooner for sooner, later in itertools.pairwise(kept))
