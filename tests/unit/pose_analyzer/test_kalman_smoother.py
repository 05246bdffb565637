"""kalman_smoother: equal to filterpy, calm at rest, prompt in motion, honest in gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter

from pose_analyzer.kalman_smoother import KalmanConfig, KalmanSmoother
from pose_analyzer.motion_model import make_step
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.types import BoolArray, FloatArray, TrackedPose

BOX = (100.0, 100.0, 400.0, 900.0)
SIZE = float(np.hypot(300.0, 800.0))
PLAIN = KalmanConfig(adaptive=False, gated=False, moving_jerk=2.0, two_way_jerk=2.0)


def tracked(
    keypoints: FloatArray,
    confidence: FloatArray | float = 1.0,
    ids: Sequence[int] | None = None,
    box: Sequence[float] = BOX,
) -> TrackedPose:
    people = len(keypoints)
    seen = np.isfinite(keypoints).all(-1)
    return TrackedPose(
        np.array(range(people) if ids is None else ids, dtype=np.intp),
        keypoints,
        np.where(seen, confidence, 0.0),
        np.tile(np.array(box), (people, 1)),
        np.zeros(seen.shape, dtype=np.bool_),
        np.full(keypoints.shape, np.nan),
        0 if people else None,
    )


def everywhere(*points: tuple[float, float]) -> FloatArray:
    """Return people whose keypoints all lie at one point each."""
    return np.repeat(np.array(points, dtype=np.float64)[:, None], N_KEYPOINTS, axis=1)


def minimum_jerk(share: FloatArray) -> FloatArray:
    share = np.clip(share, 0.0, 1.0)
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def reps(
    time_s: FloatArray, travel_px: float, rep_s: float = 2.5, rest_s: float = 0.5
) -> FloatArray:
    """Return a path that goes away and comes back in minimum-jerk phases, shape (T,)."""
    phase = np.mod(time_s, rep_s + rest_s) - rest_s
    half = rep_s / 2.0
    return travel_px * (minimum_jerk(phase / half) - minimum_jerk((phase - half) / half))


def filtered(
    smoother: KalmanSmoother, clip: FloatArray, time_s: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return keypoints, velocities and predicted flags of a clip (T, P, K, 2)."""
    poses = [
        smoother.update(tracked(points), float(at)) for points, at in zip(clip, time_s, strict=True)
    ]
    return (
        np.stack([pose.keypoints for pose in poses]),
        np.stack([pose.velocity_px_s for pose in poses]),
        np.stack([pose.predicted for pose in poses]),
    )


def oracle(
    config: KalmanConfig, size_px: float, first: FloatArray, variance: float
) -> KalmanFilter:
    """Return filterpy's filter of one point, begun as ours."""
    point = KalmanFilter(dim_x=6, dim_z=2)
    point.x = np.array([first[0], 0.0, 0.0, first[1], 0.0, 0.0])
    start = [
        variance,
        (config.start_speed * size_px) ** 2,
        (config.start_acceleration * size_px) ** 2,
    ]
    point.P = np.diag(start * 2)
    point.H = np.zeros((2, 6))
    point.H[0, 0] = point.H[1, 3] = 1.0
    return point


def set_step(point: KalmanFilter, config: KalmanConfig, size_px: float, dt_s: float) -> None:
    one = np.array([[1.0, dt_s, dt_s**2 / 2.0], [0.0, 1.0, dt_s], [0.0, 0.0, 1.0]])
    point.F = np.kron(np.eye(2), one)
    density = (config.moving_jerk * size_px) ** 2
    point.Q = Q_continuous_white_noise(3, dt_s, density, block_size=2)


def noise_variance(config: KalmanConfig, size_px: float, confidence: float) -> float:
    return max(config.noise_size * size_px, config.min_noise_px) ** 2 / confidence**2


