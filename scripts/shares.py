"""Shares and AUCs with intervals that hold for few draws, and for draws that come in sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from scipy.optimize import brentq
from scipy.stats import norm

_ALMOST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval.

    Attributes
    ----------
    hits, n : int
        How many of how many.
    n_independent : float
        How many independent draws would vary as much.
    """

    hits: int
    n: int
    n_independent: float

    @classmethod
    def of(cls, hits: int, n: int) -> Share:
        """Return the share of independent draws."""
        return cls(hits, n, float(n))

    @classmethod
    def of_sets(cls, counts: Iterable[tuple[int, int]]) -> Share:
        """Return the share of all repetitions of sets, each given as its hits and repetitions.

        The number of repetitions is divided by the design effect: the variance of the share over
        sets, as that of a ratio, over the binomial one, and at least 1 (E. L. Korn, B. I.
        Graubard, "Confidence Intervals for Proportions with Small Expected Number of Positive
        Counts Estimated from Survey Data", Survey Methodology 24(2), 1998). Where all or none are
        hits the sets do not tell it, and each counts once.
        """
        sets = [(hits, n) for hits, n in counts if hits or n]
        hits, n = sum(one[0] for one in sets), sum(one[1] for one in sets)
        if len(sets) < 2 or hits in (0, n):
            return cls(hits, n, float(len(sets)))
        value = hits / n
        residuals = sum((one - value * size) ** 2 for one, size in sets)
        variance = len(sets) / (len(sets) - 1) * residuals / n**2
        design_effect = variance / abs(value * (1.0 - value) / n)
        return cls(hits, n, n / max(design_effect, 1.0))

    @property
    def value(self) -> float:
        """The share; NaN of none."""
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The score interval for the independent draws; NaN of none.

        E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
        Journal of the American Statistical Association 22(158), 1927.
        """
        if not self.n:
            return (math.nan, math.nan)
        n, z = self.n_independent, float(norm.ppf(0.975))
        middle = (self.value + z**2 / (2 * n)) / (1 + z**2 / n)
        variance = max(self.value * (1 - self.value), 0.0) / n + z**2 / (4 * n**2)
        half = z * math.sqrt(variance) / (1 + z**2 / n)
        return (max(middle - half, 0.0), min(middle + half, 1.0))


def auc_interval(auc: float, n_good: int, n_wrong: int) -> tuple[float, float]:
    """Return the 95 % score interval of an AUC of independent draws; NaN where a group is empty.

    It stays an interval at 0 and 1, where drawing anew gives a point: the AUCs from which the
    measured one is 1.96 of their own standard deviations away (R. G. Newcombe, "Confidence
    Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic. Part 2: Asymptotic
    Methods and Evaluation", Statistics in Medicine 25(4), 2006, method 5).
    """
    if not (n_good and n_wrong):
        return (math.nan, math.nan)
    z, middle = float(norm.ppf(0.975)), (n_good + n_wrong) / 2

    def excess(value: float) -> float:
        spread = 2 * middle - 1 - (3 * middle - 3) / ((2 - value) * (1 + value))
        return abs(auc - value) - z * math.sqrt(value * (1 - value) * spread / (n_good * n_wrong))

    # Both ends of the scale have no deviation of their own: they are no way out of the search.
    low = 0.0 if auc < 2 * _ALMOST else brentq(excess, _ALMOST, auc - _ALMOST)
    high = 1.0 if auc > 1.0 - 2 * _ALMOST else brentq(excess, auc + _ALMOST, 1.0 - _ALMOST)
    return (float(low), float(high))
