"""The head of a JPEG file: its size, and what is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pose_analyzer.errors import VideoError
from pose_analyzer.inference.jpeg_head import jpeg_frame, jpeg_size
from pose_analyzer.types import JpegFrame


def jpeg(height: int, width: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def with_thumbnail(data: bytes, thumbnail: bytes) -> bytes:
    """Return a file that carries another one in an application segment, as cameras do."""
    return data[:2] + b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail + data[2:]


@given(height=st.integers(1, 300), width=st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_the_size_is_read_from_the_head(height: int, width: int) -> None:
    assert jpeg_size(jpeg(height, width)) == (height, width)


@given(data=st.binary(max_size=60), is_marked=st.booleans())
def test_what_is_no_jpeg_has_no_size(data: bytes, is_marked: bool) -> None:
    head = b"\xff\xd8" if is_marked else b""
    size = jpeg_size(head + data)
    assert size is None or (is_marked and min(size) > 0)


@pytest.mark.parametrize("end", [2, 10, 100])
def test_a_head_that_is_cut_has_no_size(end: int) -> None:
    assert jpeg_size(jpeg(64, 96)[:end]) is None


def test_a_small_picture_in_the_head_does_not_count() -> None:
    data = with_thumbnail(jpeg(64, 96), jpeg(8, 8))
    assert jpeg_size(data) == (64, 96)
    assert jpeg_size(data[:-2]) is None


def test_bytes_behind_the_end_do_no_harm() -> None:
    assert jpeg_size(jpeg(64, 96) + bytes(4096)) == (64, 96)


def test_a_head_that_claims_billions_of_pixels_is_none() -> None:
    data = bytearray(jpeg(64, 96))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    assert jpeg_size(bytes(data)) is None


def test_a_file_becomes_a_frame_undecoded() -> None:
    data = jpeg(64, 96)
    assert jpeg_frame(data, 0.5, 3) == JpegFrame(data, 0.5, 3, 64, 96)


@pytest.mark.parametrize("data", [b"", b"GIF89a", jpeg(64, 96)[:-20]])
def test_what_is_no_file_of_the_kind_is_refused_with_its_number(data: bytes) -> None:
    with pytest.raises(VideoError, match=rf"frame 3 \({len(data)} bytes\) is no whole JPEG"):
        jpeg_frame(data, 0.5, 3)


@pytest.mark.parametrize("data", [None, "text", np.zeros(9, np.uint8), bytearray(b"\xff\xd8")])
def test_what_is_no_file_is_refused_by_its_type(data: bytes) -> None:
    with pytest.raises(TypeError, match=f"data must be bytes, got {type(data).__name__}"):
        jpeg_frame(data, 0.0, 0)