@pytest.mark.parametrize("dt_s", [1.0 / 120.0, 1.0 / 30.0, 0.7])
def test_process_noise_and_transition_equal_filterpy(dt_s: float) -> None:
    step = make_step(dt_s, KalmanConfig())
    upper = np.triu_indices(3)
    np.testing.assert_allclose(
        step.process_noise[:, 0, 0], Q_continuous_white_noise(3, dt_s)[upper], rtol=1e-12
    )
    root = np.random.default_rng(0).normal(size=(3, 3))
    full = root @ root.T
    np.testing.assert_allclose(
        step.covariance_transition @ full[upper],
        (step.transition @ full @ step.transition.T)[upper],
        rtol=1e-12,
    )


def test_states_equal_filterpy_for_any_dt_missing_points_and_several_people() -> None:
    rng = np.random.default_rng(7)
    config = replace(PLAIN, max_gap_s=10.0)
    smoother = KalmanSmoother(config)
    people, watched = 3, (0, 9, 20)
    position = rng.normal(500.0, 100.0, (people, N_KEYPOINTS, 2))
    confidence = rng.uniform(0.4, 1.0, (people, N_KEYPOINTS))
    time_s, filters = 0.0, {}
    for frame in range(60):
        dt_s = float(rng.uniform(0.01, 0.08))
        time_s += dt_s
        position += rng.normal(0.0, 6.0, position.shape)
        missing = (rng.random((people, N_KEYPOINTS)) < 0.2) & (frame > 0)
        measured = np.where(missing[..., None], np.nan, position)
        pose = smoother.update(tracked(measured, confidence), time_s)
        for person in range(people):
            for index in watched:
                variance = noise_variance(config, SIZE, confidence[person, index])
                if frame == 0:
                    first = position[person, index]
                    filters[person, index] = oracle(config, SIZE, first, variance)
                    continue
                point = filters[person, index]
                set_step(point, config, SIZE, dt_s)
                point.predict()
                point.R = np.eye(2) * variance
                point.update(None if missing[person, index] else position[person, index])
                np.testing.assert_allclose(
                    pose.keypoints[person, index], point.x[[0, 3]], rtol=1e-9
                )
                np.testing.assert_allclose(
                    pose.velocity_px_s[person, index], point.x[[1, 4]], rtol=1e-8, atol=1e-8
                )
        np.testing.assert_array_equal(pose.predicted, missing)


def test_two_way_smoothing_equals_filterpy() -> None:
    rng = np.random.default_rng(3)
    config = replace(PLAIN, max_gap_s=10.0)
    times = np.cumsum(rng.uniform(0.02, 0.05, 40))
    clip = np.cumsum(rng.normal(0.0, 5.0, (40, 2, 2)), axis=0)
    seen = rng.random((40, 2)) > 0.2
    seen[[0, -1]] = True
    smoothed = KalmanSmoother(config).smooth(
        times, np.where(seen[..., None], clip, np.nan), seen * 0.8, SIZE
    )
    variance = noise_variance(config, SIZE, 0.8)
    for index in range(2):
        point = oracle(config, SIZE, clip[0, index], variance)
        point.R = np.eye(2) * variance
        states, covariances, transitions, noises = [point.x], [point.P], [np.eye(6)], [np.eye(6)]
        for frame in range(1, 40):
            set_step(point, config, SIZE, float(times[frame] - times[frame - 1]))
            point.predict()
            point.update(clip[frame, index] if seen[frame, index] else None)
            states.append(point.x)
            covariances.append(point.P)
            transitions.append(point.F)
            noises.append(point.Q)
        # filterpy takes entry k of its lists for the step from k to k + 1.
        expected = point.rts_smoother(np.array(states), np.array(covariances), transitions, noises)[
            0
        ][:, [0, 3]]
        np.testing.assert_allclose(smoothed[:, index], expected, rtol=1e-8)


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_a_still_athlete_stays_still(fps: float) -> None:
    rng = np.random.default_rng(1)
    time_s = np.arange(int(8 * fps)) / fps
    clip = everywhere((500.0, 500.0))[None] + rng.normal(0.0, 3.0, (len(time_s), 1, N_KEYPOINTS, 2))
    points, _, _ = filtered(KalmanSmoother(), clip, time_s)
    moved = np.linalg.norm(np.diff(points[int(fps) :], axis=0), axis=-1)
    assert np.percentile(moved, 95) <= 1.0
    assert moved.max() <= 5.0


