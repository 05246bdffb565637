"""The head of a JPEG file: whether it is one, and how large its picture is."""

from __future__ import annotations

from typing import Final

from pose_analyzer.errors import VideoError
from pose_analyzer.types import JpegFrame

MOST_PIXELS: Final = 1 << 26
"""Of a picture: twice 8K. A head of a few bytes can claim four billion (chosen by us)."""
_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL: Final = 0xFF
_NO_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD9)))


def jpeg_frame(data: bytes, time_s: float, index: int) -> JpegFrame:
    """Return a JPEG file as a frame; only its head is read.

    Parameters
    ----------
    data : bytes
        The file.
    time_s : float
        Seconds since the first frame of the stream.
    index : int
        Number of the frame in its stream, from 0.

    Raises
    ------
    VideoError
        If it is no JPEG, was cut off, or claims more than `MOST_PIXELS`.
    TypeError
        If it is not `bytes`.
    """
    found: object = data
    if not isinstance(found, bytes):
        raise TypeError(f"data must be bytes, got {type(found).__name__}")
    size = jpeg_size(data)
    if size is None:
        raise VideoError(
            f"frame {index} ({len(data)} bytes) is no whole JPEG of at most "
            f"{MOST_PIXELS >> 20} megapixels; check what sends it"
        )
    return JpegFrame(data, time_s, index, *size)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a JPEG file; None if it is none, or not whole, or too large.

    References
    ----------
    .. [1] ITU-T T.81 (1992), annex B: markers and the frame header.
    """
    place = _frame_header(data)
    # Behind the head: a small picture in it may have an end of its own.
    if place is None or data.rfind(_END, place) < 0:
        return None
    height, width = (
        int.from_bytes(data[place + start : place + start + 2], "big") for start in (5, 7)
    )
    return (height, width) if 0 < height * width <= MOST_PIXELS else None


def _frame_header(data: bytes) -> int | None:
    """Return where the header of the frame begins."""
    if data[:2] != _START:
        return None
    place = 2
    while place + 9 <= len(data):
        if data[place] != _FILL:
            return None
        marker = data[place + 1]
        if marker in _START_OF_FRAME:
            return place
        if marker == _FILL:
            place += 1
        elif marker in _NO_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
