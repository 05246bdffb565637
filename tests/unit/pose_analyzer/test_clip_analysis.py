"""clip_analysis: all files or none, the same results as feeding frames one by one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
import pytest

from pose_analyzer.clip_analysis import AnalysisRequest, analyze_clip
from pose_analyzer.errors import (
    DetectorError,
    ExerciseError,
    SpeechError,
    UnknownExerciseError,
    VideoError,
    VideoWriteError,
)
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import DetectorStats
from pose_analyzer.report.video_writer import VideoWriter
from pose_analyzer.synthetic import (
    Athlete,
    Camera,
    Fault,
    MotionSpec,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import FloatArray, Frame, PoseDetections

SIZE = (320, 240)


class ReplayDetector:
    """Gives prepared detections by frame number; breaks at a frame if told to."""

    name = "replay"

    def __init__(self, found: Sequence[PoseDetections], breaks_at: int | None = None) -> None:
        self._found = found
        self._breaks_at = breaks_at

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        if self._breaks_at in [frame.index for frame in frames]:
            raise DetectorError("the detector broke; start again")
        return [self._found[frame.index] for frame in frames]

    def stats(self) -> DetectorStats:
        return DetectorStats(0, float("nan"), float("nan"), None)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@pytest.fixture(scope="module")
def squats() -> list[PoseDetections]:
    """Return noisy detections of two squats."""
    camera = Camera(width=SIZE[0], height=SIZE[1])
    truth = synthesize(Athlete(), MotionSpec("squat", reps=2), camera)
    return detections_from_truth(truth, noise_px=1.0, rng=np.random.default_rng(0))


@pytest.fixture
def clip(tmp_path: Path, squats: list[PoseDetections]) -> Path:
    """Return a grey clip with one frame for each of the detections."""
    path = tmp_path / "squat.mp4"
    grey = np.full((SIZE[1], SIZE[0], 3), 90, dtype=np.uint8)
    with VideoWriter(path, *SIZE, 30.0) as writer:
        for index in range(len(squats)):
            writer.write(grey, index / 30.0)
    return path


def test_all_files_are_written(tmp_path: Path, clip: Path, squats: list[PoseDetections]) -> None:
    result = analyze_clip(
        AnalysisRequest(clip, "squat", tmp_path / "out"), detector=ReplayDetector(squats)
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "annotated.mp4",
        "report.html",
        "frames.csv",
        "reps.json",
        "pose.trc",
    }
    assert set(result.files) == set((tmp_path / "out").iterdir())
    assert result.files[-1].name == "report.html"
    assert result.summary.rep_count == 2


def test_the_exercise_is_recognised_if_none_is_given(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    request = AnalysisRequest(clip, "auto", tmp_path / "out", write_video=False)
    summary = analyze_clip(request, detector=ReplayDetector(squats)).summary
    assert summary.exercise == "squat"
    assert summary.rep_count == 2
    assert summary.warnings[0].startswith("recognised as squat (")


def test_a_clip_without_exercise_is_refused_and_leaves_nothing(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    request = AnalysisRequest(clip, "auto", tmp_path / "out")
    nobody = [PoseDetections.empty()] * len(squats)
    with pytest.raises(ExerciseError, match="name it with --exercise"):
        analyze_clip(request, detector=ReplayDetector(nobody))
    assert not (tmp_path / "out").exists()


def test_without_video_the_other_files_are_written(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    request = AnalysisRequest(clip, "squat", tmp_path / "out", write_video=False)
    files = analyze_clip(request, detector=ReplayDetector(squats)).files
    assert "annotated.mp4" not in {path.name for path in files}


def test_offline_results_equal_feeding_the_frames_one_by_one(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    request = AnalysisRequest(clip, "squat", tmp_path / "out")
    offline = analyze_clip(request, detector=ReplayDetector(squats)).summary
    pipeline = StreamPipeline(load_exercise("squat"))
    live = [
        rep
        for index, found in enumerate(squats)
        for rep in pipeline.update(found, index, index / 30.0).finished
    ]
    live += pipeline.finish()
    assert [one.rep for one in offline.reps] == pytest.approx([one.rep for one in live])
    assert [one.score.total for one in offline.reps] == pytest.approx(
        [one.score.total for one in live]
    )
    for one, other in zip(offline.reps, live, strict=True):
        np.testing.assert_allclose(one.deg, other.deg, atol=1e-6)


def test_the_progress_ends_at_the_number_of_frames(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    seen: list[int] = []
    analyze_clip(
        AnalysisRequest(clip, "squat", tmp_path / "out"),
        lambda done, _: seen.append(done),
        ReplayDetector(squats),
    )
    assert seen == list(range(1, len(squats) + 1))


def test_a_detector_that_breaks_leaves_nothing_behind(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    out = tmp_path / "deep" / "er" / "out"
    with pytest.raises(DetectorError):
        analyze_clip(
            AnalysisRequest(clip, "squat", out), detector=ReplayDetector(squats, breaks_at=50)
        )
    assert {path.name for path in tmp_path.iterdir()} == {"squat.mp4"}


def test_older_results_survive_a_failure_and_are_replaced_by_a_success(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "reps.json").write_text("old")
    (out / "mine.txt").write_text("kept")
    with pytest.raises(DetectorError):
        analyze_clip(AnalysisRequest(clip, "squat", out), detector=ReplayDetector(squats, 9))
    assert (out / "reps.json").read_text() == "old"
    analyze_clip(AnalysisRequest(clip, "squat", out), detector=ReplayDetector(squats))
    assert json.loads((out / "reps.json").read_text())
    assert (out / "mine.txt").read_text() == "kept"


def test_a_folder_where_a_file_should_be_is_refused_and_nothing_is_replaced(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)
    (out / "reps.json").write_text("old")
    with pytest.raises(VideoWriteError, match=r"report\.html is a folder"):
        analyze_clip(AnalysisRequest(clip, "squat", out), detector=ReplayDetector(squats))
    assert {path.name for path in out.iterdir()} == {"report.html", "reps.json"}
    assert (out / "reps.json").read_text() == "old"


def test_the_video_of_an_older_analysis_does_not_stay_beside_a_new_report(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    out = tmp_path / "out"
    analyze_clip(AnalysisRequest(clip, "squat", out), detector=ReplayDetector(squats))
    request = AnalysisRequest(clip, "squat", out, write_video=False)
    analyze_clip(request, detector=ReplayDetector(squats))
    assert not (out / "annotated.mp4").exists()


def test_a_link_to_a_folder_elsewhere_is_followed(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    result = analyze_clip(
        AnalysisRequest(clip, "squat", tmp_path / "out"), detector=ReplayDetector(squats)
    )
    assert (tmp_path / "elsewhere" / "report.html").is_file()
    assert result.files[-1] == tmp_path / "out" / "report.html"


def test_a_name_too_long_for_a_folder_leaves_no_parent_behind(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    out = tmp_path / "new" / ("n" * 300)
    with pytest.raises(VideoWriteError, match="cannot write to"):
        analyze_clip(AnalysisRequest(clip, "squat", out), detector=ReplayDetector(squats))
    assert not (tmp_path / "new").exists()


def test_a_file_where_the_folder_should_be_is_refused(
    tmp_path: Path, clip: Path, squats: list[PoseDetections]
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(VideoWriteError, match="is a file"):
        analyze_clip(
            AnalysisRequest(clip, "squat", tmp_path / "out"), detector=ReplayDetector(squats)
        )


def test_an_unknown_exercise_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnknownExerciseError, match=r"known exercises: .*squat"):
        analyze_clip(AnalysisRequest(tmp_path / "no.mp4", "skwat", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_clip_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no\.mp4"):
        analyze_clip(AnalysisRequest(tmp_path / "no.mp4", "squat", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra [speech]"
)
def test_a_cue_is_spoken_when_it_is_due(tmp_path: Path) -> None:
    camera = Camera(width=SIZE[0], height=SIZE[1])
    motion = MotionSpec("squat", reps=3, faults=(Fault("shallow_depth", 0.9),))
    truth = synthesize(Athlete(), motion, camera)
    found = detections_from_truth(truth)
    clip = tmp_path / "shallow.mp4"
    with VideoWriter(clip, *SIZE, 30.0) as writer:
        for index in range(len(found)):
            writer.write(np.full((SIZE[1], SIZE[0], 3), 90, dtype=np.uint8), index / 30.0)
    request = AnalysisRequest(clip, "squat", tmp_path / "out", speak=True)
    result = analyze_clip(request, detector=ReplayDetector(found))
    assert result.notes == ()
    level = loudness(tmp_path / "out" / "annotated.mp4")
    due_s = [cue.time_s for cue in result.summary.cues]
    assert due_s
    assert level[: round(100 * due_s[0]) - 5].max() < 0.01
    for time_s in due_s:
        assert level[round(100 * time_s) : round(100 * time_s) + 100].max() > 0.1


def loudness(path: Path) -> FloatArray:
    """Return the loudness, 0 to 1, of each hundredth of a second of a file's sound."""
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        step = round(container.streams.audio[0].rate / 100)
    whole = heard[: len(heard) // step * step].reshape(-1, step)
    return np.asarray(np.abs(whole).max(axis=1), dtype=np.float64)


def test_without_an_engine_the_text_cues_go_on_and_a_note_says_what_to_install(
    tmp_path: Path, clip: Path, squats: list[PoseDetections], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_speaks() -> None:
        raise SpeechError("no speech engine is installed; install one with: pip install x")

    monkeypatch.setattr("pose_analyzer.clip_analysis.find_voice", nobody_speaks)
    request = AnalysisRequest(clip, "squat", tmp_path / "out", speak=True)
    result = analyze_clip(request, detector=ReplayDetector(squats))
    (note,) = result.notes
    assert "pip install" in note
    with av.open(str(tmp_path / "out" / "annotated.mp4")) as container:
        assert len(container.streams.audio) == 0
    assert result.summary.rep_count == 2


def test_speech_without_a_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out --no-video, or --speak"):
        AnalysisRequest(tmp_path / "a.mp4", "squat", tmp_path, write_video=False, speak=True)
