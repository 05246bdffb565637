"""analyze_video: the same as one by one, whole or nothing, and what the summary says."""

from __future__ import annotations

import dataclasses
import math
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from pose_analyzer.errors import DetectorError, VideoError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercises import CriterionSpec, ExerciseSpec
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import DetectorStats, PoseDetector
from pose_analyzer.report.video_writer import AnnotatedVideo, VideoWriter
from pose_analyzer.skeleton import KEYPOINT_INDEX, KEYPOINT_NAMES
from pose_analyzer.synthetic import (
    Athlete,
    Camera,
    MotionSpec,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import (
    ClipSummary,
    Frame,
    FrameAnalysis,
    PoseDetections,
    RepAnalysis,
)
from pose_analyzer.video_processor import FrameSink, analyze_video
from pose_analyzer.video_source import VideoFile

NOBODY = PoseDetections.empty()


@dataclass
class _Clip:
    """A source of blank frames."""

    n: int
    fps: float = 30.0
    name: str = "clip.mp4"
    width: int = 64
    height: int = 48
    warnings: tuple[str, ...] = ()
    fails_at: int = -1

    @property
    def n_frames_estimate(self) -> int | None:
        return self.n

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.n):
            if index == self.fails_at:
                raise VideoError("the camera is gone")
            image = np.full((self.height, self.width, 3), index % 256, np.uint8)
            yield Frame(image, index / self.fps, index)


@dataclass
class _Replay:
    """A detector that knows what to find."""

    found: Sequence[PoseDetections]
    name: str = "replay"
    fails_at: int = -1
    batches: list[int] = field(default_factory=list)

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        self.batches.append(len(frames))
        if any(frame.index == self.fails_at for frame in frames):
            raise DetectorError("the network is broken")
        return [self.found[frame.index % len(self.found)] for frame in frames]

    def stats(self) -> DetectorStats:
        return DetectorStats(0, math.nan, math.nan, None)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass
class _Recorder:
    """A sink that keeps everything."""

    frames: list[Frame] = field(default_factory=list)
    analyses: list[FrameAnalysis] = field(default_factory=list)
    summary: ClipSummary | None = None
    n_aborts: int = 0
    fails_at: int = -1
    error: BaseException = field(default_factory=lambda: OSError("the disk is full"))
    fails_in_close: bool = False
    threads: set[int] = field(default_factory=set)

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:
        if frame.index == self.fails_at:
            raise self.error
        self.threads.add(threading.get_ident())
        self.frames.append(frame)
        self.analyses.append(analysis)

    def close(self, summary: ClipSummary) -> None:
        if self.fails_in_close:
            raise self.error
        self.summary = summary

    def abort(self) -> None:
        self.n_aborts += 1


def squats(reps: int = 3) -> list[PoseDetections]:
    truth = synthesize(Athlete(), MotionSpec("squat", reps=reps), Camera())
    return detections_from_truth(truth, noise_px=3.0, rng=np.random.default_rng(0))


def pipeline(spec: ExerciseSpec | None = None) -> StreamPipeline:
    return StreamPipeline(spec or load_exercise("squat"))


def analyze(
    found: Sequence[PoseDetections], *sinks: FrameSink, spec: ExerciseSpec | None = None
) -> ClipSummary:
    return analyze_video(_Clip(len(found)), _Replay(found), pipeline(spec), sinks)


def same(a: object, b: object) -> bool:
    """Return whether two values are equal in every field, NaN equal to NaN."""
    if dataclasses.is_dataclass(a):
        names = [one.name for one in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, tuple | list):
        assert isinstance(b, tuple | list)
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return a == b


@pytest.mark.parametrize("batch_size", [1, 4])
def test_identical_to_feeding_the_frames_one_by_one(batch_size: int) -> None:
    found = squats()
    recorder = _Recorder()
    summary = analyze_video(
        _Clip(len(found)), _Replay(found), pipeline(), [recorder], batch_size=batch_size
    )
    one_by_one = pipeline()
    expected = [one_by_one.update(one, i, i / 30.0) for i, one in enumerate(found)]
    reps: list[RepAnalysis] = [rep for one in expected for rep in one.finished]
    assert same(recorder.analyses, expected)
    assert same(summary.reps, (*reps, *one_by_one.finish()))
    assert summary.rep_count == 3


