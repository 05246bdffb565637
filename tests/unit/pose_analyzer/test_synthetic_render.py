"""Pictures of the synthetic athlete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pose_analyzer.synthetic
from pose_analyzer.errors import DependencyMissingError, VideoWriteError
from pose_analyzer.skeleton import JOINT_INDEX, KEYPOINT_INDEX, KEYPOINT_NAMES
from pose_analyzer.synthetic import (
    LOOKS,
    Athlete,
    Camera,
    ClipSpec,
    Fault,
    MotionSpec,
    RenderConfig,
    Renderer,
    Tempo,
    Truth,
    load_truth,
    synthesize,
    synthesize_clip,
    write_clip,
)
from pose_analyzer.types import FloatArray, ImageArray

CLEAN = RenderConfig(noise=0.0, shutter=0.0)
SMALL = Camera(yaw_deg=90.0, width=480, height=270)
QUICK = Tempo(away_s=0.4, turn_s=0.1, back_s=0.4, rest_s=0.1, lead_s=0.1)


def made(exercise: str = "squat", camera: Camera = SMALL, girth: float = 1.0) -> Truth:
    return synthesize(Athlete(girth=girth), MotionSpec(exercise, reps=1, tempo=QUICK), camera)


def picture(truth: Truth, index: int = 0, config: RenderConfig = CLEAN) -> ImageArray:
    return Renderer(truth.camera, config=config).frame(truth, index)


def empty_room(camera: Camera) -> ImageArray:
    """Return the picture of a room whose athlete stands far outside it."""
    away = synthesize(motion=MotionSpec("stand", reps=1, x_m=60.0, tempo=QUICK), camera=camera)
    return picture(away)


def difference(first: ImageArray, second: ImageArray) -> FloatArray:
    return np.asarray(np.abs(first.astype(np.float64) - second.astype(np.float64)).max(axis=-1))


def test_a_frame_has_the_cameras_size() -> None:
    frame = picture(made())
    assert frame.shape == (270, 480, 3)
    assert frame.dtype == np.uint8


def test_frames_are_as_many_as_the_truth_has() -> None:
    truth = made()
    assert sum(1 for _ in Renderer(SMALL).frames(truth)) == truth.n_frames


@pytest.mark.parametrize("yaw_deg", [0.0, 45.0, 90.0, 180.0, -90.0])
@pytest.mark.parametrize("exercise", ["squat", "push_up", "jumping_jack"])
def test_the_drawn_body_covers_every_visible_keypoint(exercise: str, yaw_deg: float) -> None:
    camera = Camera(yaw_deg=yaw_deg, width=640, height=360)
    truth = made(exercise, camera)
    index = int(truth.travel.argmax())
    changed = difference(picture(truth, index), empty_room(camera)) > 6.0
    for name, (x, y), seen in zip(
        KEYPOINT_NAMES, truth.keypoints[index], truth.visible[index], strict=True
    ):
        if seen:
            patch = changed[int(y) - 1 : int(y) + 3, int(x) - 1 : int(x) + 3]
            assert patch.any(), name


def test_only_the_region_of_body_and_shadow_is_drawn() -> None:
    truth = made()
    changed = difference(picture(truth), empty_room(SMALL)) > 0.0
    x1, y1, x2, y2 = truth.boxes[0]
    rows, columns = np.nonzero(changed)
    margin = 25
    assert columns.min() >= x1 - margin
    assert columns.max() <= x2 + margin
    assert rows.min() >= y1 - margin
    assert rows.max() <= y2 + margin


def test_the_body_is_drawn_at_its_place_to_a_pixel() -> None:
    camera = Camera(yaw_deg=0.0, width=960, height=540)
    truth = made("stand", camera)
    rows, columns = np.nonzero(difference(picture(truth), empty_room(camera)) > 25.0)
    del rows
    # A body seen from the front reaches as far to the left as to the right.
    assert 0.5 * (columns.min() + columns.max()) == pytest.approx(479.5, abs=1.5)


def test_the_far_leg_is_darker_than_the_near_one() -> None:
    truth = made("stand", Camera(yaw_deg=70.0))
    frame = picture(truth).astype(np.float64)

    def brightness(side: str) -> float:
        knee = truth.keypoints[0, KEYPOINT_INDEX[f"{side}_knee"]]
        ankle = truth.keypoints[0, KEYPOINT_INDEX[f"{side}_ankle"]]
        x, y = (0.6 * knee + 0.4 * ankle).astype(int)
        return float(frame[y - 3 : y + 4, x - 8 : x + 9].mean())

    assert brightness("left") > brightness("right") + 5.0


def test_the_same_seed_draws_the_same_picture() -> None:
    truth = made()
    noisy = RenderConfig(noise=4.0, seed=7)
    assert np.array_equal(picture(truth, 3, noisy), picture(truth, 3, noisy))
    assert not np.array_equal(
        picture(truth, 3, noisy), picture(truth, 3, RenderConfig(noise=4.0, seed=8))
    )


def test_noise_has_the_wanted_strength_and_changes_from_frame_to_frame() -> None:
    truth = made("stand")
    renderer = Renderer(SMALL, config=RenderConfig(noise=4.0))
    first, second = renderer.frame(truth, 0), renderer.frame(truth, 1)
    sky = np.s_[10:60, 10:200]
    grain = first[sky].astype(np.float64) - picture(truth)[sky]
    assert grain.std() == pytest.approx(4.0, rel=0.1)
    assert not np.array_equal(first[sky], second[sky])
    channels = np.corrcoef(grain.reshape(-1, 3).T)
    assert np.abs(channels[np.triu_indices(3, 1)]).max() < 0.1


def test_an_open_shutter_blurs_what_moves_and_not_what_rests() -> None:
    camera = Camera(yaw_deg=90.0, width=1280, height=720)
    truth = made("biceps_curl", camera)
    fastest = int(np.abs(np.diff(truth.travel)).argmax())
    blurred = RenderConfig(noise=0.0, shutter=1.0)
    change = difference(picture(truth, fastest), picture(truth, fastest, blurred))
    x, y = truth.keypoints[fastest, KEYPOINT_INDEX["left_wrist"]].astype(int)
    assert change[y - 40 : y + 40, x - 60 : x + 40].max() > 20.0
    foot = truth.keypoints[fastest, KEYPOINT_INDEX["left_heel"]].astype(int)
    assert change[foot[1] - 10 : foot[1] + 10, foot[0] - 20 : foot[0] + 20].max() <= 2.0


def test_a_contact_shadow_darkens_the_floor_under_the_body() -> None:
    camera = Camera(yaw_deg=90.0, pitch_deg=15.0, width=960, height=540)
    truth = made("push_up", camera)
    room, frame = empty_room(camera).astype(np.float64), picture(truth).astype(np.float64)
    hip = truth.joints_m[0, KEYPOINT_INDEX["left_knee"]]
    x, y = camera.project(np.array([hip[0], hip[1] + 0.12, 0.0])).astype(int)
    assert frame[y, x].mean() < 0.95 * room[y, x].mean()


def test_other_looks_have_other_colours() -> None:
    first = synthesize(Athlete(look=LOOKS[0]), MotionSpec("stand", reps=1), SMALL)
    second = synthesize(Athlete(look=LOOKS[1]), MotionSpec("stand", reps=1), SMALL)
    assert difference(picture(first), picture(second)).max() > 60.0


def test_girth_widens_the_body_and_not_the_head() -> None:
    camera = Camera(yaw_deg=0.0, width=960, height=540)
    slim, stout = made("stand", camera, girth=0.8), made("stand", camera, girth=1.4)
    room = empty_room(camera)

    def width_at(truth: Truth, name: str) -> int:
        row = int(truth.keypoints[0, KEYPOINT_INDEX[name], 1])
        return int(np.count_nonzero(difference(picture(truth), room)[row, 380:580] > 25.0))

    assert width_at(stout, "left_knee") > 1.3 * width_at(slim, "left_knee")
    assert width_at(stout, "nose") == pytest.approx(width_at(slim, "nose"), abs=2)


def test_people_in_the_background_are_drawn_behind_the_athlete() -> None:
    athlete = made()
    behind = synthesize(
        Athlete(look=LOOKS[1]), MotionSpec("stand", reps=1, y_m=-1.5, tempo=QUICK), SMALL
    )
    beside = synthesize(
        Athlete(look=LOOKS[1]), MotionSpec("stand", reps=1, x_m=1.2, y_m=-1.5, tempo=QUICK), SMALL
    )
    alone = picture(athlete)
    hip = athlete.keypoints[0, KEYPOINT_INDEX["left_hip"]].astype(int)
    hidden = Renderer(SMALL, [behind], CLEAN).frame(athlete, 0)
    assert difference(hidden, alone)[hip[1], hip[0]] <= 2.0
    visible = Renderer(SMALL, [beside], CLEAN).frame(athlete, 0)
    other = beside.keypoints[0, KEYPOINT_INDEX["left_hip"]].astype(int)
    assert difference(visible, alone)[other[1], other[0]] > 20.0


def test_a_body_partly_outside_the_picture_is_drawn_up_to_its_edge() -> None:
    camera = Camera(yaw_deg=0.0, distance_m=1.5, aim_height_m=1.5, width=480, height=270)
    frame = picture(made("stand", camera))
    assert difference(frame, empty_room(camera))[-1].max() > 25.0


def test_a_body_that_reaches_the_lens_is_not_drawn() -> None:
    camera = Camera(yaw_deg=0.0, distance_m=0.3, width=480, height=270)
    assert picture(made("stand", camera)).shape == (270, 480, 3)


@pytest.mark.parametrize("pitch_deg", [-60.0, 0.0, 60.0])
def test_the_room_can_be_seen_from_any_height(pitch_deg: float) -> None:
    camera = Camera(yaw_deg=20.0, pitch_deg=pitch_deg, width=320, height=180, distance_m=3.0)
    assert picture(made("stand", camera)).std() > 5.0


def test_another_camera_is_refused() -> None:
    truth = made()
    with pytest.raises(ValueError, match="use one camera"):
        next(Renderer(Camera()).frames(truth))
    with pytest.raises(ValueError, match="use one camera"):
        Renderer(Camera(), [truth])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="noise"):
        RenderConfig(noise=-1.0)
    with pytest.raises(ValueError, match="shutter"):
        RenderConfig(shutter=1.5)
    with pytest.raises(ValueError, match="bystanders"):
        ClipSpec(bystanders=9)
    with pytest.raises(ValueError, match="look"):
        ClipSpec(look=99)
    with pytest.raises(ValueError, match="even"):
        ClipSpec(width=641)
    with pytest.raises(ValueError, match="reps must be at least 1, got 0"):
        ClipSpec(reps=0)


def small_clip(bystanders: int = 0) -> ClipSpec:
    return ClipSpec(
        reps=1,
        width=320,
        height=180,
        fps=15.0,
        tempo=QUICK,
        faults=(Fault("pause", 0.1),),
        bystanders=bystanders,
    )


def test_a_clip_comes_with_its_truth(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    done: list[tuple[int, int]] = []
    out = tmp_path / "clip.mp4"
    truth = synthesize_clip(small_clip(bystanders=2), out, lambda *at: done.append(at))
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (320, 180)
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        times = [frame.time for frame in file.decode(stream)]
    assert times == pytest.approx(truth.time_s.tolist(), abs=1e-3)
    assert load_truth(out).motion == truth.motion
    assert done[-1] == (truth.n_frames, truth.n_frames)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"clip.mp4", "clip.truth.npz", "clip.truth.json"}


def test_a_clip_starts_with_its_index(tmp_path: Path) -> None:
    pytest.importorskip("av")
    synthesize_clip(small_clip(), tmp_path / "clip.mp4")
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    pytest.importorskip("av")
    out = tmp_path / "a" / "b" / "clip.mp4"
    synthesize_clip(small_clip(), out)
    assert load_truth(out).rep_count == 1


@pytest.mark.parametrize("out", ["file/clip.mp4", "file/below/clip.mp4", "folder.mp4", "no.mp4"])
def test_a_place_that_cannot_be_written_is_named_before_anything_is_drawn(
    out: str, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "no.truth.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    drawn: list[int] = []
    with pytest.raises(VideoWriteError, match=rf"^cannot write .*{out}: \S.*; ") as caught:
        synthesize_clip(small_clip(), tmp_path / out, lambda done, _: drawn.append(done))
    assert "\n" not in str(caught.value)
    assert drawn == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_clip_that_breaks_off_leaves_the_one_before(tmp_path: Path) -> None:
    pytest.importorskip("av")
    out = tmp_path / "clip.mp4"
    synthesize_clip(small_clip(), out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def stop(done: int, of: int) -> None:
        if done == of:
            raise OSError(28, "No space left on device")

    with pytest.raises(VideoWriteError, match="No space left on device"):
        synthesize_clip(small_clip(bystanders=1), out, stop)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("folder", [".", "a/b"])
def test_a_clip_that_breaks_off_leaves_nothing_behind(folder: str, tmp_path: Path) -> None:
    pytest.importorskip("av")

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize_clip(small_clip(), tmp_path / folder / "clip.mp4", stop)
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DependencyMissingError, match=r"pip install 'pose-analyzer\[video\]'"):
        synthesize_clip(small_clip(), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_odd_picture_cannot_be_encoded(tmp_path: Path) -> None:
    truth = made(camera=Camera(width=321, height=180))
    with pytest.raises(ValueError, match="even"):
        write_clip(tmp_path / "clip.mp4", truth, Renderer(truth.camera))


def test_motion_and_truth_need_no_opencv() -> None:
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "from pose_analyzer import synthetic, errors\n"
        "assert synthetic.synthesize().rep_count == 10\n"
        "try:\n    synthetic.Renderer\n"
        "except errors.DependencyMissingError as exc:\n    print(exc)\n"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install 'pose-analyzer[video]'" in done.stdout


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rendrer'"):
        getattr(pose_analyzer.synthetic, "Rendrer")  # noqa: B009 - mypy would see the typing error
    assert all(hasattr(pose_analyzer.synthetic, name) for name in pose_analyzer.synthetic.__all__)


@pytest.mark.model
def test_mediapipe_finds_the_squatting_athlete_from_the_side() -> None:
    mediapipe = pytest.importorskip("mediapipe")
    truth = synthesize(motion=MotionSpec("squat", reps=1), camera=Camera(yaw_deg=90.0))
    renderer = Renderer(truth.camera)
    errors = []
    with mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1) as detector:
        for index in np.linspace(0, truth.n_frames - 1, 7).astype(int).tolist():
            found = detector.process(np.ascontiguousarray(renderer.frame(truth, index)[..., ::-1]))
            assert found.pose_landmarks is not None
            marks = found.pose_landmarks.landmark
            hip, knee, ankle = (
                np.array([marks[k].x * 1920, marks[k].y * 1080]) for k in (23, 25, 27)
            )
            u, v = hip - knee, ankle - knee
            cosine = u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
            errors.append(
                np.degrees(np.arccos(cosine)) - truth.deg[index, JOINT_INDEX["left_knee"]]
            )
    assert np.abs(errors).mean() < 5.0
