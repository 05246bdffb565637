"""The split conformal threshold, and which false-positive rates so many scores support.

References
----------
.. [1] H. Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002; the
   finite-sample form of split conformal prediction as in A. Angelopoulos, S. Bates, "A Gentle
   Introduction to Conformal Prediction", section 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.errors import ReferencesError

_ROUNDING: Final = 1e-9
"""1 / 0.01 must count as 100, whichever way it is rounded."""
_DIGITS: Final = 2


def scores_needed(rate: float) -> int:
    """Return how many scores a false-positive rate in (0, 1) takes: ``ceil(1 / rate) - 1`` [1]_."""
    return max(1, math.ceil(1.0 / rate - _ROUNDING) - 1)


def lowest_rate(n_scores: int) -> float:
    """Return the lowest rate that n >= 1 scores support, rounded up to two digits."""
    exact = 1.0 / (n_scores + 1)
    unit = 10.0 ** (math.floor(math.log10(exact)) - _DIGITS + 1)
    return math.ceil(exact / unit - _ROUNDING) * unit


def threshold(scores: Sequence[float], rate: float, units: str) -> float:
    """Return the threshold that a new score exceeds with at most a probability.

    Parameters
    ----------
    scores : sequence of float
        Of good repetitions, exchangeable with the new one.
    rate : float
        The probability, in (0, 1).
    units : str
        What each score is of, in the plural.

    Raises
    ------
    ReferencesError
        If the scores are too few for the rate.

    Notes
    -----
    The ``ceil((n + 1) (1 - rate))``-th smallest of n scores [1]_.
    """
    needed = scores_needed(rate)
    if len(scores) < needed:
        lower = f", or ask for a rate of {lowest_rate(len(scores)):.{_DIGITS}g} or more"
        raise ReferencesError(
            f"a false-positive rate of {rate:g} takes at least {needed} {units}, "
            f"got {len(scores)}; record more{lower if scores else ''}"
        )
    rank = math.ceil((len(scores) + 1) * (1.0 - rate) - _ROUNDING)
    return float(np.sort(scores)[max(rank, 1) - 1])