@pytest.mark.parametrize("rep_s", [2.0, 3.0])
def test_motion_is_followed_without_lag_and_without_loss_of_range(rep_s: float) -> None:
    rng = np.random.default_rng(2)
    time_s = np.arange(360) / 30.0
    path = reps(time_s, 200.0, rep_s)
    clip = everywhere((500.0, 500.0))[None] + np.stack([0.0 * path, path], axis=-1)[:, None, None]
    noisy = clip + rng.normal(0.0, 3.0, (360, 1, N_KEYPOINTS, 2))
    points, _, _ = filtered(KalmanSmoother(), noisy, time_s)
    # The mean over the keypoints is free of noise but not of bias.
    mean = points[30:, 0, :, 1].mean(axis=1) - 500.0
    shifts_s = np.arange(-0.1, 0.1, 0.001)
    errors = [((mean - np.interp(time_s[30:] - s, time_s, path)) ** 2).mean() for s in shifts_s]
    assert abs(shifts_s[int(np.argmin(errors))]) <= 1.0 / 30.0
    assert np.ptp(mean) == pytest.approx(200.0, rel=0.02)
    # Calm at rest costs a little at each start: no more than the noise itself.
    error = np.sqrt(((points - clip)[30:] ** 2).sum(-1).mean())
    assert error < 1.1 * np.sqrt(((noisy - clip)[30:] ** 2).sum(-1).mean())


def test_two_way_smoothing_is_closer_to_the_truth_than_one_way() -> None:
    rng = np.random.default_rng(5)
    time_s = np.arange(180) / 30.0
    path = np.stack([reps(time_s, 100.0), reps(time_s, 200.0)], axis=-1)[:, None]
    clip = np.repeat(path, N_KEYPOINTS, axis=1)
    noisy = clip + rng.normal(0.0, 3.0, clip.shape)
    smoother = KalmanSmoother()
    one_way = filtered(smoother, noisy[:, None], time_s)[0][:, 0]
    two_way = smoother.smooth(time_s, noisy, np.ones(clip.shape[:2]), SIZE)
    inner = slice(20, -5)
    assert np.square(two_way - clip)[inner].mean() < 0.6 * np.square(one_way - clip)[inner].mean()


def test_velocity_is_that_of_a_steady_motion() -> None:
    time_s = np.arange(60) / 30.0
    clip = everywhere((0.0, 0.0))[None] + (time_s[:, None] * [90.0, -60.0])[:, None, None]
    _, velocity, _ = filtered(KalmanSmoother(), clip, time_s)
    np.testing.assert_allclose(velocity[-1, 0], np.tile([90.0, -60.0], (N_KEYPOINTS, 1)), rtol=0.02)


def test_the_result_does_not_depend_on_scale_or_place() -> None:
    rng = np.random.default_rng(4)
    time_s = np.arange(60) / 30.0
    clip = rng.normal(500.0, 5.0, (60, 1, N_KEYPOINTS, 2))
    one, two = KalmanSmoother(), KalmanSmoother()
    for at, points in zip(time_s, clip, strict=True):
        a = one.update(tracked(points), float(at))
        b = two.update(tracked(3.0 * points + 40.0, box=[3.0 * side for side in BOX]), float(at))
    np.testing.assert_allclose(b.keypoints, 3.0 * a.keypoints + 40.0, rtol=1e-9)  # type: ignore[possibly-undefined]


