"""The open streams, how each of them ends, and that all their frames are accounted for."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from pose_analyzer.errors import PoseAnalyzerError, StreamClosedError
from pose_analyzer.serving.frame_mailbox import FrameMailbox
from pose_analyzer.serving.live_stream import LiveStream, QueuedFrame
from pose_analyzer.serving.observer import DropCause, Observer

logger = logging.getLogger(__name__)


class StreamRegistry:
    """Knows the streams by name, from any thread.

    A stream ends in two steps: it takes no more frames (`drain`, `close`), and when the last of its
    frames is delivered or dropped its client is told.

    Parameters
    ----------
    mailbox : FrameMailbox
        Where the frames of the streams wait for the detector.
    observer : Observer
        Is told drops, and how many streams there are.
    """

    def __init__(self, mailbox: FrameMailbox[QueuedFrame], observer: Observer) -> None:
        self._mailbox = mailbox
        self._observer = observer
        self._lock = threading.Lock()
        self._streams: dict[str, LiveStream] = {}
        self._unended: set[LiveStream] = set()
        self._is_closed = False
        self.on_closed: Callable[[LiveStream], object] = _do_nothing
        """Called when a stream was closed before its source had ended; must not wait."""
        self.left: deque[str] = deque()
        """Names of streams that have gone, for whoever keeps something of them."""

    def add(self, stream: LiveStream) -> None:
        """Open a stream, with its line in the mailbox."""
        config = stream.config
        with self._lock:
            if self._is_closed:
                raise StreamClosedError("the processor is closed; make a new one")
            self._mailbox.open(
                stream.stream_id,
                config.depth if config.is_lossless else 1,
                replaces=not config.is_lossless,
            )
            self._streams[stream.stream_id] = stream
            self._unended.add(stream)
        self._tell_streams()

    def get(self, stream_id: str) -> LiveStream:
        """Return an open stream.

        Raises
        ------
        StreamClosedError
            If it is not open, or no longer.
        """
        stream = self.find(stream_id)
        if stream is None or stream.is_closed:
            raise StreamClosedError(f"stream {stream_id!r} is not open; open it first")
        return stream

    def find(self, stream_id: str) -> LiveStream | None:
        """Return a stream that is here, though it may take no more frames; None if none is."""
        with self._lock:
            return self._streams.get(stream_id)

    def live(self) -> list[LiveStream]:
        """Return the streams in the order in which they were opened."""
        with self._lock:
            return list(self._streams.values())

    def put(self, queued: QueuedFrame, clock: Callable[[], float]) -> DropCause | None:
        """Leave a frame in the mailbox; return why it could not be left, None if it was.

        Waits for room if its stream loses no frame; the clock tells when it was left.
        """
        replaced = self._mailbox.put(queued.stream.stream_id, queued, clock)
        if replaced is None:
            return "closed"
        self.drop(queued.stream, "replaced", len(replaced))
        return None

    def drain(self, stream: LiveStream, error: PoseAnalyzerError | None) -> None:
        """Take no more frames; the stream ends when the last is done."""
        with self._lock:
            stream.is_closed = True
            stream.error = stream.error or error
        self.end_if_done(stream)

    def close(self, stream: LiveStream, error: PoseAnalyzerError | None) -> None:
        """Take no more frames, and drop those that wait for the detector or for a slow client."""
        self.drain(stream, error)
        stream.is_stopped = True
        self.on_closed(stream)
        self._leave(stream)
        self.end_if_done(stream)

    def close_all(self) -> None:
        """Close every stream, and open none any more."""
        with self._lock:
            self._is_closed = True
        for stream in self.live():
            self.close(stream, None)

    def give_up(self) -> list[str]:
        """End the streams whose frames are stuck somewhere, and count these as dropped.

        A client that is taking a result is told the end after it, by whoever gives it.

        Returns
        -------
        list of str
            The names of these streams.
        """
        with self._lock:
            unended = list(self._unended)
        for stream in unended:
            n_dropped = stream.give_up()
            if n_dropped > 0:
                self._observer.dropped("closed", n_dropped)
            self.end_if_done(stream)
        return sorted(stream.stream_id for stream in unended)

    def drop(self, stream: LiveStream, cause: DropCause, n: int = 1) -> None:
        """Count frames of a stream that will not be analysed."""
        n_dropped = stream.ledger.drop(cause, n)
        if n_dropped > 0:
            self._observer.dropped(cause, n_dropped)
        self.end_if_done(stream)

    def end_if_done(self, stream: LiveStream) -> None:
        """Tell the client the end if the stream takes no more frames and all are done."""
        if not stream.is_closed or stream.ledger.counts().in_flight > 0:
            return
        self._leave(stream)
        with self._lock:
            is_first = stream in self._unended
            self._unended.discard(stream)
        if is_first:
            try:
                stream.end()
            except Exception:
                logger.exception("the client of stream %r failed at its end", stream.stream_id)

    def _leave(self, stream: LiveStream) -> None:
        """Make place for another stream of that name."""
        with self._lock:
            if self._streams.get(stream.stream_id) is not stream:
                return
            del self._streams[stream.stream_id]
            waiting = self._mailbox.close(stream.stream_id)
            self.left.append(stream.stream_id)
        self._tell_streams()
        self.drop(stream, "closed", len(waiting))

    def _tell_streams(self) -> None:
        with self._lock:
            n_live = len(self._streams)
        self._observer.streams(n_live)


def _do_nothing(stream: LiveStream) -> None:
    """Pass over it."""
