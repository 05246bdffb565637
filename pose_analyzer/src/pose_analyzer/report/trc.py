"""Markers for OpenSim: the athlete's keypoints as a ``.trc`` file.

References
----------
.. [1] OpenSim documentation, "Marker (.trc) Files": three header lines, two lines of labels, an
   empty line, then a row a frame, separated by tabs.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import IO, Final

import numpy as np

from pose_analyzer.biomechanics import stature
from pose_analyzer.errors import VideoWriteError
from pose_analyzer.report.files import AtomicText
from pose_analyzer.report.thinning import ThinnedRows
from pose_analyzer.skeleton import KEYPOINT_INDEX, KEYPOINT_NAMES, N_KEYPOINTS
from pose_analyzer.types import ClipSummary, FloatArray, Frame, FrameAnalysis

ASSUMED_STATURE_M: Final = 1.70
"""Scale where the user gives none: about the mean adult (chosen by us). Angles do not depend
on it."""

_GROUND: Final = [
    KEYPOINT_INDEX[f"{side}_{point}"]
    for point in ("ankle", "heel", "big_toe")
    for side in ("left", "right")
]
_HIPS: Final = [KEYPOINT_INDEX["left_hip"], KEYPOINT_INDEX["right_hip"]]
_ROW: Final = 2 + 2 * N_KEYPOINTS
_ROWS_AT_ONCE: Final = 256
_SAMPLES: Final = 4096


def marker_name(keypoint: str) -> str:
    """Return the name of a keypoint as OpenSim marker sets write it: ``"LBigToe"``."""
    side, _, rest = keypoint.partition("_")
    if side not in {"left", "right"}:
        return keypoint.capitalize()
    return side[0].upper() + "".join(part.capitalize() for part in rest.split("_"))


class TrcFile:
    """Writes the athlete's keypoints in metres; memory does not grow with the clip.

    A picture has no scale of its own, so pixels are scaled by the athlete's height. X points to
    the right of the picture, Y up, and Z is 0: the movement as projected on the picture. Y is 0
    at the lowest foot point and X at the middle of the hips, both as medians over the clip. What
    was not measured is left empty. The times are the clip's own, also where its frame rate varies;
    the header names the nominal rate.

    Parameters
    ----------
    path : str or Path
        The file.
    fps : float
        Nominal frame rate for the header.
    stature_m : float, optional
        Height of the athlete in metres; `ASSUMED_STATURE_M` if not given.
    """

    def __init__(self, path: str | Path, *, fps: float, stature_m: float | None = None) -> None:
        if not fps > 0.0:
            raise ValueError(f"fps must be above 0, got {fps}")
        self._stature_m = ASSUMED_STATURE_M if stature_m is None else stature_m
        self._fps = fps
        self._n_frames = 0
        self._file = AtomicText(path)
        # Scale, origin and number of frames are known at the end only, so rows wait on the disk.
        self._raw: IO[bytes] = tempfile.TemporaryFile(dir=Path(path).absolute().parent)  # noqa: SIM115 - closed by close and abort
        self._measures = ThinnedRows(3, _SAMPLES)

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:  # noqa: ARG002 - no picture here
        """Take the keypoints of a frame."""
        pose = analysis.pose
        points = np.full((N_KEYPOINTS, 2), np.nan)
        if pose.athlete_idx is not None:
            points = pose.keypoints[pose.athlete_idx]
            ground = np.fmax.reduce(points[_GROUND, 1])
            self._measures.append([float(stature(points)), ground, points[_HIPS, 0].mean()])
        row = np.concatenate([[analysis.index + 1, analysis.time_s], points.ravel()])
        try:
            self._raw.write(row.tobytes())
        except OSError as exc:
            self.abort()
            raise VideoWriteError(f"{self._file.path} cannot be written: {exc.strerror}") from exc
        self._n_frames += 1

    def close(self, summary: ClipSummary) -> None:  # noqa: ARG002 - a sink is told the summary
        """Write header and rows."""
        with contextlib.closing(self._raw):
            self._write_all()
        self._file.publish()

    def abort(self) -> None:
        """Give up: leave nothing behind."""
        with contextlib.suppress(OSError):
            self._raw.close()
        self._file.discard()

    def _write_all(self) -> None:
        self._file.write(self._header())
        stature_px, ground_px, middle_px = self._medians()
        metres = self._stature_m / stature_px
        offset = np.array([middle_px, ground_px])
        self._raw.seek(0)
        while chunk := self._raw.read(_ROW * 8 * _ROWS_AT_ONCE):
            for row in np.frombuffer(chunk).reshape(-1, _ROW):
                points = (row[2:].reshape(-1, 2) - offset) * [metres, -metres]
                self._file.write(f"{row[0]:.0f}\t{row[1]:.5f}\t{_cells(points)}\n")

    def _medians(self) -> FloatArray:
        """Return stature, ground and middle of the hips in pixels; NaN if never measured."""
        rows = self._measures.rows()
        medians = np.full(3, np.nan)
        for column in range(3):
            seen = rows[~np.isnan(rows[:, column]), column]
            if len(seen):
                medians[column] = np.median(seen)
        return medians

    def _header(self) -> str:
        rate = f"{self._fps:.4f}"
        names = "\t\t\t".join(marker_name(name) for name in KEYPOINT_NAMES)
        axes = "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, N_KEYPOINTS + 1))
        columns = "DataRate CameraRate NumFrames NumMarkers Units OrigDataRate"
        columns += " OrigDataStartFrame OrigNumFrames"
        values = [rate, rate, self._n_frames, N_KEYPOINTS, "m", rate, 1, self._n_frames]
        lines = [
            f"PathFileType\t4\t(X/Y/Z)\t{self._file.path.name}",
            columns.replace(" ", "\t"),
            "\t".join(str(value) for value in values),
            f"Frame#\tTime\t{names}\t\t",
            f"\t\t{axes}",
            "",
        ]
        return "\n".join(lines) + "\n"


def _cells(points: FloatArray) -> str:
    """Return x, y and z = 0 of every marker; three empty cells for one that was not measured."""
    return "\t".join(
        "\t\t" if x != x or y != y else f"{x:.5f}\t{y:.5f}\t0.00000" for x, y in points.tolist()
    )
