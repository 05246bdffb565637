"""Holds: how long a position is kept. Timed, where `RepCounter` counts.

A hold begins when the body has been in position for a while, at the first of these moments. It ends
when the position has been left, or could not be seen, for longer than a short break, at the last
moment before; the end of the stream ends it too, and what was held until then counts.
"""

from __future__ import annotations

from typing import NamedTuple

from pose_analyzer.exercises import HoldSpec
from pose_analyzer.types import Rep


class _Moment(NamedTuple):
    time_s: float
    frame: int


class HoldTimer:
    """Time the holds of one athlete.

    Parameters
    ----------
    spec : HoldSpec
        When a hold begins and ends.
    min_duration_s : float
        A shorter hold is partial.

    Attributes
    ----------
    count : int
        Full holds so far.

    Examples
    --------
    >>> timer = HoldTimer(
    ...     HoldSpec(
    ...         ("shoulder", "hip", "ankle"),
    ...         35.0,
    ...         60.0,
    ...         "shoulder",
    ...         "elbow",
    ...         0.07,
    ...         0.12,
    ...         1.0,
    ...         1.5,
    ...         35.0,
    ...         "an example",
    ...     ),
    ...     5.0,
    ... )
    >>> [timer.update(0.4, float(second), second) for second in range(8)][-1]
    ()
    >>> timer.finish()[0].hold_s
    7.0
    """

    def __init__(self, spec: HoldSpec, min_duration_s: float) -> None:
        self._spec = spec
        self._min_duration_s = min_duration_s
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object."""
        self.count = 0
        self._start: _Moment | None = None
        self._last = _Moment(0.0, 0)

    @property
    def is_holding(self) -> bool:
        """Whether a hold has begun and not ended, short breaks included."""
        return self._start is not None and self._has_begun(self._start)

    def update(self, signal: float, time_s: float, index: int) -> tuple[Rep, ...]:
        """Return the hold that this frame ended, if any.

        Parameters
        ----------
        signal : float
            How far the body is out of position, see `HoldPosture`: up to 1 is in position. NaN (not
            measured) is out of it.
        time_s : float
            Increasing.
        index : int
            The frame.
        """
        finished: tuple[Rep, ...] = ()
        is_in = signal <= 1.0
        is_broken = time_s - self._last.time_s > self._spec.max_break_s
        if is_broken or (not is_in and not self.is_holding):
            finished = self.finish()
        if is_in:
            self._last = _Moment(time_s, index)
            self._start = self._start or self._last
        return finished

    def finish(self) -> tuple[Rep, ...]:
        """Return the hold that the end of the stream cuts short, if any, and be ready for more."""
        rep = self.so_far()
        self._start = None
        if rep is None:
            return ()
        self.count += not rep.is_partial
        return (rep,)

    def so_far(self) -> Rep | None:
        """Return the hold in progress as if it ended now; None if there is none."""
        start, last = self._start, self._last
        if start is None or not self._has_begun(start):
            return None
        held_s = last.time_s - start.time_s
        is_partial = held_s < self._min_duration_s
        return Rep(
            number=0 if is_partial else self.count + 1,
            start_s=start.time_s,
            turn_s=0.5 * (start.time_s + last.time_s),
            end_s=last.time_s,
            start_index=start.frame,
            turn_index=(start.frame + last.frame) // 2,
            end_index=last.frame,
            range=0.0,
            is_partial=is_partial,
            hold_s=held_s,
        )

    def _has_begun(self, start: _Moment) -> bool:
        return self._last.time_s - start.time_s >= self._spec.settle_s
