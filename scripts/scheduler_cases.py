"""What `scheduler_simulation` compares: ours and fixed windows under one kind of load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from simulated_serving import FloatArray, Outcome, Profile

WINDOWS_MS: Final = (5.0, 10.0, 33.0, 50.0)
OURS: Final = 0.0
"""Key of our scheduler among the windows."""
STUDENT_T: Final = {5: 2.776, 20: 2.093}
"""97.5th percentile of Student's t by number of runs, with one degree of freedom less: a mean of
paired differences within 95 % confidence (Student, The probable error of a mean, 1908)."""
FPS: Final = 30.0
SAME_DROPS: Final = 0.005
"""A window counts as a rival if it drops at most so much more of the frames than ours."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run that all policies serve."""

    profile: Profile
    n_streams: int
    pattern: str
    seed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load under ours and all windows, as many runs of each as there are seeds.

    Ours and a window are compared run by run, because they serve the same arrivals and the same
    slow moments: what the runs have in common is no difference between policies.
    """

    profile: Profile
    n_streams: int
    pattern: str
    ours: Outcome
    windows: Mapping[float, Outcome]
    ours_p95_ms: FloatArray
    windows_p95_ms: Mapping[float, FloatArray]

    @classmethod
    def of(cls, load: Load, runs: Sequence[Mapping[float, Outcome]]) -> Case:
        """Return the runs of one kind of load; ours stands under `OURS`."""
        pooled = {key: Outcome.pooled([run[key] for run in runs]) for key in runs[0]}
        p95_ms = {key: np.array([run[key].percentile_ms(95) for run in runs]) for key in runs[0]}
        return cls(
            load.profile,
            load.n_streams,
            load.pattern,
            pooled.pop(OURS),
            pooled,
            p95_ms.pop(OURS),
            p95_ms,
        )

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"{self.profile.name}, {self.n_streams} streams, {self.pattern}"

    @property
    def left_out(self) -> list[float]:
        """The windows that are no rivals, because they drop more than ours; never all."""
        limit = self.ours.drop_share + SAME_DROPS
        dropping = [key for key, outcome in self.windows.items() if outcome.drop_share > limit]
        return dropping if len(dropping) < len(self.windows) else []

    @property
    def rival_ms(self) -> float:
        """The window with the best p95 among those that are not left out."""
        allowed = [window for window in self.windows if window not in self.left_out]
        return min(allowed, key=lambda window: self.windows_p95_ms[window].mean())

    @property
    def excess_ms(self) -> float:
        """By how much our p95 is above that of the rival: mean of the runs."""
        return float(np.mean(self.ours_p95_ms - self.windows_p95_ms[self.rival_ms]))

    @property
    def uncertainty_ms(self) -> float:
        """Half the width of the 95 % confidence interval of `excess_ms`."""
        differences_ms = self.ours_p95_ms - self.windows_p95_ms[self.rival_ms]
        t = STUDENT_T[differences_ms.size]
        return float(t * differences_ms.std(ddof=1) / math.sqrt(differences_ms.size))

    @property
    def any_excess_ms(self) -> float:
        """By how much our p95 is above the best of all windows, whatever they drop."""
        best = min(p95_ms.mean() for p95_ms in self.windows_p95_ms.values())
        return float(self.ours_p95_ms.mean() - best)