def test_a_short_gap_is_predicted_marked_and_left() -> None:
    time_s = np.arange(40) / 30.0
    clip = everywhere((0.0, 0.0))[None] + (time_s * 90.0)[:, None, None, None]
    gap = clip.copy()
    gap[30:36, 0, 7] = np.nan
    smoother = KalmanSmoother()
    poses = [smoother.update(tracked(p), float(t)) for p, t in zip(gap, time_s, strict=True)]
    points = np.stack([pose.keypoints for pose in poses])
    predicted = np.stack([pose.predicted for pose in poses])
    np.testing.assert_allclose(points[30:36, 0, 7], clip[30:36, 0, 7], atol=4.0)
    assert predicted[30:36, 0, 7].all()
    assert predicted.sum() == 6
    assert all(pose.confidence[0, 7] == 0.0 for pose in poses[30:36])


def test_prediction_through_a_gap_of_a_noisy_motion_stays_near() -> None:
    rng = np.random.default_rng(15)
    time_s = np.arange(90) / 30.0
    path = reps(time_s, 200.0, rep_s=2.0, rest_s=1.0)
    clip = np.repeat(everywhere((500.0, 500.0))[None], 90, axis=0)
    clip[..., 1] += path[:, None, None]
    noisy = clip + rng.normal(0.0, 3.0, clip.shape)
    noisy[42:48] = np.nan
    points, _, predicted = filtered(KalmanSmoother(), noisy, time_s)
    assert predicted[42:48].all()
    error = np.linalg.norm((points - clip)[42:48], axis=-1)
    # A momentary acceleration that was carried on would be wrong by twice that.
    assert np.percentile(error, 95) < 70.0


def test_a_long_gap_is_nan_and_the_point_starts_anew() -> None:
    time_s = np.arange(45) / 30.0
    clip = np.repeat(everywhere((100.0, 100.0))[None], 45, axis=0)
    clip[20:35, 0, 3] = np.nan
    clip[35:, 0, 3] = 700.0
    points, velocity, predicted = filtered(KalmanSmoother(), clip, time_s)
    assert np.isfinite(points[20:26, 0, 3]).all()
    assert np.isnan(points[28:35, 0, 3]).all()
    assert np.isnan(velocity[28:35, 0, 3]).all()
    assert not predicted[28:, 0, 3].any()
    np.testing.assert_allclose(points[35:, 0, 3], 700.0)


def test_a_pause_of_the_whole_stream_starts_everything_anew() -> None:
    smoother = KalmanSmoother()
    for frame in range(10):
        smoother.update(tracked(everywhere((100.0 + 9.0 * frame, 100.0))), frame / 30.0)
    pose = smoother.update(tracked(everywhere((900.0, 100.0))), 2.0)
    np.testing.assert_array_equal(pose.keypoints, everywhere((900.0, 100.0)))
    assert (pose.velocity_px_s == 0.0).all()


def test_a_point_without_confidence_is_not_measured_wherever_it_is() -> None:
    smoother = KalmanSmoother()
    points = everywhere((100.0, 100.0))
    phantom = tracked(points)
    phantom.keypoints[0, 4] = 0.0
    phantom.confidence[0, 4] = 0.0
    for frame in range(5):
        pose = smoother.update(phantom, frame / 30.0)
        assert np.isnan(pose.keypoints[0, 4]).all()
        assert not pose.predicted.any()


def test_an_outlier_is_rejected_and_bridged() -> None:
    time_s = np.arange(40) / 30.0
    clip = np.repeat(everywhere((100.0, 100.0))[None], 40, axis=0)
    clip[30, 0, 5] = 300.0
    smoother = KalmanSmoother()
    poses = [smoother.update(tracked(p), float(t)) for p, t in zip(clip, time_s, strict=True)]
    np.testing.assert_allclose(poses[30].keypoints[0, 5], 100.0, atol=1.0)
    assert poses[30].predicted[0].tolist() == [index == 5 for index in range(N_KEYPOINTS)]
    assert poses[30].confidence[0, 5] == 0.0
    assert not poses[31].predicted.any()


