"""Annotator: what is drawn where, in which colour, and what is not drawn."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercises import JointGoal
from pose_analyzer.report.annotate import LEFT, OTHERS, RIGHT, Annotator
from pose_analyzer.report.hud import AMBER, CUE_FRESH_S, GREEN, RED, design_unit, score_color
from pose_analyzer.report.sprites import Sprite, Text
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX, N_JOINTS, N_KEYPOINTS
from pose_analyzer.types import (
    BoolArray,
    Cue,
    FloatArray,
    FrameAnalysis,
    ImageArray,
    JointAngles,
    Motion,
    TrackedPose,
)

WIDTH, HEIGHT = 1280, 720
BACKGROUND = 60
BODY = {
    "nose": (700, 200),
    "left_shoulder": (760, 260),
    "right_shoulder": (640, 260),
    "left_elbow": (800, 340),
    "right_elbow": (600, 340),
    "left_wrist": (820, 420),
    "right_wrist": (580, 420),
    "left_hip": (740, 420),
    "right_hip": (660, 420),
    "left_knee": (750, 520),
    "right_knee": (650, 520),
    "left_ankle": (750, 620),
    "right_ankle": (650, 620),
}


def body(shift_px: float = 0.0) -> FloatArray:
    points = np.full((N_KEYPOINTS, 2), np.nan)
    for name, place in BODY.items():
        points[KEYPOINT_INDEX[name]] = place
    points[:, 0] += shift_px
    return points


def analysis(
    *people: FloatArray,
    confidence: float = 0.9,
    predicted: BoolArray | None = None,
    athlete: int | None = 0,
    deg: FloatArray | None = None,
) -> FrameAnalysis:
    n = len(people)
    pose = TrackedPose(
        np.arange(n),
        np.stack(people) if people else np.empty((0, N_KEYPOINTS, 2)),
        np.full((n, N_KEYPOINTS), confidence),
        np.zeros((n, 4)),
        np.zeros((n, N_KEYPOINTS), np.bool_) if predicted is None else predicted,
        np.zeros((n, N_KEYPOINTS, 2)),
        athlete if n else None,
    )
    deg = np.full(N_JOINTS, np.nan) if deg is None else deg
    angles = JointAngles(deg, np.full(N_JOINTS, 3.0), 80.0)
    motion = Motion(0.1, 0.0, "away", np.zeros(N_JOINTS))
    return FrameAnalysis(0, 1.0, pose, angles, motion, 3, (), 87.0, None)


def blank() -> ImageArray:
    return np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)


def drawn(
    one: FrameAnalysis, annotator: Annotator | None = None, image: ImageArray | None = None
) -> ImageArray:
    image = blank() if image is None else image
    (annotator or Annotator(load_exercise("squat"))).draw(image, one)
    return image


def changed(image: ImageArray) -> BoolArray:
    return np.asarray((image != BACKGROUND).any(axis=2))


def at(image: ImageArray, name: str) -> tuple[int, ...]:
    x, y = BODY[name]
    return tuple(int(value) for value in image[y, x])


def test_left_and_right_have_their_colours() -> None:
    image = drawn(analysis(body()))
    assert at(image, "left_knee") == LEFT
    assert at(image, "right_knee") == RIGHT
    assert tuple(image[570, 750]) == LEFT
    assert tuple(image[570, 650]) == RIGHT


def test_limbs_end_where_a_point_is_missing() -> None:
    points = body()
    points[KEYPOINT_INDEX["left_knee"]] = np.nan
    image = drawn(analysis(points))
    assert at(image, "left_knee") == (BACKGROUND,) * 3
    assert not changed(image)[440:600, 735:765].any()
    assert at(image, "left_ankle") == LEFT


def test_nothing_of_a_body_is_drawn_where_nothing_was_seen() -> None:
    image = drawn(analysis(np.full((N_KEYPOINTS, 2), np.nan)))
    assert not changed(image)[:, 400:].any()


def test_unsure_points_are_hollow() -> None:
    unsure = drawn(analysis(body(), confidence=0.1))
    guess = np.zeros((1, N_KEYPOINTS), np.bool_)
    guess[0, KEYPOINT_INDEX["left_wrist"]] = True
    predicted = drawn(analysis(body(), predicted=guess))
    for image in (unsure, predicted):
        assert at(image, "left_wrist") == (BACKGROUND,) * 3
        assert changed(image)[400:440, 800:840].any()
    assert at(predicted, "right_wrist") == RIGHT


def test_points_far_outside_do_no_harm() -> None:
    points = body()
    points[KEYPOINT_INDEX["left_ankle"]] = (1e12, -1e12)
    points[KEYPOINT_INDEX["right_ankle"]] = (-500.0, 5000.0)
    image = drawn(analysis(points))
    assert at(image, "left_knee") == LEFT


def test_other_people_are_thin_and_grey() -> None:
    image = drawn(analysis(body(), body(300.0)))
    np.testing.assert_allclose(image[570, 1050], OTHERS, atol=10)
    assert changed(image)[570, 1030:1070].sum() < changed(image)[570, 730:770].sum()


def test_with_two_people_and_no_athlete_all_are_grey() -> None:
    image = drawn(analysis(body(), body(300.0), athlete=None))
    np.testing.assert_allclose(image[570, 750], OTHERS, atol=10)


def test_angles_stand_outside_at_the_joints_of_the_goals() -> None:
    deg = np.full(N_JOINTS, 97.0)
    spec = replace(load_exercise("squat"), goals=(JointGoal("elbow", 170.0, 60.0, 10.0, "a test"),))
    plain = drawn(analysis(body()), Annotator(spec))
    image = drawn(analysis(body(), deg=deg), Annotator(spec))
    difference = (image != plain).any(axis=2)
    assert difference[320:360, 815:900].any()
    assert difference[320:360, 500:585].any()
    assert not difference[480:, :].any()


@pytest.mark.parametrize("joint", ["knee", "shin_lean", "trunk_lean"])
def test_every_kind_of_angle_has_a_place(joint: str) -> None:
    spec = replace(load_exercise("squat"), goals=(JointGoal(joint, 170.0, 60.0, 10.0, "a test"),))
    deg = np.full(N_JOINTS, 42.0)
    assert (drawn(analysis(body(), deg=deg), Annotator(spec)) != drawn(analysis(body()))).any()


def test_where_both_sides_lie_over_each_other_one_angle_is_written() -> None:
    spec = replace(load_exercise("squat"), goals=(JointGoal("knee", 170.0, 60.0, 10.0, "a test"),))
    points = body()
    points[KEYPOINT_INDEX["right_knee"]] = points[KEYPOINT_INDEX["left_knee"]] + 8.0
    both, left = np.full(N_JOINTS, 97.0), np.full(N_JOINTS, np.nan)
    left[JOINT_INDEX["left_knee"]] = 97.0
    sigma = np.full(N_JOINTS, 3.0)
    sigma[JOINT_INDEX["right_knee"]] = 9.0
    one = analysis(points, deg=both)
    one = replace(one, angles=JointAngles(both, sigma, 80.0))
    np.testing.assert_array_equal(
        drawn(one, Annotator(spec)), drawn(analysis(points, deg=left), Annotator(spec))
    )


def test_an_unsure_angle_looks_different() -> None:
    deg = np.full(N_JOINTS, 97.0)
    sure = analysis(body(), deg=deg)
    unsure = replace(sure, angles=JointAngles(deg, np.full(N_JOINTS, 30.0), 80.0))
    assert (drawn(sure) != drawn(unsure)).any()


def test_the_cue_fades_and_goes() -> None:
    annotator = Annotator(load_exercise("squat"))
    one = analysis()
    cue = Cue(1.0, "shallow_depth", "Go deeper", 1)
    strength = [
        (BACKGROUND - drawn(frame, annotator)[600:, 400:900].min(axis=2).astype(int)).max()
        for frame in (
            replace(one, cue=cue),
            replace(one, time_s=1.0 + 0.5 * CUE_FRESH_S),
            replace(one, time_s=1.0 + 0.9 * CUE_FRESH_S),
            replace(one, time_s=1.01 + CUE_FRESH_S),
        )
    ]
    assert strength[0] == strength[1] > strength[2] > strength[3] == 0


def test_a_long_cue_fits_a_narrow_picture() -> None:
    text = "Keep your knees in line with your toes, and go slowly on the whole way down"
    one = replace(analysis(), cue=Cue(1.0, "praise", text, 1))
    image = drawn(one, image=np.full((360, 202, 3), BACKGROUND, np.uint8))
    assert changed(image)[250:, 20:180].any()
    assert not changed(image)[250:, :3].any()
    assert not changed(image)[250:, -3:].any()


def test_signs_that_the_font_lacks_do_not_stop_it() -> None:
    one = replace(analysis(), cue=Cue(1.0, "praise", "Très bien – don’t stop 💪", 1))
    assert changed(drawn(one))[600:, 400:900].any()


@pytest.mark.parametrize(
    ("width", "height"), [(1920, 1080), (640, 360), (202, 360), (1080, 1920), (33, 17), (1, 1)]
)
def test_any_size_is_drawn_within_the_picture(width: int, height: int) -> None:
    scale = np.array([width / WIDTH, height / HEIGHT])
    one = analysis(body() * scale, deg=np.full(N_JOINTS, 90.0))
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    drawn(replace(one, cue=Cue(1.0, "x", "Go deeper", 1)), image=image)
    assert image.shape == (height, width, 3)
    assert changed(image).any() or min(width, height) < 20


def test_the_panel_shows_count_score_and_progress() -> None:
    annotator = Annotator(load_exercise("squat"))
    before = drawn(analysis(), annotator)
    for change in (
        replace(analysis(), rep_count=4),
        replace(analysis(), score=12.0),
        replace(analysis(), score=math.nan),
        replace(analysis(), motion=Motion(0.6, 0.0, "turn", np.zeros(N_JOINTS))),
        replace(analysis(), motion=Motion(np.nan, np.nan, "unknown", np.zeros(N_JOINTS))),
    ):
        assert (drawn(change, annotator) != before).any()


def test_the_progress_bar_fills_with_the_signal() -> None:
    annotator = Annotator(load_exercise("squat"))
    widths = []
    for index, signal in enumerate([0.0, 0.1, 0.2, 0.3]):
        motion = Motion(signal, 0.1, "away", np.zeros(N_JOINTS))
        one = replace(analysis(), time_s=0.1 * index, motion=motion)
        annotator.draw(blank(), replace(one, motion=replace(motion, signal=0.3)))
        image = drawn(replace(one, time_s=0.1 * index + 0.05), annotator)
        widths.append(int((image == AMBER).all(axis=2)[:200, :300].any(axis=0).sum()))
    assert widths[1] < widths[2] < widths[3]


def test_score_colours() -> None:
    assert (score_color(90.0), score_color(70.0), score_color(10.0)) == (GREEN, AMBER, RED)
    assert score_color(math.nan) not in {GREEN, AMBER, RED}


def test_without_goals_the_large_joints_are_labelled() -> None:
    spec = replace(load_exercise("squat"), goals=())
    deg = np.full(N_JOINTS, 97.0)
    difference = drawn(analysis(body(), deg=deg), Annotator(spec)) != drawn(
        analysis(body()), Annotator(spec)
    )
    assert difference[500:540].any()


def test_sprite_blends_as_the_painter_does() -> None:
    rng = np.random.default_rng(3)
    background = rng.integers(0, 255, (60, 200, 3), dtype=np.uint8)
    text = Text("Squat 97°", 0.9, 2, (40, 200, 90), outline=2)
    pasted = background.copy()
    text.draw(pasted, 20, 40)
    sprite = text.render()
    whole = Sprite.of(200, 60, lambda box: text.draw(box, 20, 40))
    again = background.copy()
    whole.paste(again, 0, 0)
    assert np.abs(pasted.astype(int) - again.astype(int)).max() <= 2
    assert sprite.gain.shape == sprite.light.shape


def test_pasting_over_the_edge_is_cut_off() -> None:
    sprite = Sprite.of(10, 10, lambda box: box.fill(255))
    image = np.zeros((20, 20, 3), np.uint8)
    sprite.paste(image, -5, 15)
    assert image[15:, :5].min() == 255
    assert image.sum() == 255 * 3 * 25
    sprite.paste(image, 40, 40)
    assert image.sum() == 255 * 3 * 25


def test_design_unit_follows_the_smaller_side_and_has_a_floor() -> None:
    assert design_unit(1920, 1080) == pytest.approx(1.0)
    assert design_unit(960, 540) == pytest.approx(0.5)
    assert design_unit(1, 1) == design_unit(202, 360)


def test_drawing_a_1080p_frame_is_fast() -> None:
    scale = np.array([1.5, 1.5])
    one = analysis(body() * scale, body(200.0) * scale, deg=np.full(N_JOINTS, 97.0))
    annotator = Annotator(load_exercise("squat"))
    image = np.zeros((1080, 1920, 3), np.uint8)
    best_s = math.inf
    for _ in range(30):
        start_s = time.perf_counter()
        annotator.draw(image, one)
        best_s = min(best_s, time.perf_counter() - start_s)
    assert best_s < 3e-3