def test_sinks_get_every_frame_in_order_in_the_calling_thread_then_the_summary() -> None:
    recorder = _Recorder()
    summary = analyze([NOBODY] * 40, recorder)
    assert [frame.index for frame in recorder.frames] == list(range(40))
    assert [one.index for one in recorder.analyses] == list(range(40))
    assert [int(frame.image[0, 0, 0]) for frame in recorder.frames] == list(range(40))
    assert recorder.threads == {threading.get_ident()}
    assert recorder.summary is summary
    assert recorder.n_aborts == 0


def test_progress_counts_up_to_the_end() -> None:
    told: list[tuple[int, int | None]] = []
    analyze_video(
        _Clip(5), _Replay([NOBODY]), pipeline(), [], progress=lambda n, of: told.append((n, of))
    )
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_batches_are_as_large_as_asked_for() -> None:
    detector = _Replay([NOBODY])
    analyze_video(_Clip(10), detector, pipeline(), [], batch_size=4)
    assert sum(detector.batches) == 10
    assert detector.batches[:2] == [4, 4]
    with pytest.raises(ValueError, match="batch_size"):
        analyze_video(_Clip(10), detector, pipeline(), [], batch_size=0)


@pytest.mark.parametrize(
    ("source", "detector", "sink", "error"),
    [
        (_Clip(50, fails_at=7), _Replay([NOBODY]), _Recorder(), VideoError),
        (_Clip(50), _Replay([NOBODY], fails_at=7), _Recorder(), DetectorError),
        (_Clip(50), _Replay([NOBODY]), _Recorder(fails_at=7), OSError),
        (_Clip(50), _Replay([NOBODY]), _Recorder(fails_in_close=True), OSError),
        (_Clip(50), _Replay([NOBODY]), _Recorder(fails_at=7, error=KeyboardInterrupt()), None),
        (_Clip(0), _Replay([NOBODY]), _Recorder(), VideoError),
    ],
)
def test_any_error_ends_all_stages_aborts_all_sinks_and_is_raised(
    source: _Clip, detector: _Replay, sink: _Recorder, error: type[Exception] | None
) -> None:
    before = threading.active_count()
    others = [_Recorder(), _Recorder()]
    with pytest.raises(error or KeyboardInterrupt):
        analyze_video(source, detector, pipeline(), [others[0], sink, others[1]])
    assert threading.active_count() == before
    assert [one.n_aborts for one in (others[0], sink, others[1])] == [1, 1, 1]


def test_an_abort_that_fails_does_not_keep_the_others_from_theirs() -> None:
    class Stubborn(_Recorder):
        def abort(self) -> None:
            super().abort()
            raise OSError("cannot even give up")

    sinks = [_Recorder(), Stubborn(fails_at=3), _Recorder()]
    with pytest.raises(OSError, match="give up"):
        analyze([NOBODY] * 9, *sinks)
    assert [sink.n_aborts for sink in sinks] == [1, 1, 1]


def test_an_error_leaves_no_video(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "a.mp4", load_exercise("squat"), 64, 48, 30.0)
    with pytest.raises(DetectorError):
        analyze_video(_Clip(20), _Replay([NOBODY], fails_at=9), pipeline(), [video])
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_and_a_video_out_keep_their_times(tmp_path: Path) -> None:
    times_s = [0.0, 0.02, 0.1, 0.15, 0.4]
    with VideoWriter(tmp_path / "in.mp4", 64, 48, 30.0) as writer:
        for time_s in times_s:
            writer.write(np.full((48, 64, 3), 90, np.uint8), time_s)
    source = VideoFile(tmp_path / "in.mp4")
    video = AnnotatedVideo(tmp_path / "out.mp4", load_exercise("squat"), 64, 48, source.fps)
    detector: PoseDetector = _Replay([NOBODY])
    summary = analyze_video(source, detector, pipeline(), [video])
    written = [frame.time_s for frame in VideoFile(tmp_path / "out.mp4")]
    np.testing.assert_allclose(written, times_s, atol=1e-4)
    assert (summary.width, summary.height, summary.n_frames) == (64, 48, 5)


