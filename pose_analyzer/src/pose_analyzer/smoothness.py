"""How smooth a movement is, by the arc length of its speed's spectrum.

References
----------
.. [1] S. Balasubramanian, A. Melendez-Calderon, A. Roby-Brami, E. Burdet, "On the analysis of
   movement smoothness", Journal of NeuroEngineering and Rehabilitation 12:112, 2015 (SPARC; its
   padding of 4, amplitude threshold of 0.05 and cut-off of 10 Hz are used here).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.types import FloatArray

_MIN_SPEED_SAMPLES: Final = 8
_SPARC_PADDING: Final = 4
_SPARC_AMPLITUDE: Final = 0.05
_SPARC_CUTOFF_HZ: Final = 10.0
_SPARC_CUTOFF_CYCLES: Final = 6.0
"""Of a whole movement. The trembling of keypoints is of a few hertz, however slow the movement: a
cut-off in hertz alone calls who moves slowly unsteady (chosen by us, see
reports/form_scoring_validation.md)."""


def sparc(position: FloatArray, time_s: FloatArray) -> float:
    """Return the spectral arc length of a movement's speed: its smoothness [1]_.

    Up to 6 cycles of the movement: a slower one is no less smooth.

    Parameters
    ----------
    position : array, shape (T,)
        Along the movement, in any unit; NaN frames are bridged linearly.
    time_s : array, shape (T,)
        Increasing seconds, not necessarily evenly spaced.

    Returns
    -------
    float
        Negative, without unit: about -1.4 for one minimum-jerk stroke, lower the more the
        movement stops and starts again. NaN for fewer than 8 frames seen, or no movement.
    """
    seen = ~np.isnan(position)
    if seen.sum() < _MIN_SPEED_SAMPLES:
        return float("nan")
    step_s = float(np.median(np.diff(time_s)))
    even_s = np.arange(time_s[seen][0], time_s[seen][-1] + 0.5 * step_s, step_s)
    speed = np.abs(np.diff(np.interp(even_s, time_s[seen], position[seen]))) / step_s
    size = 2 ** (int(np.ceil(np.log2(speed.size))) + _SPARC_PADDING)
    magnitude = np.abs(np.fft.rfft(speed, size))
    if not magnitude[0] > 0.0:
        return float("nan")
    hertz = np.fft.rfftfreq(size, step_s)
    whole_s = float(even_s[-1] - even_s[0])
    cutoff_hz = min(_SPARC_CUTOFF_HZ, _SPARC_CUTOFF_CYCLES / whole_s)
    magnitude = magnitude[hertz <= cutoff_hz] / magnitude[0]
    last = int(np.flatnonzero(magnitude >= _SPARC_AMPLITUDE)[-1])
    if last == 0:
        return float("nan")
    rise = np.diff(magnitude[: last + 1])
    return -float(np.sqrt((1.0 / last) ** 2 + np.square(rise)).sum())
