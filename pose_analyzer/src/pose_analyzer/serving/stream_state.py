"""What is known of one live stream from outside: the value by which streams are managed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamState:
    """One open stream at one moment.

    Attributes
    ----------
    stream_id : str
        Unique among the open streams.
    priority : int
        A stream of a higher number is served first and shed last.
    opened_s : float
        When it was opened, on the clock of the processor.
    fps : float
        Frames a second as they arrive, before any limit; NaN until measured.
    max_fps : float or None
        Frames a second that are let through; None means all.
    is_suspended : bool
        True while its frames are dropped to save GPU memory. Its analysis is kept.
    last_frame_s : float or None
        When its last frame arrived, dropped or not, on the same clock; None before the first.
    """

    stream_id: str
    priority: int
    opened_s: float
    fps: float
    max_fps: float | None
    is_suspended: bool
    last_frame_s: float | None
