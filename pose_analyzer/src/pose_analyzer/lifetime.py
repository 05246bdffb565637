"""What must be closed is closed when its block is left, and waits for its threads no longer."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self


class Closing(ABC):
    """A context manager: leaving it closes it."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def join_threads(threads: Iterable[threading.Thread], end_s: float) -> list[str]:
    """Wait for threads, and return the names of those that are still at work.

    Parameters
    ----------
    threads : iterable of Thread
        They were started. The one that calls this is passed over: it cannot wait for itself.
    end_s : float
        Until when, on the clock of `time.monotonic`.
    """
    others = [thread for thread in threads if thread is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, end_s - time.monotonic()))
    return [thread.name for thread in others if thread.is_alive()]
