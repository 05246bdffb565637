"""JPEG among the frames of a batch: order, garbage, and one choice of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from hypothesis import given, settings, strategies as st

from pose_analyzer.inference.jpeg import Decoded, DecodedJpeg, ThreadedJpegDecoder
from pose_analyzer.inference.jpeg_batch import JpegBatchDecoder
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.types import AnyFrame, Frame, JpegFrame


def plain(level: int) -> Frame:
    return Frame(np.full((16, 24, 3), level, np.uint8), level / 30.0, level)


def jpeg(level: int) -> JpegFrame:
    data = cv2.imencode(".jpg", plain(level).image)[1].tobytes()
    return jpeg_frame(data, level / 30.0, level)


def garbage(level: int) -> JpegFrame:
    return JpegFrame(b"\xff\xd8 no picture", level / 30.0, level, 16, 24)


class Counting:
    """Decodes in threads, and counts the files of each call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[int] = []
        self.is_closed = False
        self._threads = ThreadedJpegDecoder(threads=1)

    def decode(self, files: Sequence[bytes]) -> Decoded:
        self.asked.append(len(files))
        return self._threads.decode(files)

    def close(self) -> None:
        self.is_closed = True


@given(kinds=st.lists(st.sampled_from([plain, jpeg, garbage]), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_frames_keep_their_order_and_only_garbage_is_none(
    kinds: list[Callable[[int], AnyFrame]],
) -> None:
    frames: list[AnyFrame] = [kind(10 * level) for level, kind in enumerate(kinds)]
    found = JpegBatchDecoder([ThreadedJpegDecoder(threads=2)]).decode(frames)
    assert [each is None for each in found] == [kind is garbage for kind in kinds]
    for frame, each in zip(frames, found, strict=True):
        if each is not None:
            assert isinstance(each, Frame)
            assert (each.index, each.time_s) == (frame.index, frame.time_s)
            assert np.abs(each.image.astype(int) - frame.index).max() <= 2


def test_a_batch_without_jpeg_asks_no_decoder() -> None:
    decoder = Counting("one")
    frames = [plain(1), plain(2)]
    assert JpegBatchDecoder([decoder]).decode(frames) == frames
    assert not decoder.asked


def test_the_decoder_is_chosen_once_by_the_first_files_that_are_some() -> None:
    decoders = [Counting("one"), Counting("other")]
    used: list[int] = []
    batch = JpegBatchDecoder(decoders, lambda decoded: used.append(len(decoded)))
    assert batch.decode([garbage(1)]) == [None]
    assert not used
    batch.decode([garbage(1), jpeg(2), plain(3)])
    assert batch.chosen in {"one", "other"}
    # Compared on a batch as large as a few streams make.
    assert set(used) == {4}
    asked = sum(len(decoder.asked) for decoder in decoders)
    batch.decode([jpeg(2)])
    assert sum(len(decoder.asked) for decoder in decoders) == asked + 1


def test_a_smaller_picture_keeps_its_scale() -> None:
    large = np.zeros((64, 128, 3), np.uint8)
    frame = jpeg_frame(cv2.imencode(".jpg", large)[1].tobytes(), 0.0, 0)
    (found,) = JpegBatchDecoder([ThreadedJpegDecoder(64, threads=1)]).decode([frame])
    assert isinstance(found, DecodedJpeg)
    assert found.scale == 2


def test_closing_closes_every_decoder() -> None:
    decoders = [Counting("one"), Counting("other")]
    JpegBatchDecoder(decoders).close()
    assert all(decoder.is_closed for decoder in decoders)
