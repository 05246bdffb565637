"""Live serving without a detector, a thread or a clock: arrivals, policies, and what comes of them.

The mailbox and the scheduler are the real ones. Only the detector is replaced, by the time that it
takes: ``a + b n`` for a batch of n, with noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from pose_analyzer.serving.batch_scheduler import BatchScheduler, Decision, WaitingFrame
from pose_analyzer.serving.frame_mailbox import FrameMailbox

FloatArray = npt.NDArray[np.float64]

_STALE_S: Final = 0.5
_NOISE: Final = 0.05
"""Standard deviation of the logarithm of a batch's time."""
WARMUP_S: Final = 2.0
"""Frames before it count neither for ours, which learns, nor for the windows."""
_HICCUP_SHARE: Final = 0.002
_HICCUP: Final = 3.0
"""Two moments of a thousand take three times as long."""
_SLOT_S: Final = 0.02
"""The detector is as slow as its moment says, so the same moments are slow for every policy."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detector costs.

    Attributes
    ----------
    name : str
        For the report.
    batch_s, frame_s : float
        ``a`` and ``b`` of ``a + b n``.
    max_batch : int
        Most frames at once.
    """

    name: str
    batch_s: float
    frame_s: float
    max_batch: int

    def seconds(self, n_frames: int) -> float:
        """Return the time of a batch."""
        return self.batch_s + self.frame_s * n_frames

    @property
    def capacity_fps(self) -> float:
        """Frames a second in full batches."""
        return self.max_batch / self.seconds(self.max_batch)


class Policy(Protocol):
    """What decides when a batch leaves."""

    def arrived(self, stream_id: str, time_s: float) -> None:
        """Take that a frame arrived."""
        ...

    def ran(self, n_frames: int, seconds: float) -> None:
        """Take how long a batch took."""
        ...

    def decide(self, waiting: Sequence[WaitingFrame], now_s: float, max_batch: int) -> Decision:
        """Return what to do now."""
        ...


