"""The analysis as tables: every frame as CSV, the repetitions as JSON.

In a CSV file an empty cell means not measured, in JSON ``null`` does.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from pose_analyzer.report.files import AtomicText
from pose_analyzer.report.trc import TrcFile
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_NAMES, N_JOINTS, N_KEYPOINTS
from pose_analyzer.types import ClipSummary, FloatArray, Frame, FrameAnalysis, RepAnalysis

if TYPE_CHECKING:
    from pose_analyzer.types import TrackedPose

__all__ = ["FramesCsv", "RepsJson", "TrcFile", "frame_columns"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_DIGITS: Final = 4
"""Decimals in JSON: a tenth of a millisecond, less than any detector resolves."""


def frame_columns() -> tuple[str, ...]:
    """Return the columns of ``frames.csv``, in order."""
    points = [
        f"{name}_{part}"
        for name in KEYPOINT_NAMES
        for part in ("x_px", "y_px", "confidence", "predicted")
    ]
    angles = [f"{name}_{part}" for name in JOINT_NAMES for part in ("deg", "sigma_deg")]
    ends = ("yaw_deg", "signal", "phase", "rep_count", "score")
    return ("frame", "time_s", "athlete_id", *points, *angles, *ends)


# One format string a row: formatting cell by cell costs three times as much.
_POINT_CELLS: Final = ",".join(["%.2f,%.2f,%.3f,%d"] * N_KEYPOINTS)
_ANGLE_CELLS: Final = ",".join(["%.2f,%.2f"] * N_JOINTS)
_NOT_SEEN: Final = "," * (4 * N_KEYPOINTS - 1)


class FramesCsv:
    """Writes one row a frame; memory does not grow with the clip.

    Columns are those of `frame_columns`. An angle's ``sigma_deg`` is its standard deviation for
    the estimated view; ``predicted`` is 1 where a short gap was bridged.

    Parameters
    ----------
    path : str or Path
        The CSV file.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = AtomicText(path)
        self._file.write(",".join(frame_columns()) + "\n")

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:  # noqa: ARG002 - no picture here
        """Append the row of a frame."""
        angles, motion, athlete_idx = analysis.angles, analysis.motion, analysis.pose.athlete_idx
        athlete_id, points = "", _NOT_SEEN
        if athlete_idx is not None:
            athlete_id = str(int(analysis.pose.track_ids[athlete_idx]))
            points = _point_cells(analysis.pose, athlete_idx)
        degrees = np.column_stack([angles.deg, angles.sigma_deg])
        measures = _ANGLE_CELLS % tuple(degrees.ravel().tolist())
        numbers = f"{measures},{angles.yaw_deg:.1f},{motion.signal:.5f}"
        self._file.write(
            f"{analysis.index},{analysis.time_s:.4f},{athlete_id},{_emptied(points)},"
            f"{_emptied(numbers)},{motion.phase},{analysis.rep_count},"
            f"{_emptied(f'{analysis.score:.1f}')}\n"
        )

    def close(self, summary: ClipSummary) -> None:  # noqa: ARG002 - a sink is told the summary
        """Complete the file."""
        self._file.publish()

    def abort(self) -> None:
        """Give up: leave nothing behind."""
        self._file.discard()


class RepsJson:
    """Writes the summary of a clip and its repetitions as one JSON object.

    Parameters
    ----------
    path : str or Path
        The JSON file.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = AtomicText(path)

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:
        """Take a frame; the summary holds all that is written."""

    def close(self, summary: ClipSummary) -> None:
        """Write the file."""
        content = json.dumps(summary_json(summary), indent=1, ensure_ascii=False, allow_nan=False)
        self._file.write(content + "\n")
        self._file.publish()

    def abort(self) -> None:
        """Give up: leave nothing behind."""
        self._file.discard()


def summary_json(summary: ClipSummary) -> dict[str, Json]:
    """Return a summary as strict JSON; this is where NaN becomes null.

    Angles are named by joint, keypoints by name, and each repetition carries its angle curves.
    """
    facts = [
        field.name
        for field in dataclasses.fields(summary)
        if field.name not in {"keypoint_seen", "reps", "cues", "warnings"}
    ]
    return {
        **{name: _json(getattr(summary, name)) for name in facts},
        "rep_count": summary.rep_count,
        "mean_score": _json(summary.mean_score),
        "keypoint_seen": _by_name(KEYPOINT_NAMES, summary.keypoint_seen),
        "warnings": _json(summary.warnings),
        "cues": _json(summary.cues),
        "reps": [_rep_json(one) for one in summary.reps],
    }


def _rep_json(analysis: RepAnalysis) -> dict[str, Json]:
    rep = analysis.rep
    return {
        **_fields(rep),
        "duration_s": _json(rep.duration_s),
        "away_s": _json(rep.away_s),
        "back_s": _json(rep.back_s),
        "yaw_deg": _json(analysis.yaw_deg),
        "seen": _json(analysis.seen),
        "score": _json(analysis.score),
        "faults": _json(analysis.faults),
        "anomaly": {
            **_fields(analysis.anomaly),
            "joints": {name: _json(share) for name, share in analysis.anomaly.joints},
        },
        "min_deg": _by_name(JOINT_NAMES, analysis.min_deg),
        "max_deg": _by_name(JOINT_NAMES, analysis.max_deg),
        "curves": {
            "time_s": _json(analysis.time_s),
            "deg": {name: _json(analysis.deg[:, row]) for row, name in enumerate(JOINT_NAMES)},
        },
    }


def _fields(value: object) -> dict[str, Json]:
    """Return the fields of a value of `types`, by name."""
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"a dataclass is needed, got {type(value)}")
    return {field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _json(value: object) -> Json:
    if isinstance(value, np.ndarray | np.generic):
        return _json(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_json(item) for item in value]
    return _fields(value)


def _by_name(names: Sequence[str], values: FloatArray) -> dict[str, Json]:
    return {name: _json(value) for name, value in zip(names, values.tolist(), strict=True)}


def _point_cells(pose: TrackedPose, row: int) -> str:
    cells = np.column_stack([pose.keypoints[row], pose.confidence[row], pose.predicted[row]])
    return _POINT_CELLS % tuple(cells.ravel().tolist())


def _emptied(cells: str) -> str:
    """Return cells of numbers with those that were not measured left empty."""
    return cells.replace("nan", "")
