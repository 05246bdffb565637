"""SheddingPolicy: what goes first, what comes back, and that it never thrashes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from pose_analyzer.serving.load_shedding import (
    Action,
    LimitRate,
    Resume,
    SheddingConfig,
    SheddingPolicy,
    Suspend,
)
from pose_analyzer.serving.stream_state import StreamState

FLOOR_FPS = SheddingConfig().fps_steps[-1]
N_LIMITS = 3
"""Limits below the 30 frames a second that the streams here send."""


def stream(
    stream_id: str, *, opened_s: float = 0.0, priority: int = 0, fps: float = 30.0
) -> StreamState:
    return StreamState(stream_id, priority, opened_s, fps, None, False, None)


class Streams:
    """Streams that do as the policy says."""

    def __init__(self, *states: StreamState) -> None:
        self.by_id = {state.stream_id: state for state in states}

    def decide(self, policy: SheddingPolicy, share: float, now_s: float) -> tuple[Action, ...]:
        actions = policy.decide(share, list(self.by_id.values()), now_s)
        for action in actions:
            self.apply(action)
        return actions

    def apply(self, action: Action) -> None:
        state = self.by_id[action.stream_id]
        if isinstance(action, LimitRate):
            state = replace(state, max_fps=action.max_fps)
        else:
            state = replace(state, is_suspended=isinstance(action, Suspend))
        self.by_id[action.stream_id] = state

    def run(
        self, policy: SheddingPolicy, shares: Iterable[float], start_s: float = 0.0
    ) -> list[Action]:
        """Return all actions of one reading a second."""
        return [
            action
            for second, share in enumerate(shares)
            for action in self.decide(policy, share, start_s + second)
        ]


def four() -> Streams:
    return Streams(*(stream(name, opened_s=float(n)) for n, name in enumerate("abcd")))


def test_between_the_limits_nothing_is_done() -> None:
    assert four().run(SheddingPolicy(), [0.71, 0.89, 0.90, 0.70, 0.8] * 20) == []


def test_frame_rates_fall_evenly_newest_first_and_only_then_streams_go() -> None:
    actions = four().run(SheddingPolicy(), [0.92] * 60)
    limits = [LimitRate(name, fps) for fps in (15.0, 7.5, 5.0) for name in "dcba"]
    assert actions == [*limits, Suspend("d"), Suspend("c"), Suspend("b")]


def test_low_priority_goes_first_even_if_it_is_older() -> None:
    streams = Streams(stream("old", priority=0), stream("new", opened_s=9.0, priority=1))
    actions = streams.run(SheddingPolicy(), [0.92] * 60)
    assert [action.stream_id for action in actions] == ["old"] * 3 + ["new"] * 3 + ["old"]


def test_when_it_is_urgent_one_step_slows_every_stream() -> None:
    actions = four().run(SheddingPolicy(), [0.96])
    assert actions == [LimitRate(name, 15.0) for name in "dcba"]


def test_what_was_given_up_last_comes_back_first_and_all_of_it() -> None:
    streams, policy = four(), SheddingPolicy()
    shed = streams.run(policy, [0.92] * 60)
    restored = streams.run(policy, [0.5] * 200, start_s=60.0)
    assert [action.stream_id for action in restored] == [a.stream_id for a in shed[::-1]]
    assert streams.by_id == four().by_id
    assert not policy.is_shedding


def test_a_limit_that_the_owner_set_comes_back() -> None:
    streams, policy = Streams(replace(stream("a"), max_fps=12.0)), SheddingPolicy()
    assert streams.run(policy, [0.92]) == [LimitRate("a", 7.5)]
    assert streams.run(policy, [0.5] * 10, start_s=1.0) == [LimitRate("a", 12.0)]


def test_a_limit_that_the_owner_changed_meanwhile_stays_as_he_set_it() -> None:
    streams, policy = Streams(stream("a")), SheddingPolicy()
    streams.run(policy, [0.92])
    streams.apply(LimitRate("a", 10.0))
    assert streams.run(policy, [0.5] * 30, start_s=1.0) == []
    assert not policy.is_shedding


def test_limits_that_save_nothing_are_passed_over() -> None:
    streams = Streams(stream("slow", fps=4.0), stream("ten", opened_s=1.0, fps=10.0))
    assert streams.run(SheddingPolicy(), [0.92] * 10) == [
        LimitRate("ten", 7.5),
        LimitRate("ten", 5.0),
        Suspend("ten"),
    ]


def test_a_stream_whose_rate_is_unknown_is_taken_for_a_camera() -> None:
    streams = Streams(stream("a", fps=math.nan))
    assert streams.run(SheddingPolicy(), [0.92]) == [LimitRate("a", 15.0)]


def test_steps_keep_a_pause_so_that_memory_can_answer() -> None:
    streams, policy = four(), SheddingPolicy(SheddingConfig(shed_pause_s=10.0))
    assert [len(streams.decide(policy, 0.92, second)) for second in (0, 1, 9.9, 10, 19)] == [
        *(1, 0, 0),
        *(1, 0),
    ]


def test_memory_must_stay_low_before_anything_comes_back() -> None:
    streams, policy = four(), SheddingPolicy()
    streams.run(policy, [0.92])
    assert streams.run(policy, [0.5, 0.5, 0.5, 0.75] * 20, start_s=1.0) == []


def test_the_hold_doubles_after_each_relapse() -> None:
    streams, policy = Streams(stream("a"), stream("b")), SheddingPolicy()
    holds_s, now_s = [], 0.0
    for _ in range(4):
        while not streams.decide(policy, 0.92, now_s):
            now_s += 1.0
        low_s = now_s = now_s + 1.0
        while not streams.decide(policy, 0.5, now_s):
            now_s += 1.0
        holds_s.append(now_s - low_s)
    assert holds_s == [5.0, 10.0, 20.0, 40.0]


def test_when_the_others_left_a_suspended_stream_comes_back_however_full_it_is() -> None:
    streams, policy = four(), SheddingPolicy()
    streams.run(policy, [0.92] * 60)
    del streams.by_id["a"]
    assert streams.decide(policy, 0.99, 61.0) == (Resume("b"),)


def test_no_stream_stays_away_for_good_when_memory_can_no_longer_be_read() -> None:
    streams, policy = four(), SheddingPolicy()
    streams.run(policy, [0.92] * 60)
    assert streams.run(policy, [math.nan] * 59, start_s=60.0) == []
    streams.run(policy, [math.nan] * 200, start_s=119.0)
    assert streams.by_id == four().by_id


@given(st.lists(st.floats(0.70, 1.0), min_size=1, max_size=300))
def test_swinging_around_the_upper_limit_costs_one_action_a_stream_and_limit(
    shares: list[float],
) -> None:
    actions = four().run(SheddingPolicy(), shares)
    assert len(actions) <= 4 * (N_LIMITS + 1) - 1
    assert len(set(actions)) == len(actions)


@given(st.lists(st.floats(0.0, 0.90), min_size=1, max_size=300))
def test_swinging_around_the_lower_limit_only_gives_back(shares: list[float]) -> None:
    streams, policy = four(), SheddingPolicy()
    shed = streams.run(policy, [0.92] * 30)
    restored = streams.run(policy, shares, start_s=30.0)
    assert len(restored) <= len(shed)
    assert not any(isinstance(action, Suspend) for action in restored)


@settings(max_examples=25, deadline=None)
@given(low_s=st.integers(1, 60), high_s=st.integers(1, 10))
def test_swinging_over_both_limits_is_answered_ever_more_rarely(low_s: int, high_s: int) -> None:
    period = [0.3] * low_s + [0.93] * high_s
    duration_s = 3600
    config = SheddingConfig(restore_hold_max_s=math.inf)
    shares = (period * (duration_s // len(period) + 1))[:duration_s]
    actions = four().run(SheddingPolicy(config), shares)
    n_swings = math.log2(duration_s / config.restore_hold_s + 1.0) + 1.0
    assert len(actions) <= 2 * 4 * (N_LIMITS + 1) * n_swings


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(0.0, 1.0), st.just(math.nan)), min_size=1, max_size=200),
    st.lists(st.integers(0, 2), min_size=1, max_size=9),
)
def test_whatever_memory_does_one_stream_runs_none_falls_below_the_floor_and_all_come_back(
    shares: list[float], priorities: list[int]
) -> None:
    before = [stream(str(n), opened_s=n, priority=p) for n, p in enumerate(priorities)]
    streams, policy = Streams(*before), SheddingPolicy()
    for second, share in enumerate(shares):
        streams.decide(policy, share, float(2 * second))
        assert not all(state.is_suspended for state in streams.by_id.values())
        assert all((state.max_fps or 30.0) >= FLOOR_FPS for state in streams.by_id.values())
    streams.run(policy, [0.5] * 5000, start_s=1000.0)
    assert list(streams.by_id.values()) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"restore_below": 0.9},
        {"urgent_above": 0.8},
        {"fps_steps": ()},
        {"fps_steps": (5.0, 15.0)},
        {"fps_steps": (15.0, 0.0)},
        {"shed_pause_s": -1.0},
        {"restore_hold_max_s": 1.0},
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        SheddingConfig(**wrong)  # type: ignore[arg-type]  # a dict of one wrong value each