def test_a_jump_that_lasts_is_believed_after_three_frames() -> None:
    time_s = np.arange(40) / 30.0
    clip = np.repeat(everywhere((100.0, 100.0))[None], 40, axis=0)
    clip[30:] += 400.0
    points, _, predicted = filtered(KalmanSmoother(), clip, time_s)
    assert predicted[30:32].all()
    np.testing.assert_allclose(points[32:], 500.0)


def test_a_punch_is_not_locked_out_by_the_gate() -> None:
    # From rest with 10 body sizes/s² to 4 m/s, then on at that speed: a punch, a kick.
    time_s = np.arange(50) / 30.0
    moving_s = np.clip(time_s - 1.0, 0.0, None)
    faster_s = np.minimum(moving_s, 0.24)
    path = 10.0 * SIZE * (0.5 * faster_s**2 + 0.24 * (moving_s - faster_s))
    clip = everywhere((0.0, 100.0))[None] + np.stack([path, 0.0 * path], axis=-1)[:, None, None]
    points, _, predicted = filtered(KalmanSmoother(), clip, time_s)
    assert predicted.sum(axis=0).max() <= 2
    np.testing.assert_allclose(points[40:, 0, :, 0], path[40:, None].repeat(21, 1), rtol=0.05)


def test_fast_repetitions_are_followed() -> None:
    # The hands of a jumping jack: half a body size in 0.4 s.
    time_s = np.arange(240) / 30.0
    path = reps(time_s, 0.5 * SIZE, rep_s=0.8, rest_s=0.0)
    clip = everywhere((0.0, 100.0))[None] + np.stack([path, 0.0 * path], axis=-1)[:, None, None]
    points, _, predicted = filtered(KalmanSmoother(), clip, time_s)
    assert not predicted[30:].any()
    assert np.ptp(points[30:, 0, 0, 0]) == pytest.approx(0.5 * SIZE, rel=0.05)


def test_people_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(6)
    clip = rng.normal(300.0, 4.0, (30, 2, N_KEYPOINTS, 2))
    together, alone = KalmanSmoother(), KalmanSmoother()
    for frame, points in enumerate(clip):
        a = together.update(tracked(points), frame / 30.0)
        b = alone.update(tracked(points[1:], ids=[1]), frame / 30.0)
        np.testing.assert_allclose(a.keypoints[1], b.keypoints[0], rtol=1e-12)


def test_rows_that_change_places_keep_their_state() -> None:
    rng = np.random.default_rng(8)
    clip = rng.normal(300.0, 4.0, (30, 2, N_KEYPOINTS, 2))
    plain, shuffled = KalmanSmoother(), KalmanSmoother()
    for frame, points in enumerate(clip):
        order = [0, 1] if frame % 3 else [1, 0]
        a = plain.update(tracked(points), frame / 30.0)
        b = shuffled.update(tracked(points[order], ids=order), frame / 30.0)
        np.testing.assert_array_equal(a.keypoints[order], b.keypoints)


def test_a_person_absent_for_a_moment_goes_on_as_if_unseen() -> None:
    rng = np.random.default_rng(9)
    clip = np.cumsum(rng.normal(2.0, 1.0, (30, 1, N_KEYPOINTS, 2)), axis=0)
    config = replace(PLAIN, gated=True)
    with_row, without_row = KalmanSmoother(config), KalmanSmoother(config)
    unseen = np.full((1, N_KEYPOINTS, 2), np.nan)
    nobody = np.empty((0, N_KEYPOINTS, 2))
    for frame, points in enumerate(clip):
        away = 15 <= frame < 19
        a = with_row.update(tracked(unseen if away else points), frame / 30.0)
        b = without_row.update(tracked(nobody if away else points), frame / 30.0)
        if not away:
            # The held size fades once a frame there, and not at all here.
            np.testing.assert_allclose(a.keypoints, b.keypoints, rtol=1e-9)


