"""A live source that comes back: opened anew when it fails or falls silent.

::

    reader thread: open, read ─► one slot ─► `ReconnectingSource`, iterated by whoever analyses
                                                │ error, or silence: abandon, wait, open anew

Only the reader thread waits for the camera, so a read that never returns can be left behind.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from pose_analyzer.errors import NoVideoError, VideoError
from pose_analyzer.live_source import LEAST_STEP_S
from pose_analyzer.network_capture import without_credentials
from pose_analyzer.serving.back_off import BackOff, ReconnectConfig
from pose_analyzer.serving.source_connection import Arrival, SourceConnection
from pose_analyzer.types import AnyFrame

logger = logging.getLogger(__name__)

_PASSING: Final = (VideoError, ConnectionError, TimeoutError)
"""Errors after which it is tried again, but for `NoVideoError`."""
_MOST_HUNG: Final = 3
"""So many abandoned reads may hang before no more connections are opened (chosen by us)."""


class ReconnectingSource:
    """Frames of a live source, and again of the same after it was lost. One iteration.

    Frame times go on over a loss by as much as passed on the clock and always increase; indices
    go on without a gap. Every frame is handed on, one at a time: a slow reader loses none here.

    Tried again are `VideoError`, `ConnectionError` and `TimeoutError`: a camera that is off, does
    not answer, sends garbage or stops sending may be back. All other errors pass through at once,
    among them `DependencyMissingError`, and `NoVideoError`: a file that is missing or is no video,
    an address that sends only sound. A source that ends without an error ends this one.

    Parameters
    ----------
    name : str
        What logs and errors call it; an address is shown without password and query.
    open_source : callable
        Opens it, as ``lambda: RtspSource(address)``. It, the source and the source's ``close``, if
        there is one, are called from threads of their own.
    config : ReconnectConfig, optional
        Waits and limits.
    rng : numpy.random.Generator, optional, keyword-only
        Draws the waits.
    clock : callable, keyword-only
        Seconds, never going back.
    wait : callable, keyword-only
        Waits for a condition, at most so many seconds; may return early.

    Examples
    --------
    ::

        door = ReconnectingSource("door", lambda: RtspSource(address))
        processor.attach("door", door)
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], Iterable[AnyFrame]],
        config: ReconnectConfig | None = None,
        *,
        rng: np.random.Generator | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self.name = without_credentials(name)
        self._open_source = open_source
        self._config = ReconnectConfig() if config is None else config
        self._back_off = BackOff(self._config, np.random.default_rng() if rng is None else rng)
        self._clock = clock
        self._wait = wait
        self._changed = threading.Condition()
        self._is_closed = False
        self._connection: SourceConnection | None = None
        self._unfinished: list[SourceConnection] = []
        self._timeline = _Timeline()
        self._lost_s: float | None = None
        self._n_reconnects = 0
        self._decode_s = math.nan

    @property
    def decode_s(self) -> float:
        """Seconds that decoding the last frame took; NaN if its source does not tell."""
        return self._decode_s

    @property
    def n_reconnects(self) -> int:
        """How often frames came again after they had been lost."""
        return self._n_reconnects

    def close(self) -> None:
        """End the iteration at once, whatever it waits for. Safe to call twice, from any thread."""
        with self._changed:
            self._is_closed = True
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.abandon()

    def __iter__(self) -> Iterator[AnyFrame]:
        """Return the frames until `close` or the end of the source.

        Raises
        ------
        NoVideoError, DependencyMissingError
            And whatever else trying again would not mend.
        VideoError
            After `ReconnectConfig.max_attempts`.
        """
        while not self._is_closed:
            try:
                yield from self._frames(self._connect())
            except NoVideoError:
                raise
            except _PASSING as exc:
                delay_s = self._lose(without_credentials(str(exc)))
            else:
                return
            finally:
                if self._connection is not None:
                    self._connection.abandon()
            self._pause(delay_s)

    def _connect(self) -> SourceConnection:
        with self._changed:
            self._unfinished = [one for one in self._unfinished if not one.is_ended]
        if len(self._unfinished) >= _MOST_HUNG:
            raise VideoError(f"{_MOST_HUNG} reads of it hang; restart the camera")
        connection = SourceConnection(self._open_source, self._changed, self._clock)
        self._unfinished.append(connection)
        self._connection = connection
        connection.start()
        return connection

    def _frames(self, connection: SourceConnection) -> Iterator[AnyFrame]:
        first_s = math.nan
        while (
            arrival := self._take(
                connection,
                self._config.open_within_s if math.isnan(first_s) else self._config.stall_after_s,
            )
        ) is not None:
            if math.isnan(first_s):
                first_s = arrival.arrived_s
                self._timeline.go_on()
                self._recover()
            if arrival.arrived_s - first_s >= self._config.good_after_s:
                self._back_off.reset()
            self._decode_s = arrival.decode_s
            yield self._timeline.place(arrival)

    def _take(self, connection: SourceConnection, limit_s: float) -> Arrival | None:
        """Return what comes next, None at the end; raise what ended it, or that it is silent."""
        with self._changed:
            end_s = self._clock() + limit_s
            while not self._is_closed:
                if connection.slot is not None:
                    arrival, connection.slot = connection.slot, None
                    self._changed.notify_all()
                    return arrival
                if connection.error is not None:
                    raise connection.error
                if connection.is_ended:
                    return None
                left_s = end_s - self._clock()
                if left_s <= 0.0:
                    raise VideoError(f"no picture for {limit_s:.1f} s; check the camera")
                self._wait(self._changed, left_s)
        return None

    def _lose(self, reason: str) -> float:
        """Return how long to wait; raise when there were too many attempts."""
        delay_s = self._back_off.next_delay_s()
        if self._back_off.n_failures == self._config.max_attempts:
            raise VideoError(
                f"{self.name} is given up after {self._back_off.n_failures} failures: {reason}"
            ) from None
        if self._lost_s is None:
            self._lost_s = self._clock()
            logger.warning("%s is lost and tried again until it is back: %s", self.name, reason)
        return delay_s

    def _recover(self) -> None:
        if not self._timeline.is_empty:
            self._n_reconnects += 1
        if self._lost_s is not None:
            logger.info("%s is back after %.1f s", self.name, self._clock() - self._lost_s)
            self._lost_s = None

    def _pause(self, seconds: float) -> None:
        with self._changed:
            end_s = self._clock() + seconds
            while not self._is_closed and (left_s := end_s - self._clock()) > 0.0:
                self._wait(self._changed, left_s)


class _Timeline:
    """Puts the frames of one connection after those of the other."""

    def __init__(self) -> None:
        self._offset_s: float | None = 0.0
        self._last_s = -math.inf
        self._last_arrived_s = math.nan
        self._n_frames = 0

    @property
    def is_empty(self) -> bool:
        return self._n_frames == 0

    def go_on(self) -> None:
        """Take that the next frame is of a new connection."""
        if not self.is_empty:
            self._offset_s = None

    def place(self, arrival: Arrival) -> AnyFrame:
        """Return the frame with its time and number in the whole."""
        frame = arrival.frame
        if self._offset_s is None:
            gap_s = arrival.arrived_s - self._last_arrived_s
            self._offset_s = self._last_s + gap_s - frame.time_s
        time_s = max(self._offset_s + frame.time_s, self._last_s + LEAST_STEP_S)
        placed = replace(frame, time_s=time_s, index=self._n_frames)
        self._last_s, self._last_arrived_s = time_s, arrival.arrived_s
        self._n_frames += 1
        return placed
