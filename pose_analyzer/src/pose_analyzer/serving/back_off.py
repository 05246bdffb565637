"""How long to wait before a lost source is opened anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ReconnectConfig:
    """When a connection counts as lost, and how long to wait for the next; all chosen by us.

    Attributes
    ----------
    first_delay_s : float
        Longest wait after the first failure.
    factor : float
        By which the longest wait grows with each failure.
    max_delay_s : float
        What it does not grow beyond.
    good_after_s : float
        After frames for so long the waits begin small again.
    stall_after_s : float
        A connection without a frame for so long is lost.
    open_within_s : float
        The same, from opening to the first frame: a camera may have to wake up.
    max_attempts : int or None
        After so many failures without a good spell between them it gives up; None never does.
    """

    first_delay_s: float = 0.5
    factor: float = 2.0
    max_delay_s: float = 30.0
    good_after_s: float = 10.0
    stall_after_s: float = 5.0
    open_within_s: float = 15.0
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.first_delay_s <= self.max_delay_s:
            raise ValueError(
                "first_delay_s must be above 0 and at most max_delay_s, "
                f"got {self.first_delay_s} and {self.max_delay_s}"
            )
        if not self.factor >= 1.0:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        spells_s = (self.good_after_s, self.stall_after_s, self.open_within_s)
        if not all(spell_s > 0.0 for spell_s in spells_s):
            raise ValueError("good_after_s, stall_after_s and open_within_s must be above 0")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")


class BackOff:
    """Waits between attempts: drawn evenly from 0 to a bound that grows.

    Parameters
    ----------
    config : ReconnectConfig
        The bounds.
    rng : numpy.random.Generator
        Draws them, so that many clients of one camera do not return together.

    References
    ----------
    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """

    def __init__(self, config: ReconnectConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Begin with the smallest bound again."""
        self.n_failures = 0
        self._bound_s = self._config.first_delay_s

    def next_delay_s(self) -> float:
        """Return how long to wait after another failure."""
        delay_s = float(self._rng.uniform(0.0, self._bound_s))
        self.n_failures += 1
        self._bound_s = min(self._config.max_delay_s, self._bound_s * self._config.factor)
        return delay_s