def test_another_person_in_the_same_place_starts_anew() -> None:
    smoother = KalmanSmoother()
    for frame in range(10):
        smoother.update(tracked(everywhere((100.0, 100.0))), frame / 30.0)
    pose = smoother.update(tracked(everywhere((104.0, 100.0)), ids=[5]), 10 / 30.0)
    np.testing.assert_array_equal(pose.keypoints, everywhere((104.0, 100.0)))


def test_a_person_back_after_the_limit_starts_anew() -> None:
    smoother = KalmanSmoother()
    for frame in range(10):
        smoother.update(tracked(everywhere((100.0, 100.0))), frame / 30.0)
    for frame in range(10, 20):
        smoother.update(tracked(everywhere((500.0, 100.0)), ids=[1]), frame / 30.0)
    pose = smoother.update(tracked(everywhere((104.0, 100.0), (500.0, 100.0))), 20 / 30.0)
    np.testing.assert_array_equal(pose.keypoints[0], everywhere((104.0, 100.0))[0])


def test_a_box_that_is_none_keeps_the_size_that_was_held() -> None:
    rng = np.random.default_rng(10)
    clip = rng.normal(300.0, 4.0, (20, 1, N_KEYPOINTS, 2))
    whole, broken = KalmanSmoother(), KalmanSmoother()
    for frame, points in enumerate(clip):
        a = whole.update(tracked(points), frame / 30.0)
        b = broken.update(tracked(points, box=BOX if frame < 10 else (np.nan,) * 4), frame / 30.0)
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=0.5)


def test_results_do_not_change_afterwards() -> None:
    smoother = KalmanSmoother()
    first = smoother.update(tracked(everywhere((100.0, 100.0))), 0.0)
    kept = first.keypoints.copy()
    smoother.update(tracked(everywhere((120.0, 100.0))), 0.1)
    np.testing.assert_array_equal(first.keypoints, kept)


def test_input_is_not_modified() -> None:
    pose = tracked(everywhere((100.0, 100.0)))
    pose.confidence[0, 3] = 0.0
    before = pose.keypoints.copy(), pose.confidence.copy()
    KalmanSmoother().update(pose, 0.0)
    np.testing.assert_array_equal(pose.keypoints, before[0])
    np.testing.assert_array_equal(pose.confidence, before[1])


def test_many_different_time_steps_do_not_pile_up() -> None:
    rng = np.random.default_rng(11)
    smoother, time_s = KalmanSmoother(), 0.0
    for _ in range(600):
        time_s += float(rng.uniform(0.01, 0.05))
        smoother.update(tracked(everywhere((100.0, 100.0))), time_s)
    assert len(smoother._steps) <= 256


def test_reset_equals_new() -> None:
    rng = np.random.default_rng(12)
    time_s = np.arange(30) / 30.0
    clip = rng.normal(300.0, 4.0, (30, 2, N_KEYPOINTS, 2))
    used = KalmanSmoother()
    filtered(used, clip + 50.0, time_s + 5.0)
    used.reset()
    for a, b in zip(
        filtered(used, clip, time_s), filtered(KalmanSmoother(), clip, time_s), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("time_s", [1.0, 0.5, float("nan"), float("inf")])
def test_time_must_increase(time_s: float) -> None:
    smoother = KalmanSmoother()
    smoother.update(tracked(everywhere((1.0, 1.0))), 1.0)
    with pytest.raises(ValueError, match="time_s must increase"):
        smoother.update(tracked(everywhere((1.0, 1.0))), time_s)


def test_an_id_may_stand_in_one_row_only() -> None:
    with pytest.raises(ValueError, match="different"):
        KalmanSmoother().update(tracked(everywhere((1.0, 1.0), (2.0, 2.0)), ids=[3, 3]), 0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"noise_size": 0.0}, {"max_gap_s": float("nan")}, {"still_jerk": 9.0}, {"max_rejected": 0}],
)
def test_wrong_settings_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KalmanConfig(**wrong)  # type: ignore[arg-type]


