"""The life of live streams: who is let in, who is slowed or suspended, who is closed.

`StreamManager` stands beside the processor, not in the way of its frames: it looks at the streams
and at the GPU's memory about once a second and acts through `StreamControl`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pose_analyzer.errors import CapacityError, StreamClosedError
from pose_analyzer.lifetime import Closing
from pose_analyzer.serving.guarded_observer import GuardedObserver
from pose_analyzer.serving.load_shedding import Action, LimitRate, SheddingPolicy, Suspend
from pose_analyzer.serving.observer import NO_OBSERVER, Observer
from pose_analyzer.serving.stream_state import StreamState
from pose_analyzer.serving.vram_monitor import VramMonitor

logger = logging.getLogger(__name__)


class StreamControl(Protocol):
    """What a manager asks of a processor of streams. All but the first take an open stream.

    They are called from another thread than frames come from. A stream may close between two
    calls; they raise `StreamClosedError` for one that is not open.
    """

    def stream_states(self) -> Sequence[StreamState]:
        """Return all open streams."""
        ...

    def set_max_fps(self, stream_id: str, max_fps: float | None) -> None:
        """Let so many frames a second through; None lets all."""
        ...

    def suspend(self, stream_id: str) -> None:
        """Drop its frames, counted as ``vram``, and keep its analysis."""
        ...

    def resume(self, stream_id: str) -> None:
        """Take its frames again."""
        ...

    def close_stream(self, stream_id: str) -> None:
        """End it and forget its analysis."""
        ...


@dataclass(frozen=True, slots=True)
class StreamManagerConfig:
    """How many streams, how long without frames, how often looked at; all chosen by us.

    Attributes
    ----------
    max_streams : int
        Most streams that may be open at once; suspended ones count.
    stream_vram_bytes : int
        What another stream may take of the GPU's memory: about ten 1080p frames as float32.
    idle_after_s : float
        A stream without a frame for longer is closed by the manager; by default none is, because
        a processor that knows idle streams closes them itself, and tells their clients why.
    check_every_s : float
        Seconds between two looks at idle streams, and between two steps of the timer thread.
    """

    max_streams: int = 32
    stream_vram_bytes: int = 256 << 20
    idle_after_s: float = math.inf
    check_every_s: float = 1.0

    def __post_init__(self) -> None:
        if self.max_streams < 1:
            raise ValueError(f"max_streams must be at least 1, got {self.max_streams}")
        if self.stream_vram_bytes < 0:
            raise ValueError(
                f"stream_vram_bytes must not be negative, got {self.stream_vram_bytes}"
            )
        if not min(self.idle_after_s, self.check_every_s) > 0.0:
            raise ValueError("idle_after_s and check_every_s must be above 0")


@dataclass(frozen=True, slots=True)
class ManagerCounts:
    """Open streams at the last step, and what happened since the start.

    ``n_slowed`` are those with any limit of the frame rate, the owner's included.
    """

    n_open: int
    n_slowed: int
    n_suspended: int
    n_evicted: int
    n_refused: int


class StreamManager(Closing):
    """Owns the lifetimes of streams; `step` does what is due.

    Call `step` yourself, or `start` a thread that does. Leaving the context ends the thread; the
    streams stay as they are.

    Parameters
    ----------
    control : StreamControl
        The processor.
    vram : VramMonitor
        The memory of its GPU. Where that is not measured only idle and too many streams are seen.
    policy : SheddingPolicy
        Used by this manager alone.
    config : StreamManagerConfig, optional
        Limits and pace.
    observer : Observer
        Is told of streams and memory at each step.
    clock : callable
        The clock of the processor, in seconds.

    Attributes
    ----------
    on_shed : callable or None
        Called by `step` after something was given up. Set it to what returns unused memory of the
        framework to the GPU, as ``torch.cuda.empty_cache``: memory that is kept for later use
        counts as used, and more than needed would be given up.
    """

    def __init__(
        self,
        control: StreamControl,
        vram: VramMonitor,
        policy: SheddingPolicy,
        *,
        config: StreamManagerConfig | None = None,
        observer: Observer = NO_OBSERVER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_shed: Callable[[], object] | None = None
        self._control = control
        self._vram = vram
        self._policy = policy
        self._config = StreamManagerConfig() if config is None else config
        self._observer = GuardedObserver(observer)
        self._clock = clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._states: Sequence[StreamState] = ()
        self._checked_s = -math.inf
        self._is_measured = False
        self._n_evicted = 0
        self._n_refused = 0

    @property
    def counts(self) -> ManagerCounts:
        """Of now; the states are those of the last step."""
        with self._lock:
            return ManagerCounts(
                n_open=len(self._states),
                n_slowed=sum(state.max_fps is not None for state in self._states),
                n_suspended=sum(state.is_suspended for state in self._states),
                n_evicted=self._n_evicted,
                n_refused=self._n_refused,
            )

    @contextlib.contextmanager
    def admission(self) -> Iterator[None]:
        """Open a stream inside this context: no other is admitted before it is open.

        Raises
        ------
        CapacityError
            If there are as many streams as allowed, GPU memory is being saved, or another stream
            could make it necessary.
        """
        with self._lock:
            refusal = self._refusal()
            if refusal is not None:
                self._n_refused += 1
                raise CapacityError(refusal)
            yield

    def step(self, now_s: float) -> None:
        """Close idle streams and give up or give back what memory asks for; may be called often."""
        with self._lock:
            if now_s - self._checked_s >= self._config.check_every_s:
                self._checked_s = now_s
                self._evict_idle(now_s)
            share = self._share()
            actions = self._policy.decide(share, self._control.stream_states(), now_s)
            for action in actions:
                self._act(action)
            self._states = tuple(self._control.stream_states())
            self._observer.streams(len(self._states))
        # Not under the lock: to free memory may wait for the GPU, and nobody could be let in.
        if self.on_shed is not None and actions and share > self._policy.config.shed_above:
            self.on_shed()

    def start(self) -> None:
        """Call `step` from a thread, every `StreamManagerConfig.check_every_s`."""
        if self._thread is not None:
            raise ValueError("the manager was started before; make a new one")
        self._thread = threading.Thread(target=self._run, name="stream manager", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Safe to call twice, and without `start`."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.step(self._clock())
            except Exception:
                # The streams run without their manager, and it may work again in a second.
                logger.exception("a step of the stream manager failed")
            self._stopped.wait(self._config.check_every_s)

    def _refusal(self) -> str | None:
        n_open = len(self._control.stream_states())
        if n_open >= self._config.max_streams:
            return (
                f"{n_open} streams are open and {self._config.max_streams} are allowed; "
                "close one or raise max_streams"
            )
        if self._policy.is_shedding:
            return (
                "GPU memory is short and streams are slowed or suspended; try again later, close a "
                "stream, or free memory on the GPU"
            )
        reading = self._vram.read()
        if reading is None:
            return None
        limit = self._policy.config.shed_above
        needed_bytes = reading.used_bytes + self._config.stream_vram_bytes
        if needed_bytes > limit * reading.total_bytes:
            return (
                f"another stream could fill the GPU's memory over {limit:.0%} "
                f"({reading.share:.0%} are used); close a stream or free memory on the GPU"
            )
        return None

    def _evict_idle(self, now_s: float) -> None:
        for state in self._control.stream_states():
            seen_s = state.opened_s if state.last_frame_s is None else state.last_frame_s
            if now_s - seen_s > self._config.idle_after_s:
                with contextlib.suppress(StreamClosedError):
                    self._control.close_stream(state.stream_id)
                    self._n_evicted += 1
                    logger.info(
                        "stream %s is closed: no frame for %.1f s", state.stream_id, now_s - seen_s
                    )

    def _share(self) -> float:
        """Return how full the memory is, NaN for not measured, and tell the observer."""
        reading = self._vram.read()
        if reading is not None:
            self._observer.vram(reading.used_bytes, reading.total_bytes)
        elif self._is_measured:
            self._observer.vram(0, 0)
        self._is_measured = reading is not None
        return math.nan if reading is None else reading.share

    def _act(self, action: Action) -> None:
        # A stream that closed meanwhile needs nothing; the policy forgets it at the next step.
        with contextlib.suppress(StreamClosedError):
            if isinstance(action, LimitRate):
                self._control.set_max_fps(action.stream_id, action.max_fps)
            elif isinstance(action, Suspend):
                self._control.suspend(action.stream_id)
            else:
                self._control.resume(action.stream_id)
            logger.info("GPU memory: %s", action)
