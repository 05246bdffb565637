"""Curves over the time of a clip: recorded in bounded memory, drawn as SVG.

A plot is `X_UNITS` wide and `Y_UNITS` high in its own units and stretches to the width of the page;
labels are no part of it, so zooming never distorts a letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.report.thinning import ThinnedRows
from pose_analyzer.skeleton import N_JOINTS
from pose_analyzer.types import FloatArray, FrameAnalysis, IntArray

PHASES: Final = ("unknown", "rest", "away", "turn", "back")
X_UNITS: Final = 20_000
Y_UNITS: Final = 1_000
MAX_POINTS: Final = 4_096
"""Most points of a curve: two for each pixel of a wide screen, and a file far below 3 MB."""


@dataclass(frozen=True, slots=True)
class Curves:
    """What was measured over the clip, at evenly spaced frames.

    Attributes
    ----------
    time_s : array, shape (T,)
        Increasing.
    deg, sigma_deg : array, shape (T, J)
        NaN where not measured.
    signal : array, shape (T,)
        In body sizes; NaN where not measured.
    phase : int array, shape (T,)
        Index into `PHASES`.
    stride : int
        Every ``stride``-th frame of the clip is here.
    """

    time_s: FloatArray
    deg: FloatArray
    sigma_deg: FloatArray
    signal: FloatArray
    phase: IntArray
    stride: int


class CurveRecorder:
    """Collects `Curves` frame by frame; memory does not grow with the clip."""

    def __init__(self, max_points: int = MAX_POINTS) -> None:
        self._rows = ThinnedRows(3 + 2 * N_JOINTS, max_points)

    def add(self, analysis: FrameAnalysis) -> None:
        """Take the next frame."""
        phase = PHASES.index(analysis.motion.phase)
        head = [analysis.time_s, analysis.motion.signal, phase]
        angles = analysis.angles
        self._rows.append(np.concatenate([head, angles.deg, angles.sigma_deg]))

    def curves(self) -> Curves:
        """Return what was collected."""
        rows = self._rows.rows()
        return Curves(
            time_s=rows[:, 0],
            signal=rows[:, 1],
            phase=rows[:, 2].astype(np.intp),
            deg=rows[:, 3 : 3 + N_JOINTS],
            sigma_deg=rows[:, 3 + N_JOINTS :],
            stride=self._rows.stride,
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """From seconds and values to the units of a plot.

    Attributes
    ----------
    duration_s : float
        The right end of the plot.
    low, high : float
        The values at its lower and upper edge.
    """

    duration_s: float
    low: float
    high: float

    def x(self, time_s: FloatArray) -> IntArray:
        """Return places from left, in plot units."""
        places: IntArray = np.rint(time_s / self.duration_s * X_UNITS).astype(np.intp)
        return places

    def y(self, values: FloatArray) -> FloatArray:
        """Return places from above, in plot units, within the plot; NaN stays NaN."""
        share = (values - self.low) / (self.high - self.low)
        places: FloatArray = np.rint((1.0 - np.clip(share, 0.0, 1.0)) * Y_UNITS)
        return places

    def ticks(self, step: float) -> list[tuple[float, float]]:
        """Return the multiples of ``step`` within the plot, each with its place in percent."""
        first, last = np.ceil(self.low / step), np.floor(self.high / step)
        values = np.arange(first, last + 1) * step
        places = self.y(values) / Y_UNITS * 100.0
        return list(zip(values.tolist(), places.tolist(), strict=True))


def value_scale(duration_s: float, values: FloatArray, step: float) -> Scale:
    """Return a scale that holds all values, its edges at multiples of ``step``."""
    seen = values[np.isfinite(values)]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.0, step)
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    return Scale(max(duration_s, 1e-3), float(low), float(max(high, low + step)))


def line_path(scale: Scale, time_s: FloatArray, values: FloatArray) -> str:
    """Return the path of a curve; it is broken where values are NaN."""
    x, y = scale.x(time_s), scale.y(values)
    return "".join(_polyline(x[rows], y[rows]) for rows in _runs(values))


def band_path(scale: Scale, time_s: FloatArray, values: FloatArray, sigma: FloatArray) -> str:
    """Return the closed path of values plus and minus one standard deviation."""
    x, upper, lower = scale.x(time_s), scale.y(values + sigma), scale.y(values - sigma)
    parts = []
    for rows in _runs(values + sigma):
        there_and_back = np.concatenate([x[rows], x[rows][::-1]])
        edge = np.concatenate([upper[rows], lower[rows][::-1]])
        parts.append(_polyline(there_and_back, edge) + "z")
    return "".join(parts)


def phase_runs(curves: Curves) -> Iterator[tuple[str, float, float]]:
    """Yield each phase with its start and end in seconds; the end is the start of the next."""
    if not len(curves.phase):
        return
    edges = np.flatnonzero(np.diff(curves.phase)) + 1
    starts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(curves.phase) - 1]
    for start, end in zip(starts, ends, strict=True):
        phase = PHASES[int(curves.phase[start])]
        yield phase, float(curves.time_s[start]), float(curves.time_s[end])


def _runs(values: FloatArray) -> Iterator[slice]:
    """Yield the stretches without NaN."""
    seen = np.concatenate([[False], np.isfinite(values), [False]])
    edges = np.flatnonzero(np.diff(seen.astype(np.int8)))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield slice(start, end)


def _polyline(x: IntArray, y: FloatArray) -> str:
    """Return a path in relative whole units, which is a third of the size of absolute ones."""
    if len(x) == 1:
        return f"M{x[0]:.0f} {y[0]:.0f}h0"
    steps = np.column_stack([np.diff(x), np.diff(y)]).astype(np.intp).ravel().tolist()
    return f"M{x[0]:.0f} {y[0]:.0f}l" + " ".join(map(str, steps))
