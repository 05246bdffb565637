"""The detectors from outside: arguments, choice, lifetime, and what they see in a rendered set."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_analyzer.errors import DependencyMissingError, DetectorError, WeightsMissingError
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.pose_detector import (
    MediaPipePoseDetector,
    PoseDetector,
    YOLOPosev11Detector,
    make_detector,
)
from pose_analyzer.skeleton import KEYPOINT_INDEX, N_COCO, N_KEYPOINTS
from pose_analyzer.synthetic import Athlete, Camera, MotionSpec, synthesize
from pose_analyzer.synthetic.render import Renderer
from pose_analyzer.types import FloatArray, Frame, ImageArray

DATA = Path(os.environ.get("POSE_EVAL_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
YOLO_WEIGHTS = DATA / "weights" / "yolo11n-pose.onnx"
needs_yolo_weights = pytest.mark.skipif(
    not YOLO_WEIGHTS.is_file(), reason="needs weights/yolo11n-pose.onnx of the evaluation data"
)


def black(width: int = 320, height: int = 240) -> Frame:
    return Frame(np.zeros((height, width, 3), dtype=np.uint8), 0.0, 0)


@pytest.fixture(scope="session")
def squat() -> tuple[list[Frame], FloatArray]:
    """Return a few rendered frames of a squat from the side, and their true keypoints."""
    camera = Camera(yaw_deg=90.0, width=960, height=540)
    truth = synthesize(Athlete(), MotionSpec("squat", reps=1), camera)
    renderer = Renderer(camera)
    rows = range(10, 40, 3)
    frames = [Frame(renderer.frame(truth, row), float(truth.time_s[row]), row) for row in rows]
    return frames, truth.keypoints[list(rows)]


# --- arguments and choice ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openpose", "", "YOLO"])
def test_an_unknown_detector_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="auto, mediapipe, yolo"):
        make_detector(name)


@pytest.mark.parametrize(("name", "weights"), [("yolo", "a.task"), ("mediapipe", "a-pose.pt")])
def test_weights_for_the_other_detector_are_refused(name: str, weights: str) -> None:
    with pytest.raises(ValueError, match=r"needs a \."):
        make_detector(name, weights)


@pytest.mark.parametrize(
    ("weights", "says"),
    [("gone.task", "gone.task"), ("gone-pose.pt", "gone-pose.pt"), ("x/gone.onnx", "x/gone.onnx")],
)
def test_auto_takes_the_detector_that_the_weights_are_for(weights: str, says: str) -> None:
    with pytest.raises(WeightsMissingError, match=says):
        make_detector("auto", weights)


def test_yolo_without_weights_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSE_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WeightsMissingError, match=r"yolo11n-pose\.pt") as missing:
        make_detector("yolo")
    assert str(tmp_path / "weights") in str(missing.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: YOLOPosev11Detector("gone.pt", confidence=1.5), "confidence"),
        (lambda: YOLOPosev11Detector("gone.pt", confidence=-0.1), "confidence"),
        (lambda: YOLOPosev11Detector("gone.pt", image_size=100), "image_size"),
        (lambda: YOLOPosev11Detector("gone.pt", image_size=0), "image_size"),
        (lambda: YOLOPosev11Detector("gone.pt", threads=0), "threads"),
        (lambda: MediaPipePoseDetector(model_complexity=3), "model_complexity"),
        (lambda: MediaPipePoseDetector(max_people=0), "max_people"),
        (lambda: MediaPipePoseDetector(min_confidence=math.nan), "min_confidence"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], PoseDetector], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("missing", ["mediapipe", "ultralytics"])
def test_a_missing_library_is_named_with_its_extra(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    weights = tmp_path / "any-pose.pt"
    weights.touch()
    extra = {"mediapipe": "mediapipe", "ultralytics": "yolo"}[missing]
    with pytest.raises(DependencyMissingError, match=rf"pose-analyzer\[{extra}\]"):
        make_detector(*(("mediapipe",) if missing == "mediapipe" else ("yolo", str(weights))))


@pytest.mark.model
@pytest.mark.parametrize(("complexity", "name"), [(0, "lite"), (2, "heavy")])
def test_mediapipe_weights_that_are_not_packaged_are_named(complexity: int, name: str) -> None:
    with pytest.raises(WeightsMissingError, match=f"pose_landmark_{name}.tflite"):
        MediaPipePoseDetector(model_complexity=complexity)


@pytest.mark.model
def test_a_task_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.task"
    path.write_bytes(b"")
    with pytest.raises(DetectorError, match="cannot start"):
        make_detector("mediapipe", str(path))


# --- MediaPipe ------------------------------------------------------------------------------


@pytest.mark.model
def test_auto_without_a_gpu_is_mediapipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSE_WEIGHTS_DIR", str(YOLO_WEIGHTS.parent))
    with make_detector("auto", device="cpu") as detector:
        assert detector.name == "mediapipe-full"


@pytest.mark.model
def test_mediapipe_finds_the_rendered_athlete(squat: tuple[list[Frame], FloatArray]) -> None:
    frames, truth = squat
    with MediaPipePoseDetector() as detector:
        found = detector.detect(frames)
    assert [people.n_people for people in found] == [1] * len(frames)
    names = ["left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle"]
    rows = [KEYPOINT_INDEX[name] for name in names]
    error_px = np.linalg.norm(
        np.array([people.keypoints[0, rows] for people in found]) - truth[:, rows], axis=-1
    )
    assert float(np.median(error_px)) < 20.0
    assert all(np.isfinite(people.keypoints).all() for people in found)
    assert all(people.world_m is not None for people in found)


@pytest.mark.model
def test_metric_landmarks_have_the_size_of_a_person(squat: tuple[list[Frame], FloatArray]) -> None:
    with MediaPipePoseDetector() as detector:
        world_m = detector.detect(squat[0][:3])[-1].world_m
    assert world_m is not None
    hips, knee, ankle = (
        world_m[0, [KEYPOINT_INDEX[f"{side}_{joint}"] for side in ("left", "right")]].mean(axis=0)
        for joint in ("hip", "knee", "ankle")
    )
    assert np.linalg.norm(hips) < 0.1
    assert 0.2 < np.linalg.norm(knee - ankle) < 0.6
    assert ankle[1] > hips[1]


@pytest.mark.model
@pytest.mark.parametrize("max_people", [1, 2])
@pytest.mark.parametrize("tracking", [True, False])
def test_a_batch_equals_its_frames_one_by_one(
    squat: tuple[list[Frame], FloatArray], max_people: int, tracking: bool
) -> None:
    frames = squat[0][:4]
    with MediaPipePoseDetector(max_people=max_people, tracking=tracking) as detector:
        batch = detector.detect(frames)
        detector.reset()
        singly = [detector.detect([frame])[0] for frame in frames]
    for one, other in zip(batch, singly, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.confidence, other.confidence)


@pytest.mark.model
def test_reset_equals_a_new_detector(squat: tuple[list[Frame], FloatArray]) -> None:
    frames = squat[0]
    with MediaPipePoseDetector() as used, MediaPipePoseDetector() as new:
        used.detect(frames[5:])
        used.reset()
        pairs = zip(used.detect(frames[:4]), new.detect(frames[:4]), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one.keypoints, other.keypoints)


@pytest.mark.model
@pytest.mark.parametrize("max_people", [1, 2])
def test_nobody_is_seen_in_the_dark_and_the_athlete_may_return(
    squat: tuple[list[Frame], FloatArray], max_people: int
) -> None:
    frames = squat[0]
    dark = np.zeros_like(frames[0].image)
    pictures = [frames[0].image, dark, dark, frames[3].image, frames[4].image]
    stream = [Frame(image, index / 30.0, index) for index, image in enumerate(pictures)]
    with MediaPipePoseDetector(max_people=max_people) as detector:
        found = [people.n_people for people in detector.detect(stream)]
    assert found[1:3] == [0, 0]
    assert found[0] == found[-1] == 1


@pytest.mark.model
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (33, 1), (101, 57), (241, 427)])
def test_odd_picture_sizes_do_no_harm(shape: tuple[int, int]) -> None:
    with MediaPipePoseDetector() as detector:
        (found,) = detector.detect([black(shape[1], shape[0])])
    assert found.n_people == 0


@pytest.mark.model
@pytest.mark.parametrize(("top", "left"), [(0.45, 0.0), (0.0, 0.5), (0.25, 0.45)])
def test_half_a_body_has_no_confidence_in_what_is_cut_off(
    squat: tuple[list[Frame], FloatArray], top: float, left: float
) -> None:
    frames = squat[0]
    height, width = frames[0].image.shape[:2]
    crop = (slice(int(top * height), None), slice(int(left * width), None))
    cut = [Frame(frame.image[crop], frame.time_s, frame.index) for frame in frames]
    with MediaPipePoseDetector() as detector:
        for frame, found in zip(cut, detector.detect(cut), strict=True):
            edge = np.array(frame.image.shape[1::-1])
            far = (
                (found.keypoints < -0.02 * edge.max())
                | (found.keypoints > 1.02 * edge + 0.02 * edge.max())
            ).any(axis=-1)
            assert not found.confidence[far].any()
            assert (found.boxes >= 0.0).all()
            assert (found.boxes <= np.tile(edge, 2)).all()


@pytest.mark.model
def test_a_mirrored_view_is_taken_without_a_copy_by_the_caller(
    squat: tuple[list[Frame], FloatArray],
) -> None:
    frame = squat[0][0]
    view: ImageArray = frame.image[:, ::-1]
    with MediaPipePoseDetector(tracking=False) as detector:
        seen, copied = detector.detect(
            [Frame(view, 0.0, 0), Frame(np.ascontiguousarray(view), 0.1, 1)]
        )
    np.testing.assert_array_equal(seen.keypoints, copied.keypoints)
    assert seen.n_people == 1


@pytest.mark.model
def test_the_frame_is_not_changed(squat: tuple[list[Frame], FloatArray]) -> None:
    frame = squat[0][0]
    before = frame.image.copy()
    with MediaPipePoseDetector() as detector:
        detector.detect([frame])
    np.testing.assert_array_equal(frame.image, before)
    assert frame.image.flags.writeable


@pytest.mark.model
def test_two_people_are_found_without_a_download(
    squat: tuple[list[Frame], FloatArray],
) -> None:
    image = squat[0][0].image
    side_by_side = np.concatenate([image[:, 200:760], image[:, 200:760]], axis=1)
    with MediaPipePoseDetector(max_people=2) as detector:
        found = detector.detect([Frame(side_by_side, i / 30.0, i) for i in range(4)])[-1]
    assert found.n_people == 2
    left, right = sorted(found.boxes[:, 0])
    assert right - left == pytest.approx(560.0, abs=30.0)


@pytest.mark.model
def test_costs_are_counted_by_call_and_by_frame() -> None:
    with MediaPipePoseDetector() as detector:
        assert math.isnan(detector.stats().latency_ms_median)
        assert detector.detect([]) == []
        detector.detect([black(), black()])
        detector.detect([black()])
        stats = detector.stats()
    assert stats.n_frames == 3
    assert 0.0 < stats.latency_ms_median <= stats.latency_ms_p99
    assert stats.device_memory_bytes is None


@pytest.mark.model
def test_a_closed_detector_says_so() -> None:
    detector = MediaPipePoseDetector()
    detector.close()
    detector.close()
    with pytest.raises(DetectorError, match="closed"):
        detector.detect([black()])
    assert detector.stats().n_frames == 0


QUIET = """
import numpy as np
from pose_analyzer.pose_detector import MediaPipePoseDetector
from pose_analyzer.types import Frame
with MediaPipePoseDetector() as detector:
    detector.detect([Frame(np.zeros((90, 160, 3), dtype=np.uint8), 0.0, 0)])
    detector.reset()