class FixedWindow:
    """The batcher that ours is compared with: full, or a fixed time after its first frame."""

    def __init__(self, window_s: float, n_streams: int) -> None:
        self._window_s = window_s
        self._n_streams = n_streams

    def arrived(self, stream_id: str, time_s: float) -> None:
        """Pass over it."""

    def ran(self, n_frames: int, seconds: float) -> None:
        """Pass over it."""

    def decide(self, waiting: Sequence[WaitingFrame], now_s: float, max_batch: int) -> Decision:
        """Return what to do now."""
        stale = tuple(frame for frame in waiting if now_s - frame.captured_s > frame.stale_s)
        ready = [frame for frame in waiting if now_s - frame.captured_s <= frame.stale_s]
        ready.sort(key=lambda frame: (frame.since_s, frame.number))
        if not ready:
            return Decision(stale=stale)
        leave_s = ready[0].since_s + self._window_s
        if len(ready) >= min(max_batch, self._n_streams) or now_s >= leave_s:
            return Decision(tuple(ready[:max_batch]), stale)
        return Decision(stale=stale, wait_until_s=leave_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a load.

    Attributes
    ----------
    latency_s : array, shape (N,)
        From arrival to result, of the frames that were analysed.
    stream : int array, shape (N,)
        Whose they were.
    n_arrived : int
        Frames that came.
    drops : dict of str to int
        By cause.
    batch_sizes : int array, shape (M,)
        Of the batches that ran.
    busy_share : float
        Of the time in which the detector worked.
    """

    latency_s: FloatArray
    stream: npt.NDArray[np.intp]
    n_arrived: int
    drops: dict[str, int]
    batch_sizes: npt.NDArray[np.intp]
    busy_share: float

    def percentile_ms(self, percent: float, streams: Sequence[int] | None = None) -> float:
        """Return a percentile of the latency in milliseconds, of all or of some streams."""
        chosen = self.latency_s
        if streams is not None:
            chosen = chosen[np.isin(self.stream, streams)]
        return float(1e3 * np.percentile(chosen, percent)) if chosen.size else math.nan

    @classmethod
    def pooled(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Return several runs of the same load as one; busy shares are averaged."""
        return cls(
            latency_s=np.concatenate([outcome.latency_s for outcome in outcomes]),
            stream=np.concatenate([outcome.stream for outcome in outcomes]),
            n_arrived=sum(outcome.n_arrived for outcome in outcomes),
            drops={
                cause: sum(outcome.drops[cause] for outcome in outcomes)
                for cause in outcomes[0].drops
            },
            batch_sizes=np.concatenate([outcome.batch_sizes for outcome in outcomes]),
            busy_share=float(np.mean([outcome.busy_share for outcome in outcomes])),
        )

    @property
    def drop_share(self) -> float:
        """Share of the frames that were not analysed."""
        return sum(self.drops.values()) / max(1, self.n_arrived)


def serve(
    policy: Policy, arrivals: Sequence[FloatArray], profile: Profile, seed: int = 0
) -> Outcome:
    """Serve streams until all their frames are analysed or dropped.

    Parameters
    ----------
    policy : Policy
        New.
    arrivals : sequence of array
        The times at which the frames of each stream arrive, increasing.
    profile : Profile
        The detector.
    seed : int
        Of the noise of its times; the same for every policy.
    """
    slowness = _slowness(seed)
    mailbox: FrameMailbox[float] = FrameMailbox()
    for index in range(len(arrivals)):
        mailbox.open(str(index))
    queue = sorted((time_s, index) for index, times in enumerate(arrivals) for time_s in times)
    latency_s: list[float] = []
    streams: list[int] = []
    sizes: list[int] = []
    drops = {"replaced": 0, "stale": 0}
    position, now_s, busy_s = 0, 0.0, 0.0
    while True:
        while position < len(queue) and queue[position][0] <= now_s:
            arrived_s, index = queue[position]
            mailbox.put(str(index), arrived_s, lambda: arrived_s)  # noqa: B023 - called at once
            policy.arrived(str(index), arrived_s)
            position += 1
        waiting = [
            WaitingFrame(item.stream_id, item.number, item.arrived_s, item.since_s)
            for item in mailbox.look().waiting
        ]
        decision = policy.decide(waiting, now_s, profile.max_batch)
        mailbox.take({frame.number: frame.stream_id for frame in decision.stale})
        drops["stale"] += len(decision.stale)
        if decision.run:
            batch = mailbox.take({frame.number: frame.stream_id for frame in decision.run})
            took_s = profile.seconds(len(batch)) * slowness[int(now_s / _SLOT_S) % slowness.size]
            now_s += took_s
            busy_s += took_s
            policy.ran(len(batch), took_s)
            sizes.append(len(batch))
            counted = [item for item in batch if item.arrived_s >= WARMUP_S]
            latency_s.extend(now_s - item.arrived_s for item in counted)
            streams.extend(int(item.stream_id) for item in counted)
            continue
        next_s = queue[position][0] if position < len(queue) else math.inf
        if math.isinf(min(next_s, decision.wait_until_s)):
            break
        now_s = max(now_s, min(next_s, decision.wait_until_s))
    drops["replaced"] = mailbox.n_replaced
    return Outcome(
        latency_s=np.array(latency_s),
        stream=np.array(streams, dtype=np.intp),
        n_arrived=len(queue),
        drops=drops,
        batch_sizes=np.array(sizes, dtype=np.intp),
        busy_share=busy_s / max(now_s, 1e-9),
    )


def _slowness(seed: int) -> FloatArray:
    """Return by what factor batches that begin in each moment of a minute are slower."""
    rng = np.random.default_rng(seed)
    factor = np.exp(rng.normal(0.0, _NOISE, round(60.0 / _SLOT_S)))
    return np.asarray(np.where(rng.random(factor.size) < _HICCUP_SHARE, _HICCUP, 1.0) * factor)


def ours() -> Policy:
    """Return a scheduler that has learned nothing yet."""
    return BatchScheduler()


def arrival_times(
    pattern: str, n_streams: int, seconds: float, fps: float = 30.0, seed: int = 0
) -> list[FloatArray]:
    """Return when the frames of each stream arrive.

    Parameters
    ----------
    pattern : str
        A key of `PATTERNS`.
    n_streams : int
        At least 1.
    seconds : float
        How long they send.
    fps : float
        Of each stream.
    seed : int
        Of phases and jitter.
    """
    rng = np.random.default_rng(seed)
    return PATTERNS[pattern](n_streams, seconds, fps, rng)


def _regular(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    return [_camera(seconds, fps, rng.uniform(0.0, 1.0 / fps), 5e-4, rng) for _ in range(n_streams)]


def _aligned(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    return [_camera(seconds, fps, 0.01, 1e-3, rng) for _ in range(n_streams)]


def _in_two_groups(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    return [
        _camera(seconds, fps, 0.01 + 0.004 * (index % 2), 5e-4, rng) for index in range(n_streams)
    ]


def _poisson(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    return [
        np.sort(rng.uniform(0.0, seconds, rng.poisson(fps * seconds))) for _ in range(n_streams)
    ]


def _bursts(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    """Three frames at a time, a millisecond apart: a network that hands out what it collected."""
    streams = []
    for _ in range(n_streams):
        groups = _camera(seconds, fps / 3.0, rng.uniform(0.0, 3.0 / fps), 5e-3, rng)
        streams.append(np.sort((groups[:, None] + 1e-3 * np.arange(3)).ravel()))
    return streams


def _common_bursts(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    """All streams within two milliseconds, at times that nobody can foresee."""
    starts = np.sort(rng.uniform(0.0, seconds, rng.poisson(fps * seconds)))
    return [np.sort(starts + rng.uniform(0.0, 2e-3, starts.size)) for _ in range(n_streams)]


def _key_frame_pauses(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    """Half a second of silence every two, then what was held back, two milliseconds apart."""
    streams = []
    for _ in range(n_streams):
        times = _camera(seconds, fps, rng.uniform(0.0, 1.0 / fps), 5e-4, rng)
        into_s = np.mod(times - rng.uniform(0.0, 2.0), 2.0)
        held = into_s < 0.5
        end_s = times - into_s + 0.5
        rank = np.zeros(times.size)
        for index in range(1, times.size):
            rank[index] = rank[index - 1] + 1.0 if held[index] and held[index - 1] else 0.0
        streams.append(np.sort(np.where(held, end_s + 2e-3 * rank, times)))
    return streams


def _one_slow_camera(
    n_streams: int, seconds: float, fps: float, rng: np.random.Generator
) -> list[FloatArray]:
    streams = _regular(n_streams, seconds, fps, rng)
    streams[0] = _camera(seconds, fps / 6.0, 0.0, 2e-2, rng)
    return streams


def _camera(
    seconds: float, fps: float, phase_s: float, jitter_s: float, rng: np.random.Generator
) -> FloatArray:
    times = phase_s + np.arange(int(seconds * fps)) / fps
    return np.sort(np.abs(times + rng.normal(0.0, jitter_s, times.size)))


PATTERNS: Final = {
    "regular": _regular,
    "aligned": _aligned,
    "two groups": _in_two_groups,
    "Poisson": _poisson,
    "bursts": _bursts,
    "common bursts": _common_bursts,
    "key frame pauses": _key_frame_pauses,
    "one slow camera": _one_slow_camera,
}
