"""When and what to give up so that the GPU's memory does not run out, and when to give it back.

Above 90 % of the memory the frame rates fall first, then streams are suspended; below 70 % the last
that was given up comes back first. This module decides and does nothing: it is told the time, the
memory and the streams, and answers with actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pose_analyzer.serving.stream_state import StreamState

_NOMINAL_FPS: Final = 30.0
"""Of a stream whose rate is not measured yet: the commonest rate of cameras (chosen by us)."""
_STEP_SHARE: Final = 0.25
"""Of the streams that one step changes: four steps for all, so memory shows the effect of each
before too much is given up (chosen by us)."""
_WORTHWHILE_SHARE: Final = 0.75
"""A limit saves memory only if it is well below what the stream sends (chosen by us)."""


@dataclass(frozen=True, slots=True)
class SheddingConfig:
    """The limits and the pace of load shedding; all but the first two are chosen by us.

    Attributes
    ----------
    shed_above, restore_below : float
        Shares of the memory in (0, 1): the 90 % and 70 % of ``docs/live_serving.md``. Between them
        nothing is done.
    urgent_above : float
        Share above which a step slows every stream instead of a quarter of them.
    fps_steps : tuple of float
        The limits of the frame rate, falling; the last is the floor.
    shed_pause_s : float
        Least seconds from one step to the next, so that the memory can answer.
    restore_hold_s : float
        Seconds without a break that the memory must be low before a step is taken back.
    restore_hold_max_s : float
        The hold doubles each time that shedding is needed again after giving back, up to this. It
        starts anew when giving back has gone well for as long.
    blind_after_s : float
        Seconds without a reading after which it counts as low, so that no stream stays away for
        good because a library failed.
    """

    shed_above: float = 0.90
    restore_below: float = 0.70
    urgent_above: float = 0.95
    fps_steps: tuple[float, ...] = (30.0, 15.0, 7.5, 5.0)
    shed_pause_s: float = 2.0
    restore_hold_s: float = 5.0
    restore_hold_max_s: float = 600.0
    blind_after_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0.0 < self.restore_below < self.shed_above <= self.urgent_above <= 1.0:
            raise ValueError(
                "0 < restore_below < shed_above <= urgent_above <= 1 must hold, got "
                f"{self.restore_below}, {self.shed_above}, {self.urgent_above}"
            )
        falls = all(a > b for a, b in zip(self.fps_steps[:-1], self.fps_steps[1:], strict=True))
        if not self.fps_steps or not falls or self.fps_steps[-1] <= 0.0:
            raise ValueError(f"fps_steps must fall and be above 0, got {self.fps_steps}")
        if min(self.shed_pause_s, self.restore_hold_s, self.blind_after_s) < 0.0:
            raise ValueError("shed_pause_s, restore_hold_s and blind_after_s must not be negative")
        if self.restore_hold_max_s < self.restore_hold_s:
            raise ValueError(
                f"restore_hold_max_s must be at least {self.restore_hold_s}, "
                f"got {self.restore_hold_max_s}"
            )


@dataclass(frozen=True, slots=True)
class LimitRate:
    """Let so many frames a second of a stream through; None lets all of them."""

    stream_id: str
    max_fps: float | None


@dataclass(frozen=True, slots=True)
class Suspend:
    """Drop all frames of a stream and keep its analysis."""

    stream_id: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Take the frames of a suspended stream again."""

    stream_id: str


Action: TypeAlias = LimitRate | Suspend | Resume


@dataclass(frozen=True, slots=True)
class _Given:
    """One thing given up: what was done to a stream, and what takes it back."""

    done: LimitRate | Suspend
    undo: LimitRate | Resume

    @property
    def stream_id(self) -> str:
        return self.done.stream_id

    def still_holds(self, state: StreamState) -> bool:
        """Return whether nobody changed the stream since."""
        if isinstance(self.done, Suspend):
            return state.is_suspended
        return state.max_fps == self.done.max_fps


