"""reference_builder: full repetitions that were seen, all clips or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from pose_analyzer.cli import main
from pose_analyzer.errors import ReferencesError, UnknownExerciseError, VideoError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import DetectorStats
from pose_analyzer.reference_builder import BuildRequest, build_references, finished_motions
from pose_analyzer.references import load_references
from pose_analyzer.report.video_writer import VideoWriter
from pose_analyzer.synthetic import Athlete, Camera, MotionSpec, detections_from_truth, synthesize
from pose_analyzer.types import Frame, PoseDetections

SIZE = (320, 240)


class ReplayDetector:
    """Gives prepared detections by frame number."""

    name = "replay"

    def __init__(self, found: Sequence[PoseDetections]) -> None:
        self._found = found

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
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


def detections(reps: int, exercise: str = "squat", dropout: float = 0.0) -> list[PoseDetections]:
    camera = Camera(width=SIZE[0], height=SIZE[1])
    truth = synthesize(Athlete(), MotionSpec(exercise, reps=reps), camera)
    return detections_from_truth(truth, 0.5, dropout=dropout, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def squats() -> list[PoseDetections]:
    """Return detections of two squats."""
    return detections(2)


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a grey clip of a name and a number of frames."""

    def make(name: str, n_frames: int) -> Path:
        grey = np.full((SIZE[1], SIZE[0], 3), 90, dtype=np.uint8)
        with VideoWriter(tmp_path / name, *SIZE, 30.0) as writer:
            for index in range(n_frames):
                writer.write(grey, index / 30.0)
        return tmp_path / name

    return make


def request(tmp_path: Path, *clips: Path, exercise: str = "squat") -> BuildRequest:
    return BuildRequest(clips, exercise, tmp_path / "refs", source="me", licence="CC0")


def test_a_reference_is_the_movement_that_the_pipeline_judged(
    tmp_path: Path, clip: Callable[..., Path], squats: list[PoseDetections]
) -> None:
    path = clip("monday.mp4", len(squats))
    result = build_references(request(tmp_path, path), None, lambda: ReplayDetector(squats))
    assert (result.n_reps, result.notes) == (2, ())
    rows = [(index, index / 30.0, found) for index, found in enumerate(squats)]
    live = list(finished_motions(rows, StreamPipeline(load_exercise("squat"))))
    read = load_references(tmp_path / "refs", "squat")
    for (judged, _), one in zip(live, read, strict=True):
        assert (one.video_id, one.source, one.licence) == ("monday", "me", "CC0")
        np.testing.assert_allclose(one.motion.time_s, judged.time_s, atol=1e-4)
        # A tenth of a pixel in a small picture is a degree of a short limb.
        assert np.nanmedian(np.abs(one.motion.deg - judged.deg)) < 0.5


def test_a_second_build_adds_to_the_first(
    tmp_path: Path, clip: Callable[..., Path], squats: list[PoseDetections]
) -> None:
    counts = [
        build_references(
            request(tmp_path, clip(name, len(squats))), None, lambda: ReplayDetector(squats)
        ).n_reps
        for name in ("monday.mp4", "friday.mp4")
    ]
    assert counts == [2, 4]


def test_one_clip_without_a_repetition_and_nothing_is_written(
    tmp_path: Path, clip: Callable[..., Path], squats: list[PoseDetections]
) -> None:
    still = detections(0)
    left = iter([squats, still])
    clips = (clip("monday.mp4", len(squats)), clip("still.mp4", len(still)))
    with pytest.raises(ReferencesError, match=r"still\.mp4 shows no full repetition of squat"):
        build_references(request(tmp_path, *clips), None, lambda: ReplayDetector(next(left)))
    assert not (tmp_path / "refs").exists()


def test_a_clip_of_which_too_little_was_seen_is_refused(
    tmp_path: Path, clip: Callable[..., Path]
) -> None:
    dim = detections(2, dropout=0.65)
    path = clip("dim.mp4", len(dim))
    with pytest.raises(ReferencesError, match=r"dim\.mp4 shows (too little|no full)"):
        build_references(request(tmp_path, path), None, lambda: ReplayDetector(dim))
    assert not (tmp_path / "refs").exists()


def test_two_clips_of_one_name_and_no_clip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two clips are called a"):
        build_references(request(tmp_path, Path("x/a.mp4"), Path("y/a.mov")))
    with pytest.raises(ValueError, match="at least one clip"):
        build_references(request(tmp_path))


def test_an_unknown_exercise_and_a_missing_clip_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownExerciseError, match="skwat"):
        build_references(request(tmp_path, tmp_path / "a.mp4", exercise="skwat"))
    with pytest.raises(VideoError, match=r"a\.mp4"):
        build_references(request(tmp_path, tmp_path / "a.mp4"))


def test_the_list_tells_what_is_there(
    tmp_path: Path,
    clip: Callable[..., Path],
    squats: list[PoseDetections],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = clip("monday.mp4", len(squats))
    build_references(request(tmp_path, path), None, lambda: ReplayDetector(squats))
    assert main(["references", "list", str(tmp_path / "refs")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:4] == ["squat", "2", "repetitions,", "2"]
    assert "in 1 clip; me; licence: CC0" in line


def test_an_empty_folder_and_a_clip_that_is_none_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["references", "list", str(tmp_path)]) == 2
    assert "holds no references" in capsys.readouterr().err
    out = str(tmp_path / "refs")
    argv = ["references", "build", str(tmp_path / "no.mp4"), "--exercise", "squat", "--out", out]
    assert main(argv) == 2
    assert "no.mp4" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
