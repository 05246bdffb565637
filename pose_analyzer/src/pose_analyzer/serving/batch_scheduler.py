"""Which frames go to the detector, and when.

Pure: the time is given, nothing waits, nothing is shared. The frames themselves stay in the
`FrameMailbox`; here are only their times. A batch leaves when it is full, when waiting longer would
miss the earliest deadline, or when no more frames can be expected soon enough (`leave_rule`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from pose_analyzer.serving.arrival_rate import ArrivalRate
from pose_analyzer.serving.execution_times import ExecutionTimes
from pose_analyzer.serving.leave_rule import LeaveRule, WaitingBatch

MOST_PRIORITY: Final = 10
_PROBE_EVERY: Final = 100
"""One batch of so many has twice the size, if it takes at most half of the time that it may."""
_COSTLY_PROBE_EVERY: Final = 1000
"""One batch of so many has twice the size though it takes long, or half the size. Seldom: near
capacity the frames that are left behind take ten more batches to catch up with (both chosen by us,
see reports/scheduler_simulation.md)."""
_LEAST_TRIALS: Final = 2
"""A new size that does not pay is tried so often before it is left: the first time may be that of
a kernel being chosen (chosen by us)."""
_SHARE_CONSTANT_S: Final = 10.0
"""Longer than cameras pause at a key frame, lest whoever paused goes first for it."""
_SHARE_STEP_S: Final = 0.0004
"""A frame served lately moves the next turn back by so much: what a stream gains by a lucky phase
of its camera is taken back within a minute."""
_MOST_SHARE_S: Final = 0.002
"""And by no more than this from the mean of those that wait: fairness costs the tail (all three
chosen by us, see reports/scheduler_simulation.md)."""
_STAMPS_OF_ALL: Final = 256
"""Arrivals of all streams together from which their company is learned: some rounds of many."""


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """What the scheduler knows of a frame.

    Attributes
    ----------
    stream_id : str
        Whose it is.
    number : int
        Unique, increasing within its stream.
    captured_s : float
        When it was taken, on the clock of ``now_s``.
    since_s : float
        Since when its stream has waited for its turn.
    budget_s : float
        From capture to result: what is captured at t should be done at t + budget.
    priority : int
        From -10 to 10, larger first.
    stale_s : float
        Older than this when it would be done it is not worth analysing; infinite for a frame that
        must not be dropped.
    """

    stream_id: str
    number: int
    captured_s: float
    since_s: float
    budget_s: float = 0.1
    priority: int = 0
    stale_s: float = 0.5

    @property
    def deadline_s(self) -> float:
        """When it should be done."""
        return self.captured_s + self.budget_s


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Settings of the scheduler, all chosen by us: see reports/scheduler_simulation.md.

    Attributes
    ----------
    max_wait_s : float
        The ceiling: no frame waits longer for others than this.
    guard : float
        Share that a batch may take longer than expected without missing a deadline.
    priority_step_s : float
        By how much one step of priority moves a frame's turn forward. A stream of low priority
        waits so much longer, then its turn comes: nobody starves.
    throughput_tolerance : float
        Share that a frame may cost more in a smaller batch that is done much sooner. On a CPU,
        where a batch costs about as much as its frames, they leave one by one.
    """

    max_wait_s: float = 0.05
    guard: float = 0.1
    priority_step_s: float = 0.1
    throughput_tolerance: float = 0.15


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Attributes
    ----------
    run : tuple of WaitingFrame
        Take these to the detector, in this order; empty if it is better to wait.
    stale : tuple of WaitingFrame
        Drop these.
    wait_until_s : float
        If nothing is to run: ask again then, or when a frame arrives. Infinite if none waits.
    """

    run: tuple[WaitingFrame, ...] = ()
    stale: tuple[WaitingFrame, ...] = ()
    wait_until_s: float = math.inf


@dataclass(slots=True)
class _Service:
    """How much a stream was served lately."""

    last_s: float
    _share: float = 0.0

    def share(self, now_s: float) -> float:
        """Return the frames of the last ten seconds, the older the less."""
        return self._share * math.exp((self.last_s - now_s) / _SHARE_CONSTANT_S)

    def add(self, now_s: float) -> None:
        self._share = self.share(now_s) + 1.0
        self.last_s = now_s


@dataclass(slots=True)
class BatchScheduler:
    """Forms batches: earliest deadline first, fair between streams, in order within each.

    Each stream's oldest frame comes before the second of any. Among them the deadline counts from
    when the stream began to wait, whatever replaced its frame since; it is moved forward by the
    stream's priority, and back by what it was served lately. So streams take turns whatever they
    send, and all get the same in the long run.

    Used by one thread.
    """

    config: SchedulerConfig = field(default_factory=SchedulerConfig)
    times: ExecutionTimes = field(default_factory=ExecutionTimes)
    _all: ArrivalRate = field(default_factory=lambda: ArrivalRate(_STAMPS_OF_ALL))
    _rates: dict[str, ArrivalRate] = field(default_factory=dict)
    _services: dict[str, _Service] = field(default_factory=dict)
    _n_batches: int = 0

    def arrived(self, stream_id: str, time_s: float) -> None:
        """Take that a frame arrived, whether or not it will be analysed."""
        self._rates.setdefault(stream_id, ArrivalRate()).add(time_s)
        self._all.add(time_s)

    def ran(self, n_frames: int, seconds: float) -> None:
        """Take how long a batch took."""
        self.times.add(n_frames, seconds)

    def forget(self, stream_id: str) -> None:
        """Take that a stream has ended."""
        self._rates.pop(stream_id, None)
        self._services.pop(stream_id, None)

    def fps(self, stream_id: str) -> float:
        """Return how many frames a second arrive; NaN until that is known."""
        rate = self._rates.get(stream_id)
        return math.nan if rate is None else rate.fps

    def decide(self, waiting: Sequence[WaitingFrame], now_s: float, max_batch: int) -> Decision:
        """Return what to do now, while the detector is idle.

        Parameters
        ----------
        waiting : sequence of WaitingFrame
            In the order of each stream.
        now_s : float
            The time, on the clock of the frames.
        max_batch : int
            Most frames that the detector takes at once, at least 1.
        """
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}")
        stale = tuple(frame for frame in waiting if self._is_stale(frame, now_s))
        numbers = {frame.number for frame in stale}
        ready = self._in_turn([frame for frame in waiting if frame.number not in numbers], now_s)
        if not ready:
            return Decision(stale=stale)
        longest_s = self._longest_s(min(frame.budget_s for frame in ready))
        limit = self._limit(max_batch, longest_s)
        size = self._size(min(limit, len(ready)), min(max_batch, len(ready)), longest_s)
        if size == len(ready) < limit:
            until_s = self._leave_s(ready, now_s, limit)
            if until_s > now_s:
                return Decision(stale=stale, wait_until_s=until_s)
        self._n_batches += 1
        for frame in ready[:size]:
            self._services[frame.stream_id].add(now_s)
        return Decision(tuple(ready[:size]), stale)

    def _is_stale(self, frame: WaitingFrame, now_s: float) -> bool:
        """Return whether a frame would be too old when it is done.

        The detector's time counts for half of the limit at most, so that a slow one does not find
        every frame too old.
        """
        least_s = min(self.times.seconds(1), 0.5 * frame.stale_s)
        return now_s + least_s - frame.captured_s > frame.stale_s

    def _longest_s(self, budget_s: float) -> float:
        """Return how long a batch may take.

        Within the budget; where even a single frame takes longer, twice its time: more than that
        no batch may add, whatever it saves.
        """
        alone_s = self.times.seconds(1)
        return budget_s if alone_s <= budget_s else 2.0 * alone_s

    def _limit(self, max_batch: int, longest_s: float) -> int:
        """Return the largest batch now: a proven size, or one that is worth trying."""
        limit = min(max_batch, self.times.most_to_try)
        while limit > 1 and self.times.seconds(limit) > longest_s:
            limit -= 1
        proven = max(1, self.times.most_proven)
        return proven if limit > proven and not self._is_worth_trying(limit) else limit

    def _is_worth_trying(self, size: int) -> bool:
        """Return whether a size that was not proven yet may make a frame cheaper."""
        dear_s = size * self.times.seconds(1) / (1.0 + self.config.throughput_tolerance)
        return self.times.n_runs(size) < _LEAST_TRIALS or self.times.seconds(size) < dear_s

    def _size(self, most: int, most_ever: int, longest_s: float) -> int:
        """Return how many frames to take; now and then another size, lest its time be outdated."""
        size = self.times.efficient_size(most, self.config.throughput_tolerance)
        larger = min(2 * size, most_ever)
        larger_s = self.times.seconds(larger)
        if larger == size or larger_s > longest_s:
            return max(1, size // 2) if self._is_turn_of(_COSTLY_PROBE_EVERY) else size
        every = _PROBE_EVERY if larger_s <= 0.5 * longest_s else _COSTLY_PROBE_EVERY
        return larger if self._is_turn_of(every) else size

    def _is_turn_of(self, every: int) -> bool:
        return self._n_batches % every == every - 1

    def _in_turn(self, frames: Collection[WaitingFrame], now_s: float) -> list[WaitingFrame]:
        before: Counter[str] = Counter()
        keyed = []
        shares = {frame.stream_id: self._share(frame, now_s) for frame in frames}
        mean = sum(shares.values()) / max(1, len(shares))
        for frame in sorted(frames, key=lambda frame: frame.number):
            later_s = _SHARE_STEP_S * (shares[frame.stream_id] - mean)
            turn_s = frame.since_s + frame.budget_s
            turn_s += max(-_MOST_SHARE_S, min(_MOST_SHARE_S, later_s))
            turn_s -= frame.priority * self.config.priority_step_s
            keyed.append((before[frame.stream_id], turn_s, frame.since_s, frame.number, frame))
            before[frame.stream_id] += 1
        return [frame for *_, frame in sorted(keyed, key=lambda key: key[:4])]

    def _share(self, frame: WaitingFrame, now_s: float) -> float:
        service = self._services.setdefault(frame.stream_id, _Service(frame.since_s))
        return service.share(now_s)

    def _leave_s(self, ready: Sequence[WaitingFrame], now_s: float, max_batch: int) -> float:
        """Return when a batch that is not full should leave if nothing else happens."""
        waiting = {frame.stream_id for frame in ready}
        others = [rate for stream_id, rate in self._rates.items() if stream_id not in waiting]
        if not others:
            return now_s
        batch = WaitingBatch(
            n_frames=len(ready),
            most=max_batch,
            oldest_s=min(frame.captured_s for frame in ready),
            latest_s=min(frame.since_s for frame in ready) + self.config.max_wait_s,
            deadline_s=min(frame.deadline_s for frame in ready),
        )
        rule = LeaveRule(self.times, self.config.guard)
        leave_s = rule.for_streams(batch, [rate.remaining_s(now_s) for rate in others], now_s)
        if leave_s > now_s:
            return leave_s
        return rule.for_company(batch, self._all.remaining_s(now_s), now_s)
