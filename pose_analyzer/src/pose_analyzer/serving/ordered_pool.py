"""Worker threads that keep the order of each lane and let no lane wait for another."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pose_analyzer.lifetime import join_threads

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")


class Lane(Generic[ItemT]):
    """Items that are worked on one after the other.

    Parameters
    ----------
    work : callable
        Called with each item, by one thread at a time.
    may_run : callable, optional
        Asked before each item; while it says no the lane waits for `OrderedPool.wake`.
    """

    def __init__(
        self, work: Callable[[ItemT], None], may_run: Callable[[], bool] = lambda: True
    ) -> None:
        self.work = work
        self.may_run = may_run
        self.items: deque[ItemT] = deque()
        self.is_queued = False


class OrderedPool(Generic[ItemT]):
    """A few threads that work on many lanes in turn.

    Parameters
    ----------
    n_workers : int
        Threads, at least 1.
    """

    def __init__(self, n_workers: int) -> None:
        if n_workers < 1:
            raise ValueError(f"n_workers must be at least 1, got {n_workers}")
        self._changed = threading.Condition()
        self._queue: deque[Lane[ItemT]] = deque()
        self._at_work: set[threading.Thread] = set()
        self._is_closing = False
        self._is_abandoned = False
        self._threads = [
            threading.Thread(target=self._work, name=f"analysis {index}", daemon=True)
            for index in range(n_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, lane: Lane[ItemT], item: ItemT) -> None:
        """Add an item to a lane."""
        with self._changed:
            lane.items.append(item)
            self._queue_up(lane)

    def wake(self, lane: Lane[ItemT]) -> None:
        """Let a lane that might not run be asked again."""
        with self._changed:
            self._queue_up(lane)

    def close(self, end_s: float) -> list[str]:
        """Work off what can run, stop the threads, and return the names of those still at work.

        What calls this may be work of the pool: its thread is not waited for.

        Parameters
        ----------
        end_s : float
            Until when, on the clock of `time.monotonic`.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        join_threads(self._threads, end_s)
        with self._changed:
            self._is_abandoned = True
            others = self._at_work - {threading.current_thread()}
        return sorted(thread.name for thread in others)

    def _queue_up(self, lane: Lane[ItemT]) -> None:
        if lane.items and not lane.is_queued:
            lane.is_queued = True
            self._queue.append(lane)
            self._changed.notify()

    def _next(self) -> tuple[Lane[ItemT], ItemT] | None:
        """Return a lane that may run, with its next item; None when there will be no more."""
        with self._changed:
            while not self._is_abandoned:
                while self._queue:
                    lane = self._queue.popleft()
                    if lane.may_run():
                        self._at_work.add(threading.current_thread())
                        return lane, lane.items.popleft()
                    lane.is_queued = False
                if self._is_closing:
                    return None
                self._changed.wait()
            return None

    def _done(self, lane: Lane[ItemT]) -> None:
        with self._changed:
            self._at_work.discard(threading.current_thread())
            lane.is_queued = False
            self._queue_up(lane)

    def _work(self) -> None:
        while (task := self._next()) is not None:
            lane, item = task
            try:
                lane.work(item)
            except Exception:
                logger.exception("an analysis failed; its lane goes on")
            finally:
                self._done(lane)
