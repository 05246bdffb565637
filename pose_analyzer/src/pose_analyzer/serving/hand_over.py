"""A thread that does one thing at a time, handed to it when it is free."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class HandOver:
    """Does what one other thread hands it, which prepares the next thing meanwhile.

    At most one thing is done and none waits: whoever comes too soon waits himself, so nothing
    grows old in between. The thread starts with the first thing.

    Parameters
    ----------
    name : str
        Of the thread.
    on_free : callable
        Called by the thread whenever it has become free.
    """

    def __init__(self, name: str, on_free: Callable[[], object] = lambda: None) -> None:
        self._name = name
        self._on_free = on_free
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._is_free = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Wait until the thread is free, hand it something and return."""
        self._is_free.acquire()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(work)

    @property
    def is_busy(self) -> bool:
        """Whether something is being done."""
        return self._is_free.locked()

    def wait(self) -> None:
        """Return when nothing is being done."""
        with self._is_free:
            pass

    def close(self) -> None:
        """Wait until nothing is being done, and end the thread."""
        self.wait()
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("%s failed; it goes on", self._name)
            finally:
                self._is_free.release()
                self._on_free()
