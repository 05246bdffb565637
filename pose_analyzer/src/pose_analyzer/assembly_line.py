"""Generators that run ahead of their reader, each in a thread of its own.

An item is worked on by one stage while its successors are in the stages before, so a chain of
stages takes as long as its slowest. Order is kept, little is held, and the first error ends all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class _StoppedError(Exception):
    """The line was stopped: nobody wants the items any more."""


class _Slot(Generic[ItemT]):
    """A bounded queue between two threads which ends, fails or is stopped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[ItemT] = deque()
        self._error: BaseException | None = None
        self._is_ended = False
        self._is_stopped = False
        self._changed = threading.Condition()

    def put(self, item: ItemT) -> None:
        with self._changed:
            while len(self._items) >= self._capacity and not self._is_stopped:
                self._changed.wait()
            if self._is_stopped:
                raise _StoppedError
            self._items.append(item)
            self._changed.notify_all()

    def take(self) -> ItemT:
        """Return the next item; StopIteration at the end, or what the writer failed with."""
        with self._changed:
            while not (self._items or self._is_ended or self._is_stopped):
                self._changed.wait()
            if self._is_stopped:
                raise _StoppedError
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise StopIteration

    def end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._error = error
            self._is_ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._items.clear()
            self._changed.notify_all()


class _Reader(Generic[ItemT]):
    """What a stage gives to the next one."""

    def __init__(self, slot: _Slot[ItemT]) -> None:
        self._slot = slot

    def __iter__(self) -> Iterator[ItemT]:
        return self

    def __next__(self) -> ItemT:
        return self._slot.take()


class AssemblyLine:
    """A chain of stages; leaving its context stops and joins all of them.

    An error in a stage is raised, once, where the last stage is read: after the items that came
    before it.

    Examples
    --------
    >>> def squares(numbers):
    ...     for number in numbers:
    ...         yield number * number
    >>> with AssemblyLine() as line:
    ...     list(line.stage(squares(range(4))))
    [0, 1, 4, 9]
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._slots: list[_Slot[object]] = []

    def stage(self, work: Generator[ItemT, None, None], capacity: int = 2) -> Iterator[ItemT]:
        """Run a generator in its own thread and return its items.

        Parameters
        ----------
        work : generator
            Used and closed by that thread alone.
        capacity : int
            Most items that wait to be read, at least 1.
        """
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        slot: _Slot[ItemT] = _Slot(capacity)
        thread = threading.Thread(
            target=_run, args=(work, slot), name=f"stage {len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        self._slots.append(slot)  # type: ignore[arg-type]  # only stopped through this list
        thread.start()
        return _Reader(slot)

    def __enter__(self) -> AssemblyLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for slot in self._slots:
            slot.stop()
        for thread in self._threads:
            thread.join()


def _run(work: Generator[ItemT, None, None], slot: _Slot[ItemT]) -> None:
    try:
        try:
            for item in work:
                slot.put(item)
        finally:
            work.close()
    except _StoppedError:
        pass
    except BaseException as exc:  # noqa: BLE001 - handed to the reader, who raises it
        slot.end(exc)
    else:
        slot.end()