import os
os.write(2, b"still here")
"""


@pytest.mark.model
@pytest.mark.slow
def test_mediapipe_prints_nothing_and_leaves_stderr_in_place() -> None:
    ran = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", QUIET], capture_output=True, timeout=120, check=True
    )
    assert (ran.stdout, ran.stderr) == (b"", b"still here")


# --- YOLO -----------------------------------------------------------------------------------


@pytest.mark.model
@needs_yolo_weights
def test_yolo_finds_the_rendered_athlete_without_feet(
    squat: tuple[list[Frame], FloatArray],
) -> None:
    frames, truth = squat
    with YOLOPosev11Detector(YOLO_WEIGHTS, "cpu") as detector:
        found = detector.detect(frames[:2])
    for people, points in zip(found, truth, strict=False):
        assert people.n_people >= 1
        rows = [KEYPOINT_INDEX[f"{side}_knee"] for side in ("left", "right")]
        assert float(np.abs(people.keypoints[0, rows] - points[rows]).max()) < 40.0
        assert np.isnan(people.keypoints[0, N_COCO:]).all()


@pytest.mark.model
@needs_yolo_weights
@pytest.mark.parametrize("shape", [(1, 1), (33, 1), (241, 427)])
def test_yolo_sees_nobody_in_the_dark(shape: tuple[int, int]) -> None:
    with YOLOPosev11Detector(YOLO_WEIGHTS, "cpu") as detector:
        (found,) = detector.detect([black(shape[1], shape[0])])
    assert found.n_people == 0
    assert found.keypoints.shape == (0, N_KEYPOINTS, 2)


@pytest.mark.model
@needs_yolo_weights
def test_a_jpeg_gives_what_its_picture_gives(squat: tuple[list[Frame], FloatArray]) -> None:
    data = cv2.imencode(".jpg", squat[0][0].image)[1]
    image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    with YOLOPosev11Detector(YOLO_WEIGHTS, "cpu") as detector:
        assert detector.is_on_cpu
        from_file, from_picture = detector.detect(
            [jpeg_frame(data.tobytes(), 0.0, 0), Frame(image, 0.0, 0)]
        )
    np.testing.assert_array_equal(from_file.keypoints, from_picture.keypoints)
    assert from_file.n_people >= 1


@pytest.mark.model
@pytest.mark.slow
@needs_yolo_weights
def test_our_onnx_path_equals_ultralytics_on_photographs() -> None:
    from pose_analyzer.inference.backends.ultralytics_model import UltralyticsPose

    paths = sorted((DATA / "images" / "coco_mini_val").rglob("*.jpg"))[:6]
    if not paths:
        pytest.skip("needs images/coco_mini_val of the evaluation data")
    images = [np.asarray(cv2.imread(str(path)), dtype=np.uint8) for path in paths]
    frames = [Frame(image, index / 30.0, index) for index, image in enumerate(images)]
    with YOLOPosev11Detector(YOLO_WEIGHTS, "cpu") as detector:
        ours = detector.detect(frames)
    theirs = UltralyticsPose(YOLO_WEIGHTS, 0.25, 640, "cpu").infer(frames)
    assert sum(people.n_people for people in ours) > 3
    for one, other, frame in zip(ours, theirs, frames, strict=True):
        edge = frame.image.shape[1::-1]
        # Ultralytics moves points outside to the edge.
        clipped = np.clip(one.keypoints[:, :N_COCO], 0.0, edge)
        measured = np.isfinite(clipped)
        difference = np.abs(clipped - other.keypoints[:, :N_COCO])[measured]
        assert float(difference.max(initial=0.0)) < 1.0
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1.0)
        np.testing.assert_allclose(one.box_confidence, other.box_confidence, atol=0.01)
