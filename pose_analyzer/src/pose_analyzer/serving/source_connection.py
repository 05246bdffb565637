"""One opening of a live source, read by a thread of its own that may hang without harm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pose_analyzer.live_source import decode_seconds
from pose_analyzer.network_capture import without_credentials
from pose_analyzer.types import AnyFrame

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame, when it came on the clock of the reconnecting source, and what decoding it took."""

    frame: AnyFrame
    arrived_s: float
    decode_s: float


class SourceConnection:
    """Reads a source into one slot.

    Whoever takes from `slot` or looks at `error` and `is_ended` holds ``changed``, and notifies it.

    Parameters
    ----------
    open_source : callable
        Opens the source; called by the thread.
    changed : threading.Condition
        Notified when a frame or the end came.
    clock : callable
        Seconds, never going back.

    Attributes
    ----------
    slot : Arrival or None
        The frame that waits; the next is read when it was taken.
    error : Exception or None
        What ended it; None after a good end.
    is_ended : bool
        True when nothing more comes and the source is closed.
    """

    def __init__(
        self,
        open_source: Callable[[], Iterable[AnyFrame]],
        changed: threading.Condition,
        clock: Callable[[], float],
    ) -> None:
        self.slot: Arrival | None = None
        self.error: Exception | None = None
        self.is_ended = False
        self._is_abandoned = False
        self._open_source = open_source
        self._changed = changed
        self._clock = clock
        self._source: Iterable[AnyFrame] | None = None
        self._thread = threading.Thread(target=self._run, name="live reader", daemon=True)

    def start(self) -> None:
        """Open and read."""
        self._thread.start()

    def abandon(self) -> None:
        """Let the thread end when it can, and do not wait for that."""
        with self._changed:
            was_abandoned, self._is_abandoned = self._is_abandoned, True
            self._changed.notify_all()
            if was_abandoned or self.is_ended or self._source is None:
                return
        # A close that hangs must not hold up whoever abandons.
        threading.Thread(
            target=_close, args=(self._source,), name="live closer", daemon=True
        ).start()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            source = self._open_source()
            with self._changed:
                self._source = source
                is_wanted = not self._is_abandoned
            try:
                if is_wanted:
                    self._read(source)
            finally:
                # Before the end is told: a camera can be opened anew only when it is free.
                _close(source)
        except Exception as exc:  # noqa: BLE001 - raised by the thread that iterates
            error = exc
        with self._changed:
            self.error, self.is_ended = error, True
            self._changed.notify_all()

    def _read(self, source: Iterable[AnyFrame]) -> None:
        for frame in source:
            arrived_s, decode_s = self._clock(), decode_seconds(source)
            with self._changed:
                while self.slot is not None and not self._is_abandoned:
                    self._changed.wait()
                if self._is_abandoned:
                    return
                self.slot = Arrival(frame, arrived_s, decode_s)
                self._changed.notify_all()


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> object: ...


def _close(source: Iterable[AnyFrame]) -> None:
    if not isinstance(source, _Closable):
        return
    try:
        source.close()
    except ValueError:
        # A generator that another thread is in cannot be closed; it ends with its next frame.
        pass
    except Exception as exc:  # noqa: BLE001 - it is left behind in any case
        logger.warning("a live source cannot be closed: %s", without_credentials(str(exc)))
