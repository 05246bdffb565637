"""What a live stream takes as a frame, and what not; whatever it is given, nothing else fails."""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.types import AnyFrame, Frame, JpegFrame

_MOST_TIME_S: Final = 1e11
"""Three thousand years: with longer times a float no longer tells 0.1 ms apart."""


def require_frame(frame: object) -> None:
    """Raise `TypeError` for what is no frame."""
    if not isinstance(frame, Frame | JpegFrame):
        raise TypeError(f"a frame must be a Frame or a JpegFrame, got {type(frame).__name__}")


def require_time(name: str, value: object) -> None:
    """Raise `ValueError` for what is no time."""
    if not is_time(value):
        raise ValueError(
            f"{name} must be a finite number of seconds, within {_MOST_TIME_S:.0e}, got {value!r}"
        )


def is_time(value: object) -> bool:
    """Return whether something is a time in seconds: a number, finite, of a sensible size."""
    if isinstance(value, np.floating | np.integer):
        value = value.item()
    return isinstance(value, float | int) and abs(value) <= _MOST_TIME_S


def is_picture(frame: AnyFrame) -> bool:
    """Return whether a frame is what the detectors take: uint8, (H, W, 3), not empty, timed.

    Of a JPEG nothing is decoded here: whether it is one shows when its turn has come.
    """
    if not is_time(frame.time_s):
        return False
    if isinstance(frame, JpegFrame):
        data: object = frame.data
        return isinstance(data, bytes) and len(data) > 0
    image: object = frame.image
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )
