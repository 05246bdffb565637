"""Reference repetitions as plain arrays, small on disk, never pickled.

All repetitions of a file stand one behind the other. Each value is a whole number of steps, kept as
its second difference over the frames: a smooth movement has small ones, which compress to half of
what first differences take. ``docs/files.md`` describes the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pose_analyzer.errors import ReferencesError
from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.rep_angles import rep_angles
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.types import FloatArray, RepMotion

FORMAT_VERSION: Final = 1
MIN_FRAMES: Final = 5
"""A repetition of fewer frames has no course to compare with (chosen by us)."""

_STEPS: Final = {"time_s": 1e-5, "signal": 1e-5, "confidence": 0.01, "keypoints": 0.1}
"""The resolution of each array, in its unit: keypoints to a tenth of a pixel."""
_BROKEN: Final = (
    OSError, ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class ClipMotions:
    """The repetitions of one clip.

    Attributes
    ----------
    video_id : str
        Name of the clip.
    detector : str
        What saw the keypoints.
    motions : tuple of RepMotion
        In order of time, at least one.
    """

    video_id: str
    detector: str
    motions: tuple[RepMotion, ...]


def check_motion(motion: RepMotion, name: str) -> None:
    """Raise `ReferencesError` if a repetition cannot be a reference."""
    n_frames = len(motion.time_s)
    if n_frames < MIN_FRAMES:
        raise ReferencesError(
            f"{name} has {n_frames} frame{'s' * (n_frames != 1)}; a reference needs at least "
            f"{MIN_FRAMES}: record it again"
        )
    if np.isnan(motion.keypoints).all():
        raise ReferencesError(f"{name} has no keypoint at all; film the whole body")
    if not 0 <= motion.turn_idx < n_frames or not (np.diff(motion.time_s) > 0.0).all():
        raise ReferencesError(f"{name} has no increasing times with a turn among them")


def write_keypoints(path: Path, exercise: str, clips: Sequence[ClipMotions]) -> None:
    """Write the repetitions of all clips of an exercise to an ``.npz`` file.

    Raises
    ------
    ReferencesError
        If a repetition cannot be a reference.
    OSError
        If the file cannot be written.
    """
    motions = [motion for clip in clips for motion in clip.motions]
    for clip in clips:
        for number, motion in enumerate(clip.motions, 1):
            check_motion(motion, f"repetition {number} of {clip.video_id}")
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "format_version": np.array(FORMAT_VERSION),
        "exercise": np.array(exercise),
        "video_id": np.array([clip.video_id for clip in clips]),
        "detector": np.array([clip.detector for clip in clips]),
        "n_reps": np.array([len(clip.motions) for clip in clips]),
        "n_frames": np.array([len(motion.time_s) for motion in motions]),
        "turn_idx": np.array([motion.turn_idx for motion in motions]),
        "yaw_deg": np.array([motion.yaw_deg for motion in motions]),
        "stature_px": np.array([motion.stature_px for motion in motions]),
    }
    for name, step in _STEPS.items():
        values = np.concatenate([getattr(motion, name) for motion in motions])
        arrays |= _packed(name, values, step)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_keypoints(path: Path, exercise: str) -> tuple[ClipMotions, ...]:
    """Return the clips of an ``.npz`` file, with angles computed anew.

    Raises
    ------
    ReferencesError
        If the file is missing, damaged, of another format or exercise, or holds a repetition that
        cannot be a reference.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            _require_format(path, int(file["format_version"]))
            arrays = {name: file[name] for name in file.files}
        clips = _clips(arrays)
    except FileNotFoundError as exc:
        raise ReferencesError(f"{path} is missing; build the references again") from exc
    except _BROKEN as exc:
        raise ReferencesError(f"{path} is damaged ({exc}); build the references again") from exc
    if str(arrays["exercise"]) != exercise:
        raise ReferencesError(f"{path} holds {arrays['exercise']!s}, not {exercise}")
    for clip in clips:
        for number, motion in enumerate(clip.motions, 1):
            check_motion(motion, f"{path}: repetition {number} of {clip.video_id}")
    return clips


def _require_format(path: Path, version: int) -> None:
    if version != FORMAT_VERSION:
        raise ReferencesError(
            f"{path} has format {version}, and this version reads format {FORMAT_VERSION}; build "
            "the references again"
        )


def _packed(name: str, values: FloatArray, step: float) -> dict[str, npt.NDArray[np.generic]]:
    """Return second differences of whole steps, frames last, and which values are missing."""
    missing = np.isnan(values)
    whole = np.rint(np.where(missing, 0.0, values) / step).astype(np.int64)
    before = np.zeros((2, *values.shape[1:]), dtype=np.int64)
    steps = np.ascontiguousarray(np.diff(whole, n=2, axis=0, prepend=before).T)
    smallest = np.result_type(np.min_scalar_type(steps.min()), np.min_scalar_type(steps.max()))
    return {f"{name}_steps": steps.astype(smallest), f"{name}_missing": np.packbits(missing)}


def _unpacked(name: str, arrays: Arrays) -> FloatArray:
    steps = arrays[f"{name}_steps"].T.astype(np.int64)
    values = np.cumsum(np.cumsum(steps, axis=0), axis=0) * _STEPS[name]
    bits = np.unpackbits(arrays[f"{name}_missing"].astype(np.uint8), count=values.size)
    values[bits.reshape(values.shape).astype(np.bool_)] = np.nan
    return values


def _clips(arrays: Arrays) -> tuple[ClipMotions, ...]:
    columns = {name: _unpacked(name, arrays) for name in _STEPS}
    n_frames = [int(n) for n in arrays["n_frames"].tolist()]
    n_rows = sum(n_frames)
    expected = {
        "time_s": (n_rows,),
        "signal": (n_rows,),
        "confidence": (n_rows, N_KEYPOINTS),
        "keypoints": (n_rows, N_KEYPOINTS, 2),
    }
    for name, shape in expected.items():
        if columns[name].shape != shape:
            raise ValueError(f"{name} has shape {columns[name].shape}, not {shape}")
    ends = np.cumsum(n_frames)
    motions = [
        _motion({name: values[end - n : end] for name, values in columns.items()}, arrays, number)
        for number, (n, end) in enumerate(zip(n_frames, ends, strict=True))
    ]
    n_reps = [int(n) for n in arrays["n_reps"].tolist()]
    if sum(n_reps) != len(motions):
        raise ValueError(f"{sum(n_reps)} repetitions are named, {len(motions)} are there")
    names = zip(arrays["video_id"].tolist(), arrays["detector"].tolist(), n_reps, strict=True)
    left = iter(motions)
    return tuple(
        ClipMotions(str(video_id), str(detector), tuple(next(left) for _ in range(n)))
        for video_id, detector, n in names
    )


def _motion(columns: Mapping[str, FloatArray], arrays: Arrays, number: int) -> RepMotion:
    yaw_deg, stature_px = float(arrays["yaw_deg"][number]), float(arrays["stature_px"][number])
    off_plane = _off_plane_yaw(str(arrays["exercise"]), yaw_deg)
    deg, sigma_deg = rep_angles(columns["keypoints"], columns["confidence"], off_plane, stature_px)
    return RepMotion(
        time_s=columns["time_s"],
        keypoints=columns["keypoints"],
        confidence=columns["confidence"],
        deg=deg,
        sigma_deg=sigma_deg,
        signal=columns["signal"],
        turn_idx=int(arrays["turn_idx"][number]),
        yaw_deg=yaw_deg,
        stature_px=stature_px,
    )


def _off_plane_yaw(exercise: str, yaw_deg: float) -> float:
    """Return the yaw off the exercise's plane; the yaw itself for one that we do not know."""
    known = exercise in exercise_names()
    return load_exercise(exercise).off_plane_yaw(yaw_deg) if known else yaw_deg