def test_the_summary_adds_up() -> None:
    found = squats(2)
    summary = analyze([NOBODY] * 10 + found)
    assert summary.n_frames == len(found) + 10
    assert summary.duration_s == pytest.approx(summary.n_frames / 30.0)
    assert summary.n_frames_seen == pytest.approx(len(found), abs=2)
    assert summary.n_people_max == 1
    assert 0.0 < summary.mean_confidence <= 1.0
    assert summary.keypoint_seen.max() <= summary.n_frames_seen / summary.n_frames
    assert summary.yaw_deg == pytest.approx(90.0, abs=15.0)
    assert (summary.exercise, summary.detector) == ("squat", "replay")


def test_nobody_is_a_warning_with_the_view_to_film_from() -> None:
    summary = analyze([NOBODY] * 30)
    assert summary.warnings[0].startswith("nobody was seen")
    assert load_exercise("squat").best_view in summary.warnings[0]
    assert math.isnan(summary.mean_confidence)
    assert math.isnan(summary.yaw_deg)
    assert (summary.n_frames_seen, summary.n_people_max, summary.reps) == (0, 0, ())


def test_an_absent_athlete_is_a_warning_with_the_share() -> None:
    found = squats(1)
    summary = analyze(found + [NOBODY] * (3 * len(found)))
    assert any("seen in only 2" in warning for warning in summary.warnings)


def test_hidden_counted_parts_are_named() -> None:
    hidden = [KEYPOINT_INDEX["left_ankle"], KEYPOINT_INDEX["right_ankle"]]
    found = []
    for one in squats(1):
        keypoints, confidence = one.keypoints.copy(), one.confidence.copy()
        keypoints[:, hidden], confidence[:, hidden] = np.nan, 0.0
        found.append(replace(one, keypoints=keypoints, confidence=confidence))
    warnings = analyze(found).warnings
    assert any(warning.startswith("the ankles could mostly not be seen") for warning in warnings)
    assert KEYPOINT_NAMES[hidden[0]] == "left_ankle"


def test_criteria_that_the_view_hides_are_named() -> None:
    squat = load_exercise("squat")

    def criterion(name: str, low: float, high: float) -> CriterionSpec:
        assert name in {"symmetry", "tempo", "depth"}
        base = CriterionSpec("depth", 1.0, "knee", 90.0, 150.0, low, high, "a test")
        return replace(base, name="symmetry") if name == "symmetry" else base

    spec = replace(squat, criteria=(criterion("symmetry", 0, 40), criterion("depth", 50, 90)))
    warnings = analyze(squats(1), spec=spec).warnings
    told = "symmetry cannot be judged; film from the front for symmetry"
    assert any(told in warning for warning in warnings)
    assert not any("depth" in warning for warning in warnings)


def test_a_hold_seen_from_the_front_says_that_it_cannot_be_timed() -> None:
    truth = synthesize(Athlete(), MotionSpec("plank", reps=1), Camera(yaw_deg=0.0))
    found = detections_from_truth(truth, noise_px=3.0, rng=np.random.default_rng(0))
    summary = analyze(found, spec=load_exercise("plank"))
    assert summary.reps == ()
    told = "a plank cannot be timed; film from the side"
    assert any(told in warning for warning in summary.warnings)


def test_a_clip_seen_well_has_no_warnings_but_those_of_its_source() -> None:
    found = squats(1)
    spec = replace(load_exercise("squat"), criteria=(), faults=())
    assert analyze(found, spec=spec).warnings == ()
    source = _Clip(len(found), warnings=("the file is truncated",))
    summary = analyze_video(source, _Replay(found), pipeline(spec), [])
    assert summary.warnings == ("the file is truncated",)


def test_one_frame_is_enough() -> None:
    summary = analyze(squats(1)[:1])
    assert summary.n_frames == 1
    assert summary.duration_s == pytest.approx(1 / 30.0)


def test_memory_does_not_grow_with_the_clip() -> None:
    def peak(n: int) -> int:
        tracemalloc.start()
        # Small pictures: how many wait between the threads is chance, and must not matter.
        analyze_video(_Clip(n, width=32, height=24), _Replay([NOBODY]), pipeline(), [])
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(20)
    assert peak(400) < 1.2 * peak(100)


def test_only_the_frames_between_the_stages_are_in_memory() -> None:
    width, height, in_flight = 320, 240, 20
    tracemalloc.start()
    analyze_video(_Clip(400, width=width, height=height), _Replay([NOBODY]), pipeline(), [])
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # How many frames wait depends on the threads; their bound does not depend on the clip.
    assert used < in_flight * width * height * 3