class SheddingPolicy:
    """Decides what is given up and given back; `decide` is called again and again.

    One step slows a quarter of the streams (all of them where it is urgent) by one limit, or
    suspends a quarter of them when none can be slowed further. Streams of low priority go first,
    among equals those with the higher limit, then the newest. One stream always stays. What was
    given up last comes back first, a quarter of the streams at a time.

    Notes
    -----
    It does not thrash. Memory that swings around one limit causes at most one action for each
    stream and limit, because nothing is done in between the two. Memory that swings over both finds
    the hold doubled each time, so the number of swings that are answered grows with the logarithm
    of time until the hold is at its maximum.

    Parameters
    ----------
    config : SheddingConfig, optional
        Limits and pace.
    """

    def __init__(self, config: SheddingConfig | None = None) -> None:
        self.config = SheddingConfig() if config is None else config
        self._given: list[_Given] = []
        self._hold_s = self.config.restore_hold_s
        self._shed_s = -math.inf
        self._restored_s = -math.inf
        self._low_since_s: float | None = None
        self._measured_s: float | None = None

    @property
    def is_shedding(self) -> bool:
        """True while something is given up."""
        return bool(self._given)

    def decide(
        self, share: float, streams: Sequence[StreamState], now_s: float
    ) -> tuple[Action, ...]:
        """Return what to do now, in order; the caller does it before the next call.

        Parameters
        ----------
        share : float
            Used of total memory in [0, 1]; NaN means not measured.
        streams : sequence of StreamState
            All open streams.
        now_s : float
            Seconds on any clock that does not go back.
        """
        self._forget(streams)
        self._note_low(share, now_s)
        if self._given and all(stream.is_suspended for stream in streams):
            return self._rescue(streams)
        if share > self.config.shed_above:
            return self._shed(share, streams, now_s)
        if self._low_since_s is not None and now_s - self._low_since_s >= self._hold_s:
            return self._restore(streams, now_s)
        return ()

    def _forget(self, streams: Sequence[StreamState]) -> None:
        """Forget what was given up of streams that closed or that somebody else changed."""
        states = {stream.stream_id: stream for stream in streams}
        kept: list[_Given] = []
        holding: set[tuple[str, type[LimitRate | Suspend]]] = set()
        # From the newest: only the last limit of a stream shows in its state.
        for given in reversed(self._given):
            state = states.get(given.stream_id)
            key = (given.stream_id, type(given.done))
            if state is not None and (key in holding or given.still_holds(state)):
                kept.append(given)
                holding.add(key)
        self._given = kept[::-1]

    def _note_low(self, share: float, now_s: float) -> None:
        """Note since when the memory is low, or nobody can tell how full it is."""
        if self._measured_s is None or not math.isnan(share):
            self._measured_s = now_s
        is_blind = math.isnan(share) and now_s - self._measured_s >= self.config.blind_after_s
        if not (share < self.config.restore_below or is_blind):
            self._low_since_s = None
        elif self._low_since_s is None:
            self._low_since_s = now_s

    def _shed(
        self, share: float, streams: Sequence[StreamState], now_s: float
    ) -> tuple[Action, ...]:
        if now_s - self._shed_s < self.config.shed_pause_s:
            return ()
        active = [stream for stream in streams if not stream.is_suspended]
        n_streams = _quarter(active)
        is_urgent = share > self.config.urgent_above
        step = self._slower(active)[: len(active) if is_urgent else n_streams]
        if not step:
            step = _suspended(active)[: min(n_streams, len(active) - 1)]
        if step:
            self._set_hold(now_s)
            self._shed_s = now_s
            self._given += step
        return tuple(given.done for given in step)

    def _set_hold(self, now_s: float) -> None:
        """Wait longer before giving back if what was given back has to be shed again."""
        if self._restored_s <= self._shed_s:
            return
        is_relapse = now_s - self._restored_s < self.config.restore_hold_max_s
        longer_s = min(2.0 * self._hold_s, self.config.restore_hold_max_s)
        self._hold_s = longer_s if is_relapse else self.config.restore_hold_s

    def _slower(self, active: Sequence[StreamState]) -> list[_Given]:
        """Return every stream that can be slowed with its next limit, first to go first."""
        limits = [(stream, self._next_limit(stream)) for stream in active]
        slowable = [(stream, limit) for stream, limit in limits if limit is not None]
        slowable.sort(key=lambda pair: (pair[0].priority, -pair[1], -pair[0].opened_s))
        return [
            _Given(LimitRate(stream.stream_id, limit), LimitRate(stream.stream_id, stream.max_fps))
            for stream, limit in slowable
        ]

    def _next_limit(self, stream: StreamState) -> float | None:
        fps = _NOMINAL_FPS if math.isnan(stream.fps) else stream.fps
        if stream.max_fps is not None:
            fps = min(fps, stream.max_fps)
        worthwhile = (limit for limit in self.config.fps_steps if limit <= _WORTHWHILE_SHARE * fps)
        return next(worthwhile, None)

    def _restore(self, streams: Sequence[StreamState], now_s: float) -> tuple[Action, ...]:
        n_back = min(_quarter(streams), len(self._given))
        if n_back == 0:
            return ()
        back = self._given[: -n_back - 1 : -1]
        del self._given[-n_back:]
        self._restored_s = now_s
        # The memory has to be low for another hold before more is given back.
        self._low_since_s = now_s
        return tuple(given.undo for given in back)

    def _rescue(self, streams: Sequence[StreamState]) -> tuple[Action, ...]:
        """Take the most important stream back when the others have left, however full it is."""
        ours = {given.stream_id for given in self._given if isinstance(given.done, Suspend)}
        waiting = [stream for stream in streams if stream.stream_id in ours]
        if not waiting:
            return ()
        best = max(waiting, key=lambda stream: (stream.priority, -stream.opened_s))
        self._given.remove(_Given(Suspend(best.stream_id), Resume(best.stream_id)))
        return (Resume(best.stream_id),)


def _quarter(streams: Sequence[StreamState]) -> int:
    return math.ceil(_STEP_SHARE * len(streams))


def _suspended(active: Sequence[StreamState]) -> list[_Given]:
    """Return the suspension of every stream, first to go first."""
    ordered = sorted(active, key=lambda stream: (stream.priority, -stream.opened_s))
    return [_Given(Suspend(stream.stream_id), Resume(stream.stream_id)) for stream in ordered]
