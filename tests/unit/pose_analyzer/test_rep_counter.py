"""rep_counter: counts, partial repetitions, noise, boundaries of the clip."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pose_analyzer.exercises import SignalSpec
from pose_analyzer.rep_counter import RepCounter
from pose_analyzer.types import FloatArray, Rep, Stance

FPS = 30.0
CYCLE = SignalSpec(
    moving=("left_hip",),
    resting=("left_ankle",),
    rest="high",
    counted="cycle",
    min_range=0.08,
    full_share=0.5,
    min_duration_s=0.5,
    max_duration_s=12.0,
    source="test",
)
LIFT = replace(CYCLE, counted="lift", rest="low")


def path(*points: tuple[float, float], fps: float = FPS) -> FloatArray:
    """Return a signal through (seconds, value) by half cosines."""
    times = np.arange(0.0, points[-1][0], 1.0 / fps)
    signal = np.empty_like(times)
    for (t0, v0), (t1, v1) in itertools.pairwise(points):
        inside = (times >= t0) & (times < t1)
        share = (times[inside] - t0) / (t1 - t0)
        signal[inside] = v0 + (v1 - v0) * 0.5 * (1.0 - np.cos(np.pi * share))
    return signal


def reps_path(ranges: list[float], rep_s: float = 2.0, rest_s: float = 0.5) -> FloatArray:
    points = [(0.0, 0.0), (rest_s, 0.0)]
    for travel in ranges:
        t = points[-1][0]
        points += [(t + rep_s / 2, travel), (t + rep_s, 0.0), (t + rep_s + rest_s, 0.0)]
    return path(*points)


def count(
    signal: FloatArray,
    spec: SignalSpec = CYCLE,
    fps: float = FPS,
    stances: Sequence[Stance] | None = None,
) -> tuple[RepCounter, list[Rep]]:
    counter = RepCounter(spec)
    reps: list[Rep] = []
    for index, value in enumerate(signal):
        stance = Stance() if stances is None else stances[index]
        reps += counter.update(float(value), index / fps, index, stance)
    return counter, [*reps, *counter.finish()]


def full(reps: list[Rep]) -> int:
    return sum(not rep.is_partial for rep in reps)


@pytest.mark.parametrize("n", [0, 1, 2, 10])
@pytest.mark.parametrize("travel", [0.1, 0.25, 0.5])
def test_counts_every_repetition(n: int, travel: float) -> None:
    counter, reps = count(reps_path([travel] * n))
    assert counter.count == full(reps) == n
    assert [rep.number for rep in reps] == list(range(1, n + 1))


@pytest.mark.parametrize("seed", range(10))
def test_noise_neither_adds_nor_hides_repetitions(seed: int) -> None:
    signal = reps_path([0.25] * 8)
    noisy = signal + np.random.default_rng(seed).normal(scale=0.01, size=signal.shape)
    assert full(count(noisy)[1]) == 8


@pytest.mark.parametrize("seed", range(5))
def test_shaking_at_rest_is_no_repetition(seed: int) -> None:
    shaking = np.random.default_rng(seed).normal(scale=0.008, size=900)
    assert count(shaking)[1] == []


def test_the_times_are_those_of_the_movement() -> None:
    (rep,) = count(reps_path([0.3]))[1]
    assert rep.start_s == pytest.approx(0.5, abs=0.1)
    assert rep.turn_s == pytest.approx(1.5, abs=0.05)
    assert rep.end_s == pytest.approx(2.5, abs=0.1)
    assert rep.range == pytest.approx(0.3, abs=0.01)
    assert rep.away_s + rep.hold_s + rep.back_s == pytest.approx(rep.duration_s)
    assert rep.turn_index == pytest.approx(rep.turn_s * FPS, abs=1.0)


@pytest.mark.parametrize("seed", range(8))
def test_the_tempo_is_that_of_the_movement_in_spite_of_noise(seed: int) -> None:
    times = np.arange(0.0, 5.0, 1.0 / FPS)
    away, back = (np.clip(u, 0.0, 1.0) for u in ((times - 1.0) / 1.4, (times - 2.7) / 1.2))
    signal = 0.2 * (_minimum_jerk(away) - _minimum_jerk(back))
    noise = np.random.default_rng(seed).normal(scale=0.002, size=signal.shape)
    (rep,) = count(signal + noise)[1]
    assert rep.start_s == pytest.approx(1.0, abs=0.15)
    assert rep.away_s == pytest.approx(1.4, abs=0.25)
    assert rep.hold_s == pytest.approx(0.3, abs=0.25)
    assert rep.back_s == pytest.approx(1.2, abs=0.25)


def _minimum_jerk(u: FloatArray) -> FloatArray:
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)


def test_repetitions_do_not_overlap() -> None:
    reps = count(reps_path([0.3] * 6, rep_s=1.2, rest_s=1 / FPS))[1]
    for before, after in itertools.pairwise(reps):
        assert before.end_s <= after.start_s


def test_a_half_repetition_among_full_ones_is_partial() -> None:
    reps = count(reps_path([0.3, 0.3, 0.12, 0.3]))[1]
    assert [rep.is_partial for rep in reps] == [False, False, True, False]
    assert [rep.number for rep in reps] == [1, 2, 0, 3]


@pytest.mark.parametrize("share", [0.12, 0.25, 0.45])
@pytest.mark.parametrize("spec", [CYCLE, LIFT], ids=["cycle", "lift"])
def test_a_small_repetition_among_full_ones_is_partial(spec: SignalSpec, share: float) -> None:
    signal = reps_path([0.2, 0.2, 0.2 * share, 0.2])
    noise = np.random.default_rng(0).normal(scale=0.002, size=signal.shape)
    reps = count(signal + noise, spec)[1]
    assert [rep.is_partial for rep in reps] == [False, False, True, False]


def test_who_goes_on_with_shallower_repetitions_is_counted_again() -> None:
    reps = count(reps_path([0.4] * 3 + [0.15] * 6))[1]
    assert [rep.is_partial for rep in reps[-2:]] == [False, False]


def test_a_pause_at_the_far_end_is_one_repetition() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (4.0, 0.3), (5.0, 0.0), (6.0, 0.0))
    assert full(count(signal)[1]) == 1


def test_a_pause_on_the_way_back_is_part_of_the_repetition() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.2, 0.07), (2.6, 0.07), (3.0, 0.0), (4.0, 0.0))
    (rep,) = count(signal)[1]
    assert rep.end_s == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("spec", [CYCLE, LIFT], ids=["cycle", "lift"])
@pytest.mark.parametrize("halt", [0.06, 0.15, 0.24])
def test_a_stop_of_two_seconds_neither_ends_nor_splits_a_repetition(
    spec: SignalSpec, halt: float
) -> None:
    away = [(0.0, 0.0), (0.5, 0.0), (1.0, halt), (3.0, halt), (3.5, 0.3), (4.0, 0.3)]
    back = [(4.5, halt), (6.5, halt), (7.0, 0.0), (8.0, 0.0)]
    (rep,) = count(path(*away, *back), spec)[1]
    assert not rep.is_partial
    assert rep.range == pytest.approx(0.3, abs=0.01)


def test_a_bounce_at_the_far_end_is_one_repetition() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.0, 0.2), (2.5, 0.32), (3.5, 0.0), (4.5, 0.0))
    (rep,) = count(signal)[1]
    assert 1.5 < rep.turn_s < 2.5
    assert rep.hold_s > 0.5


def test_repetitions_without_full_lockout_are_counted_apart() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.2, 0.12), (3.0, 0.3), (4.0, 0.0), (5.0, 0.0))
    assert full(count(signal)[1]) == 2


def test_back_to_back_repetitions_without_rest_are_counted() -> None:
    assert full(count(reps_path([0.3] * 6, rep_s=1.2, rest_s=1 / FPS))[1]) == 6


def test_a_clip_that_starts_at_the_far_end_counts_from_the_next_repetition() -> None:
    signal = path((0, 0.3), (1.0, 0.0), (1.5, 0.0), (2.5, 0.3), (3.5, 0.0), (4.5, 0.0))
    assert full(count(signal)[1]) == 1


def test_a_clip_that_ends_on_the_way_leaves_a_partial_repetition() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.5, 0.0), (3.0, 0.0), (4.0, 0.28))
    reps = count(signal)[1]
    assert [rep.is_partial for rep in reps] == [False, True]
    assert reps[1].end_index == len(signal) - 1


def test_a_clip_that_ends_nearly_back_completes_the_repetition() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.4, 0.1))
    assert full(count(signal)[1]) == 1


def test_a_clip_that_ends_less_than_half_way_back_leaves_a_partial_repetition() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.4, 0.17))
    assert [rep.is_partial for rep in count(signal)[1]] == [True]


def test_a_clip_that_ends_in_a_small_movement_leaves_nothing() -> None:
    assert count(path((0, 0), (0.5, 0), (1.0, 0.06)))[1] == []


def test_finish_may_be_called_twice() -> None:
    counter, _ = count(path((0, 0), (0.5, 0), (1.5, 0.3)))
    assert counter.finish() == ()


def test_an_unseen_moment_does_not_end_a_repetition() -> None:
    signal = reps_path([0.3] * 3)
    signal[45:55] = np.nan
    assert full(count(signal)[1]) == 3


def test_the_count_does_not_depend_on_the_frame_rate() -> None:
    for fps in (12.0, 25.0, 60.0, 120.0):
        points = [(0.0, 0.0), (0.5, 0.0)]
        for _ in range(4):
            t = points[-1][0]
            points += [(t + 1, 0.3), (t + 2, 0.0), (t + 2.5, 0.0)]
        assert full(count(path(*points, fps=fps), fps=fps)[1]) == 4


@pytest.mark.parametrize("at", ["far", "way back"])
def test_who_stays_down_longer_than_a_repetition_lasts_starts_anew(at: str) -> None:
    spec = replace(CYCLE, max_duration_s=3.0)
    halt = 0.3 if at == "far" else 0.18
    stay = path((0, 0), (0.5, 0), (1.5, 0.3), (2.0, halt), (8.0, halt), (9.0, 0.0), (10.0, 0.0))
    assert full(count(stay, spec)[1]) == 0


def test_a_twitch_is_too_short_for_a_repetition() -> None:
    signal = path((0, 0), (1.0, 0), (1.1, 0.2), (1.2, 0.0), (2.0, 0.0))
    assert full(count(signal, replace(CYCLE, min_duration_s=1.0))[1]) == 0


def test_drifting_slowly_is_no_repetition_and_moves_the_level_of_rest() -> None:
    drift = np.linspace(0.0, 0.3, 1800)
    signal = np.concatenate((drift, 0.3 + reps_path([0.25] * 3)))
    assert full(count(signal)[1]) == 3


@pytest.mark.parametrize("ending", ["stays up", "puts down", "drops", "cut"])
def test_a_lift_counts_at_lockout(ending: str) -> None:
    points = [(0.0, 0.0), (0.5, 0.0), (1.5, 0.35)]
    points += {
        "stays up": [(4.0, 0.35)],
        "puts down": [(2.5, 0.0), (4.0, 0.0)],
        "drops": [(1.8, 0.0), (4.0, 0.0)],
        "cut": [],
    }[ending]
    _, reps = count(path(*points), LIFT)
    assert full(reps) == 1
    assert reps[0].end_s == reps[0].turn_s


def test_lifts_are_counted_one_by_one() -> None:
    assert full(count(reps_path([0.35] * 5), LIFT)[1]) == 5


def test_going_down_to_the_bar_is_no_lift() -> None:
    signal = path((0, 0.35), (1.0, 0.35), (2.0, 0.0), (3.0, 0.0), (4.0, 0.36), (6.0, 0.36))
    assert full(count(signal, LIFT)[1]) == 1


def test_a_lift_that_was_given_up_does_not_hide_the_next_one() -> None:
    signal = path((0, 0), (0.5, 0), (1.0, 0.05), (1.5, 0.01), (2.0, 0.05), (2.5, 0.0), (4.0, 0.35))
    assert full(count(signal, LIFT)[1]) == 1


def test_a_jerk_too_short_for_a_lift_does_not_hide_the_next_one() -> None:
    signal = path((0, 0), (1.0, 0), (1.2, 0.2), (1.4, 0.0), (2.0, 0.0), (3.0, 0.35), (4.0, 0.35))
    assert full(count(signal, LIFT)[1]) == 1


def test_shaking_in_the_lockout_is_no_second_lift() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.5, 0.25), (3.5, 0.33), (5.0, 0.3))
    assert full(count(signal, LIFT)[1]) == 1


def test_reset_equals_new() -> None:
    signal = reps_path([0.3, 0.3, 0.12, 0.3])
    counter, _ = count(signal)
    counter.reset()
    again: list[Rep] = []
    for index, value in enumerate(signal):
        again += counter.update(float(value), index / FPS, index)
    assert again == count(signal)[1]


def test_excursions_of_who_steps_are_none_where_the_feet_stay_planted() -> None:
    signal = reps_path([0.3] * 3)
    steps = [Stance(stepping=0.3 if index % 3 == 0 else 0.05) for index in range(signal.size)]
    planted = replace(CYCLE, feet="planted")
    assert count(signal, planted, stances=steps)[1] == []
    assert full(count(signal, CYCLE, stances=steps)[1]) == 3


def test_putting_a_foot_right_hides_no_repetition() -> None:
    signal = reps_path([0.3] * 3)
    steps = [Stance(stepping=0.3 if index % 6 == 0 else 0.05) for index in range(signal.size)]
    assert full(count(signal, replace(CYCLE, feet="planted"), stances=steps)[1]) == 3


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_who_comes_nearer_or_goes_away_repeats_nothing(factor: float) -> None:
    signal = reps_path([0.3])
    sizes = 500.0 * factor ** np.linspace(0.0, 1.0, signal.size)
    stances = [Stance(stature_px=size) for size in sizes.tolist()]
    assert count(signal, replace(CYCLE, feet="planted"), stances=stances)[1] == []


def test_a_cycle_from_outside_the_ready_posture_is_partial() -> None:
    signal = reps_path([0.3])
    ready = replace(CYCLE, ready=(0.3, 0.6))
    for height, is_partial in ((0.45, False), (0.2, True), (0.9, True)):
        stances = [Stance(height=height - value) for value in signal.tolist()]
        assert [one.is_partial for one in count(signal, ready, stances=stances)[1]] == [is_partial]


def test_a_posture_that_is_hardly_seen_blocks_no_repetition() -> None:
    signal = reps_path([0.3] * 2)
    stances = [Stance(height=-0.5 if index % 5 == 0 else np.nan) for index in range(signal.size)]
    assert full(count(signal, replace(CYCLE, ready=(0.3, 0.6)), stances=stances)[1]) == 2


def test_a_small_first_rise_of_the_hips_does_not_hide_the_lift() -> None:
    signal = path((0.0, 0.0), (1.0, 0.0), (1.6, 0.12), (2.2, 0.07), (4.0, 0.4), (5.0, 0.4))
    stances = [Stance(height=0.35 + value) for value in signal.tolist()]
    reps = count(signal, replace(LIFT, ready=(0.55, 1.0)), stances=stances)[1]
    assert [one.is_partial for one in reps] == [True, False]


def test_a_repetition_that_stays_short_of_rest_ends_where_it_halts() -> None:
    signal = path((0, 0), (0.5, 0), (1.5, 0.3), (2.5, 0.1), (9.0, 0.1))
    counter = RepCounter(CYCLE)
    reps = [
        rep
        for index, value in enumerate(signal)
        for rep in counter.update(float(value), index / FPS, index)
    ]
    assert [rep.number for rep in reps] == [1]
    assert reps[0].end_s < 3.0
