"""Repetitions that differ from the others of the same set.

Is the newest repetition further from the earlier ones than they are from each other? That needs
no reference and is what a live stream asks of an athlete whom nobody has seen before.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from pose_analyzer.skeleton import JOINT_NAMES
from pose_analyzer.time_warping import (
    N_PHASES,
    phase_normalised,
    warped_attribution,
    warped_distances,
)
from pose_analyzer.types import Anomaly, FloatArray

MIN_EARLIER_REPS: Final = 5

_BAND_RADIUS: Final = N_PHASES // 10
_MEMORY_REPS: Final = 12
_MAD_TO_SD: Final = 1.4826
_THRESHOLD: Final = 3.0
_FLOOR_DEG: Final = 1.5
_EDGE_ROWS: Final = 3
_STILL_SHARE: Final = 0.1


class SetComparison:
    """Compares each repetition of a set with those before it.

    Parameters
    ----------
    joints : tuple of str
        Names of the D columns of every sequence.
    """

    def __init__(self, joints: tuple[str, ...] = JOINT_NAMES) -> None:
        self._joints = joints
        self.reset()

    def reset(self) -> None:
        """Forget the set, as a new object."""
        self._earlier: deque[FloatArray] = deque(maxlen=_MEMORY_REPS)
        self._between: deque[FloatArray] = deque(maxlen=_MEMORY_REPS)

    def judge(self, deg: FloatArray) -> Anomaly:
        """Return whether the newest repetition differs from the earlier ones.

        Parameters
        ----------
        deg : array, shape (T, D)
            Its angles in degrees, evenly sampled; NaN where not measured. It is remembered as an
            earlier one for the next, among the last 12.

        Returns
        -------
        Anomaly
            The score is how far the median distance to the earlier repetitions lies above the
            median of their distances among each other, in robust standard deviations of these
            (of at least 1.5 degrees or a quarter of the median; threshold 3: chosen by us, see
            reports/form_scoring.md). Abstained below 5 earlier repetitions.

        Raises
        ------
        ValueError
            If the sequence has another number of columns, or fewer than two rows.
        """
        if deg.ndim != 2 or deg.shape[1] != len(self._joints):
            raise ValueError(f"a sequence needs shape (T, {len(self._joints)}), got {deg.shape}")
        curves = phase_normalised(deg)
        if np.isnan(curves).all():
            return _abstained("no joint was seen in half of the repetition")
        curves = _without_rest(curves)
        distances = np.empty(0)
        if self._earlier:
            # The distance sums over the path, the root mean square over its diagonal is degrees.
            distances = warped_distances(curves, np.stack(self._earlier), _BAND_RADIUS)
            distances /= math.sqrt(N_PHASES)
        verdict = self._verdict(curves, distances)
        self._earlier.append(curves)
        self._between.append(distances)
        return verdict

    def _verdict(self, curves: FloatArray, distances: FloatArray) -> Anomaly:
        known = distances[~np.isnan(distances)]
        if len(known) < MIN_EARLIER_REPS:
            return _abstained(f"needs {MIN_EARLIER_REPS} earlier repetitions, has {len(known)}")
        between = np.concatenate(self._between)
        between = between[~np.isnan(between)]
        usual = float(np.median(between))
        spread = _MAD_TO_SD * float(np.median(np.abs(between - usual)))
        score = (float(np.median(known)) - usual) / max(spread, _FLOOR_DEG, 0.25 * usual)
        typical = self._earlier[int(np.nanargmin(np.abs(distances - np.median(known))))]
        shares = warped_attribution(curves, typical, _BAND_RADIUS)
        order = np.argsort(-shares, kind="stable")
        named = tuple((self._joints[i], float(shares[i])) for i in order if shares[i] > 0.0)
        return Anomaly(score > _THRESHOLD, score, _THRESHOLD, named)


def _abstained(reason: str) -> Anomaly:
    return Anomaly(False, math.nan, math.nan, (), reason)


def _without_rest(curves: FloatArray) -> FloatArray:
    """Return a phase-normalised repetition without the stillness before and after it.

    How long one rests before the next repetition says nothing of this one, but would shift its
    phases. Still is what moved less than a tenth of the way: a root mean square over the joints.
    """
    seen = curves[:, ~np.isnan(curves).any(axis=0)]
    from_start, from_end = (
        np.sqrt(np.square(seen - seen[rows].mean(axis=0)).mean(axis=1))
        for rows in (slice(0, _EDGE_ROWS), slice(-_EDGE_ROWS, None))
    )
    first = int(np.argmax(from_start >= _STILL_SHARE * from_start.max()))
    last = len(seen) - 1 - int(np.argmax(from_end[::-1] >= _STILL_SHARE * from_end.max()))
    return phase_normalised(curves[max(first - 1, 0) : max(last, first) + 2])
