"""Newest-wins slots: many streams in, one scheduler out, and never a queue of old frames.

Live feedback is worth sending only while it is fresh, so a stream that outruns the detector loses
its *old* frame. A stream of which every frame counts has a short line instead, and its writer waits
while that is full. Memory is bounded by the lengths of the lines, whatever the streams send.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

FrameT = TypeVar("FrameT")

_MOST_ARRIVALS: Final = 4096
"""Arrivals remembered between two looks; more than come within the longest batch."""


@dataclass(frozen=True, slots=True)
class Letter(Generic[FrameT]):
    """A frame that waits.

    Attributes
    ----------
    stream_id : str
        Whose it is.
    number : int
        Of all letters of the mailbox, increasing.
    arrived_s : float
        When it was put here.
    since_s : float
        Since when its stream has waited for its turn: the arrival of the first frame that this one
        replaces, so that a fast stream neither jumps in nor starves.
    content : FrameT
        The frame.
    """

    stream_id: str
    number: int
    arrived_s: float
    since_s: float
    content: FrameT


@dataclass(frozen=True, slots=True)
class Look(Generic[FrameT]):
    """What a scheduler sees of a mailbox.

    Attributes
    ----------
    waiting : tuple of Letter
        The letters in the order of each stream.
    arrivals : tuple of (str, float)
        Stream and time of each frame that arrived since the last look, replaced ones too.
    version : int
        Give it to `FrameMailbox.wait_for_change`.
    """

    waiting: tuple[Letter[FrameT], ...]
    arrivals: tuple[tuple[str, float], ...]
    version: int


class _Line(Generic[FrameT]):
    """The waiting frames of one stream."""

    def __init__(self, depth: int, *, replaces: bool) -> None:
        self.depth = depth
        self.replaces = replaces
        self.letters: deque[Letter[FrameT]] = deque()


class FrameMailbox(Generic[FrameT]):
    """Hold the newest frame of each stream, or a short line of those that must all be seen.

    Every method may be called from any thread. Only `put` to a stream that does not replace, and
    `wait_for_change`, ever wait.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: dict[str, _Line[FrameT]] = {}
        self._arrivals: deque[tuple[str, float]] = deque(maxlen=_MOST_ARRIVALS)
        self._n_letters = 0
        self._n_replaced = 0
        self._version = 0

    @property
    def n_replaced(self) -> int:
        """Frames overwritten before they were taken: it rises when the detector is too slow."""
        with self._changed:
            return self._n_replaced

    @property
    def n_waiting(self) -> int:
        """Frames that wait now."""
        with self._changed:
            return sum(len(line.letters) for line in self._lines.values())

    def open(self, stream_id: str, depth: int = 1, *, replaces: bool = True) -> None:
        """Make a line for a stream.

        Parameters
        ----------
        stream_id : str
            Not open yet.
        depth : int
            Frames that may wait, at least 1.
        replaces : bool
            Whether a frame more drops the oldest that waits; otherwise its writer waits.
        """
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        with self._changed:
            if stream_id in self._lines:
                raise ValueError(f"stream {stream_id!r} has a line already; give each its own name")
            self._lines[stream_id] = _Line(depth, replaces=replaces)

    def put(
        self, stream_id: str, content: FrameT, clock: Callable[[], float]
    ) -> tuple[FrameT, ...] | None:
        """Leave a frame.

        Parameters
        ----------
        stream_id : str
            Of an open line.
        content : FrameT
            The frame.
        clock : callable
            Tells the time of arrival, once there is room.

        Returns
        -------
        tuple of FrameT, or None
            What it replaced, mostly nothing; None if the line is not open, or was closed while the
            writer waited: then the frame was not taken.
        """
        with self._changed:
            line = self._lines.get(stream_id)
            if line is not None and not line.replaces:
                self._changed.wait_for(
                    lambda: len(line.letters) < line.depth or self._lines.get(stream_id) is not line
                )
            if line is None or self._lines.get(stream_id) is not line:
                return None
            arrived_s = clock()
            since_s = arrived_s
            replaced: list[FrameT] = []
            while len(line.letters) >= line.depth:
                oldest = line.letters.popleft()
                since_s = min(since_s, oldest.since_s)
                replaced.append(oldest.content)
            self._n_replaced += len(replaced)
            self._n_letters += 1
            line.letters.append(Letter(stream_id, self._n_letters, arrived_s, since_s, content))
            self._arrivals.append((stream_id, arrived_s))
            self._note_change()
            return tuple(replaced)

    def look(self) -> Look[FrameT]:
        """Return what waits, and what arrived since the last look."""
        with self._changed:
            waiting = tuple(letter for line in self._lines.values() for letter in line.letters)
            arrivals = tuple(self._arrivals)
            self._arrivals.clear()
            return Look(waiting, arrivals, self._version)

    def take(self, numbers: Mapping[int, str], *, or_newer: bool = False) -> list[Letter[FrameT]]:
        """Remove letters and return those that were still there, in the order asked for.

        Parameters
        ----------
        numbers : mapping of int to str
            The letters' numbers and streams.
        or_newer : bool
            Whether to take what replaced a letter instead of it; otherwise it is left out.
        """
        taken = []
        with self._changed:
            for number, stream_id in numbers.items():
                line = self._lines.get(stream_id)
                if line is None:
                    continue
                newer = line.letters[0] if or_newer and line.replaces and line.letters else None
                found = next((item for item in line.letters if item.number == number), newer)
                if found is not None:
                    line.letters.remove(found)
                    taken.append(found)
            if taken:  # Otherwise whoever waits for a change would wake himself, for ever.
                self._note_change()
        return taken

    def close(self, stream_id: str) -> tuple[FrameT, ...]:
        """Remove a line and return what waited in it. A writer that waits gives up."""
        with self._changed:
            line = self._lines.pop(stream_id, None)
            self._note_change()
            return () if line is None else tuple(letter.content for letter in line.letters)

    def wake(self) -> None:
        """Let whoever waits for a change look again."""
        with self._changed:
            self._note_change()

    def wait_for_change(self, version: int, timeout_s: float | None) -> None:
        """Return when something has changed since a look, or after a time."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout_s)

    def _note_change(self) -> None:
        self._version += 1
        self._changed.notify_all()