def test_two_way_smoothing_bridges_short_gaps_only_between_measurements() -> None:
    times = np.arange(60) / 30.0
    path = 300.0 + 90.0 * times
    clip = np.repeat(np.stack([path, path], axis=-1)[:, None], 3, axis=1)
    seen = np.ones((60, 3), dtype=np.bool_)
    seen[20:26, 0] = False
    seen[20:35, 1] = False
    seen[:4, 2] = seen[-4:, 2] = False
    smoothed = KalmanSmoother().smooth(times, clip, seen.astype(np.float64), SIZE)
    known = seen.copy()
    known[20:26, 0] = True
    np.testing.assert_array_equal(np.isfinite(smoothed).all(-1), known)
    np.testing.assert_allclose(smoothed[known], clip[known], atol=1.5)


def test_two_way_smoothing_does_not_smooth_across_a_jump() -> None:
    times = np.arange(60) / 30.0
    clip = np.full((60, 2, 2), 100.0)
    clip[30:] = 500.0
    smoothed = KalmanSmoother().smooth(times, clip, np.ones((60, 2)), SIZE)
    np.testing.assert_allclose(smoothed[:30], 100.0, atol=1.0)
    np.testing.assert_allclose(smoothed[32:], 500.0, atol=1.0)
    assert np.isnan(smoothed[30:32]).all()


def test_two_way_smoothing_finds_the_size_itself_and_takes_short_clips() -> None:
    rng = np.random.default_rng(13)
    clip = rng.normal(300.0, 50.0, (1, 4, 2)) + rng.normal(0.0, 2.0, (20, 4, 2))
    times, sure = np.arange(20) / 30.0, np.ones((20, 4))
    extent = float(np.hypot(*np.ptp(clip, axis=1).T).max())
    smoother = KalmanSmoother()
    np.testing.assert_array_equal(
        smoother.smooth(times, clip, sure), smoother.smooth(times, clip, sure, extent)
    )
    np.testing.assert_array_equal(smoother.smooth(times[:1], clip[:1], sure[:1]), clip[:1])
    assert smoother.smooth(times[:0], clip[:0], sure[:0]).shape == (0, 4, 2)
    unseen = np.full((5, 4, 2), np.nan)
    assert np.isnan(smoother.smooth(times[:5], unseen, np.zeros((5, 4)))).all()


def test_two_way_smoothing_leaves_the_stream_alone() -> None:
    rng = np.random.default_rng(14)
    clip = rng.normal(300.0, 4.0, (20, 1, N_KEYPOINTS, 2))
    times = np.arange(20) / 30.0
    disturbed, plain = KalmanSmoother(), KalmanSmoother()
    filtered(disturbed, clip[:10], times[:10])
    disturbed.smooth(times, clip[:, 0], np.ones((20, N_KEYPOINTS)))
    filtered(plain, clip[:10], times[:10])
    np.testing.assert_array_equal(
        filtered(disturbed, clip[10:], times[10:])[0], filtered(plain, clip[10:], times[10:])[0]
    )


@pytest.mark.parametrize(
    ("times", "points", "confidence"),
    [
        (np.zeros(3), np.zeros((3, 2, 2)), np.ones((3, 2))),
        (np.arange(4.0), np.zeros((3, 2, 2)), np.ones((3, 2))),
        (np.arange(3.0), np.zeros((3, 2, 3)), np.ones((3, 2))),
        (np.arange(3.0), np.zeros((3, 2, 2)), np.ones((3, 4))),
    ],
)
def test_a_clip_that_does_not_fit_is_refused(
    times: FloatArray, points: FloatArray, confidence: FloatArray
) -> None:
    with pytest.raises(ValueError, match=r"times|confidence"):
        KalmanSmoother().smooth(times, points, confidence)
