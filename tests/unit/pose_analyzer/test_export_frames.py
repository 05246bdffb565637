"""Frames for an export: spread over clips, held-out ones apart; and `pose-analyzer export`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_network import tiny_network

from pose_analyzer.cli import main
from pose_analyzer.errors import ExportError
from pose_analyzer.export_frames import CALIBRATION_PART, frames_of_clips, synthetic_frames
from pose_analyzer.inference.detector import TimedDetector
from pose_analyzer.pose_detector import YOLOPosev11Detector
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.synthetic import ClipSpec, synthesize_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of one squat, 192 x 108 pixels."""
    path = tmp_path_factory.mktemp("clips") / "squat.mp4"
    synthesize_clip(ClipSpec(reps=1, width=192, height=108, fps=10.0), path)
    return path


@pytest.fixture
def detector(tmp_path: Path) -> TimedDetector:
    return YOLOPosev11Detector(tiny_network(tmp_path / "tiny.onnx"), "cpu")


def test_held_out_frames_come_after_all_calibration_frames(
    clip: Path, detector: TimedDetector
) -> None:
    frames = frames_of_clips([clip], detector, (6, 3))
    rows = [frame.index for frame in frames.calibration]
    later = [frame.index for frame in frames.held_out]
    assert (len(rows), len(later)) == (6, 3)
    assert max(rows) < min(later)
    assert np.ptp(np.diff(rows)) <= 1
    assert rows[-1] < CALIBRATION_PART * (later[-1] + 10)
    assert "squat.mp4" in frames.description


def test_a_clip_shorter_than_asked_gives_each_frame_once(
    clip: Path, detector: TimedDetector
) -> None:
    frames = frames_of_clips([clip], detector, (1000, 1000))
    rows = [frame.index for frame in (*frames.calibration, *frames.held_out)]
    assert rows == list(range(len(rows)))


def test_clips_that_show_nobody_are_refused(clip: Path, tmp_path: Path) -> None:
    strict = YOLOPosev11Detector(tiny_network(tmp_path / "tiny.onnx"), "cpu", confidence=1.0)
    with pytest.raises(ExportError, match=r"nobody is seen in squat\.mp4"):
        frames_of_clips([clip], strict, (2, 1))
    with pytest.raises(ValueError, match="at least one"):
        frames_of_clips([], strict)


def test_the_synthetic_athlete_comes_with_the_truth_of_what_is_held_out() -> None:
    told: list[tuple[int, int]] = []
    frames = synthetic_frames((3, 2), (192, 108), lambda *done: told.append(done))
    assert (len(frames.calibration), len(frames.held_out)) == (3, 2)
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert frames.truth is not None
    for people in frames.truth:
        assert people.counts.tolist() == [True]
        assert np.isfinite(people.keypoints[0, :N_COCO]).any()
        assert np.isnan(people.keypoints[0, N_COCO:]).all()
        assert people.area[0] > 100.0


def test_the_command_exports_and_prints_both_figures(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = tiny_network(tmp_path / "tiny.onnx"), tmp_path / "out"
    options = ["--weights", str(weights), "--out", str(out), "--calibrate", str(clip)]
    assert main(["export", "--precision", "fp16", *options, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "keypoint loss 0.00%" in printed
    assert "mean joint-angle difference" in printed
    assert json.loads((out / "export.json").read_text())["frames"] == "clips squat.mp4"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--format", "tensorrt", "--precision", "fp16"], "pip install tensorrt"),
        (["--weights", "gone.onnx"], "gone.onnx"),
        (["--size", "100x640"], "multiples of 32"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_exit_code_2(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tiny_network(tmp_path / "tiny.onnx")
    given = ["--weights", str(weights), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["export", *given, *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
