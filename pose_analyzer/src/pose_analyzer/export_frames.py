"""The pictures that an export is calibrated with and judged on, of clips or synthetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.errors import ExportError
from pose_analyzer.inference.export import ExportFrames
from pose_analyzer.inference.export_gate import TruePeople
from pose_analyzer.pose_detector import PoseDetector
from pose_analyzer.pose_similarity import oks_area
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.synthetic import (
    EXERCISES,
    HOLDS,
    LOOKS,
    Athlete,
    Camera,
    MotionSpec,
    Renderer,
    Truth,
    synthesize,
)
from pose_analyzer.types import Frame, ImageArray
from pose_analyzer.video_source import VideoFile

Progress = Callable[[int, int], None]
"""Called with frames made and frames in all."""

N_CALIBRATION: Final = 256
N_HELD_OUT: Final = 96
CALIBRATION_PART: Final = 2.0 / 3.0
"""Of each clip: its first two thirds calibrate, from its last third come the held-out frames, so
that no two of them are neighbours (chosen by us)."""
_LONGEST_PX: Final = 1280
"""A larger frame is kept at this size: hundreds are in memory at once."""
_CALIBRATION_YAWS_DEG: Final = (0.0, 45.0, 90.0, 135.0, 180.0, -70.0)
_HELD_OUT_YAWS_DEG: Final = (20.0, 70.0, -45.0, -110.0)


def frames_of_clips(
    clips: Sequence[Path],
    detector: PoseDetector,
    counts: tuple[int, int] = (N_CALIBRATION, N_HELD_OUT),
) -> ExportFrames:
    """Return frames of clips, spread evenly over each; those without a person are left out.

    Parameters
    ----------
    clips : sequence of Path
        Video files, at least one.
    detector : PoseDetector
        Tells where somebody is.
    counts : tuple of int
        How many frames to look at, to calibrate and to hold out, over all clips.

    Raises
    ------
    VideoError
        If a clip cannot be read.
    ExportError
        If nobody is seen in the frames to calibrate with.
    """
    if not clips:
        raise ValueError("clips must name at least one file, got none")
    each = (max(1, counts[0] // len(clips)), max(1, counts[1] // len(clips)))
    calibration: list[Frame] = []
    held_out: list[Frame] = []
    for clip in clips:
        first, last = _spread(clip, each)
        calibration += [frame for frame in first if detector.detect([frame])[0].n_people]
        held_out += [frame for frame in last if detector.detect([frame])[0].n_people]
    if not calibration:
        raise ExportError(
            f"nobody is seen in {', '.join(clip.name for clip in clips)}; "
            "calibrate with clips that show a person"
        )
    names = ", ".join(clip.name for clip in clips)
    return ExportFrames(f"clips {names}", tuple(calibration), tuple(held_out))


def synthetic_frames(
    counts: tuple[int, int] = (N_CALIBRATION, N_HELD_OUT),
    size: tuple[int, int] = (960, 540),
    progress: Progress | None = None,
) -> ExportFrames:
    """Return rendered frames of every exercise, with the exact keypoints of the held-out ones.

    Camera, body and repetition of the held-out frames differ from those of the others.

    Parameters
    ----------
    counts : tuple of int
        Frames to calibrate with and to hold out.
    size : tuple of int
        Width and height in pixels.
    progress : callable, optional
        Told how far it is.
    """
    calibration: list[Frame] = []
    held_out: list[Frame] = []
    truth: list[TruePeople] = []
    for image, _ in _rendered(counts[0], size, _CALIBRATION_YAWS_DEG, seed=0):
        calibration.append(Frame(image, 0.0, len(calibration)))
        if progress is not None:
            progress(len(calibration), sum(counts))
    for image, people in _rendered(counts[1], size, _HELD_OUT_YAWS_DEG, seed=1000):
        held_out.append(Frame(image, 0.0, len(held_out)))
        truth.append(people)
        if progress is not None:
            progress(counts[0] + len(held_out), sum(counts))
    text = "the synthetic athlete: every exercise from all sides, bodies that differ"
    return ExportFrames(text, tuple(calibration), tuple(held_out), tuple(truth))


def _spread(clip: Path, counts: tuple[int, int]) -> tuple[list[Frame], list[Frame]]:
    """Return frames spread evenly over the calibration part of a clip, and over the rest."""
    n_frames = sum(1 for _ in VideoFile(clip))
    border = max(1, int(n_frames * CALIBRATION_PART))
    first = set(_rows(0, border, counts[0]))
    last = set(_rows(border, n_frames, counts[1]))
    wanted = {
        index: _small(frame)
        for index, frame in enumerate(VideoFile(clip))
        if index in first or index in last
    }
    return [wanted[row] for row in sorted(first)], [wanted[row] for row in sorted(last)]


def _rows(start: int, stop: int, count: int) -> list[int]:
    """Return at most ``count`` rows, evenly spread and each once."""
    middles = start + (np.arange(count) + 0.5) * (stop - start) / count
    return [] if start >= stop else np.unique(middles.astype(np.intp)).tolist()


def _small(frame: Frame) -> Frame:
    import cv2

    height, width = frame.image.shape[:2]
    scale = _LONGEST_PX / max(height, width)
    if scale >= 1.0:
        return frame
    size = (round(width * scale), round(height * scale))
    image = np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Frame(image, frame.time_s, frame.index)


def _rendered(
    count: int, size: tuple[int, int], yaws_deg: Sequence[float], seed: int
) -> Iterator[tuple[ImageArray, TruePeople]]:
    """Yield ``count`` pictures, alike many of every exercise and side, with who is in them."""
    scenes = list(itertools.product((*EXERCISES, *HOLDS), yaws_deg))
    shares = np.diff(np.linspace(0, count, len(scenes) + 1).astype(np.intp))
    for number, ((exercise, yaw_deg), share) in enumerate(zip(scenes, shares, strict=True)):
        camera = Camera(
            yaw_deg, float(number % 3) * 6.0, 3.2 + 0.4 * (number % 4), size[0], size[1]
        )
        stature_m = 1.55 + 0.09 * (number % 5)
        look = LOOKS[(number + seed) % len(LOOKS)]
        athlete = Athlete(stature_m, girth=0.85 + 0.15 * (number % 4), look=look)
        motion = MotionSpec(exercise, reps=1, seed=seed + number)
        truth = synthesize(athlete, motion, camera)
        renderer = Renderer(camera)
        for row in _rows(0, truth.n_frames, int(share)):
            yield renderer.frame(truth, row), _people(truth, row)


def _people(truth: Truth, row: int) -> TruePeople:
    """Return the athlete of one frame: the keypoints of COCO that can be seen."""
    keypoints = np.where(truth.visible[row][:, None], truth.keypoints[row], np.nan)
    keypoints[N_COCO:] = np.nan
    counts = np.isfinite(keypoints).any(keepdims=True).reshape(1)
    return TruePeople(keypoints[None], oks_area(truth.boxes[row][None]), counts)
