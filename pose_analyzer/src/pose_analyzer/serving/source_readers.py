"""Reads the sources of live streams, each in a thread of its own, and ends them."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pose_analyzer.errors import PoseAnalyzerError, StreamClosedError
from pose_analyzer.lifetime import join_threads
from pose_analyzer.live_source import decode_seconds
from pose_analyzer.serving.live_stream import LiveStream
from pose_analyzer.serving.observer import Observer
from pose_analyzer.serving.stream_registry import StreamRegistry
from pose_analyzer.types import AnyFrame

logger = logging.getLogger(__name__)


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> object: ...


@dataclass(slots=True)
class SourceReaders:
    """Pushes what the sources of streams give, until these end.

    Attributes
    ----------
    push : callable
        Takes the name of a stream and a frame.
    streams : StreamRegistry
        Is told when a source has ended.
    observer : Observer
        Is told how long decoding took, where the source knows.
    """

    push: Callable[[str, AnyFrame], object]
    streams: StreamRegistry
    observer: Observer
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _sources: dict[LiveStream, list[Iterable[AnyFrame]]] = field(default_factory=dict)

    def start(self, stream: LiveStream, source: Iterable[AnyFrame]) -> None:
        """Read a source into a stream."""
        with self._lock:
            self._sources.setdefault(stream, []).append(source)
        self._spawn(f"reader {stream.stream_id}", lambda: self._read(stream, source))
        if stream.is_closed:
            # It was closed meanwhile, and whoever did so may not have seen the source.
            self.end(stream)

    def end(self, stream: LiveStream) -> None:
        """Close the sources of a stream, and do not wait for that: a close may hang."""
        sources = self._take(stream)
        if any(isinstance(source, _Closable) for source in sources):
            self._spawn(f"closer {stream.stream_id}", lambda: _close(sources))

    def join(self, end_s: float) -> list[str]:
        """Wait for all threads until a time; return the names of those that are still at work."""
        with self._lock:
            threads = list(self._threads)
        return join_threads(threads, end_s)

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            # Started within the lock: one that was not yet would count as ended.
            thread.start()
            self._threads.append(thread)

    def _read(self, stream: LiveStream, source: Iterable[AnyFrame]) -> None:
        error: PoseAnalyzerError | None = None
        try:
            for frame in source:
                if stream.is_closed:
                    break
                if not math.isnan(seconds := decode_seconds(source)):
                    self.observer.stage("decode", seconds)
                self.push(stream.stream_id, frame)
        except StreamClosedError:
            pass
        except PoseAnalyzerError as exc:
            error = exc
        except Exception as exc:
            logger.exception("stream %r ends: its source failed", stream.stream_id)
            error = stream.failure("its source", exc)
        finally:
            # First, lest the client wait for a close that hangs.
            self.streams.drain(stream, error)
            _close(self._take(stream))
            if isinstance(source, Generator):
                _close([source])  # Nobody else could while it ran.

    def _take(self, stream: LiveStream) -> Sequence[Iterable[AnyFrame]]:
        """Return the sources of a stream that nobody has closed, to whoever closes them."""
        with self._lock:
            return self._sources.pop(stream, [])


def _close(sources: Iterable[Iterable[AnyFrame]]) -> None:
    for source in sources:
        try:
            # A generator that another thread is in cannot be closed: that thread will do it.
            with contextlib.suppress(ValueError):
                if isinstance(source, _Closable):
                    source.close()
        except Exception:
            logger.exception("a source cannot be closed; it is left behind")
