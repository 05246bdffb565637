"""Decoding JPEG: the same pictures as OpenCV, bad files apart, the faster decoder chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from pose_analyzer.inference.jpeg import (
    Decoded,
    DecodedJpeg,
    ThreadedJpegDecoder,
    choose_jpeg_decoder,
)
from pose_analyzer.types import ImageArray, PoseDetections


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image)[1].tobytes()


def opened(data: bytes) -> ImageArray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_threads_give_what_opencv_gives_in_order() -> None:
    files = [jpeg(48, 64, seed) for seed in range(5)]
    for found, data in zip(ThreadedJpegDecoder(threads=3).decode(files), files, strict=True):
        assert found is not None
        assert found.scale == 1
        np.testing.assert_array_equal(np.asarray(found.picture), opened(data))


def test_a_bad_file_is_none_and_the_others_are_decoded() -> None:
    good = jpeg(48, 64)
    found = ThreadedJpegDecoder(threads=2).decode([b"", good, b"\xff\xd8garbage", good])
    assert [each is None for each in found] == [True, False, True, False]


@pytest.mark.parametrize(("height", "width", "scale"), [(64, 128, 2), (64, 127, 1), (128, 20, 2)])
def test_a_picture_is_halved_if_it_is_still_large_enough(
    height: int, width: int, scale: int
) -> None:
    (found,) = ThreadedJpegDecoder(64, threads=1).decode([jpeg(height, width)])
    assert found is not None
    assert found.scale == scale
    assert tuple(found.picture.shape) == (height // scale, width // scale, 3)


def test_people_of_a_halved_picture_come_back_in_full_size() -> None:
    people = PoseDetections(
        np.full((1, 21, 2), 10.0), np.ones((1, 21)), np.array([[1.0, 2.0, 3.0, 4.0]]), np.ones(1)
    )
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    assert DecodedJpeg(picture, 1).full_size(people) is people
    doubled = DecodedJpeg(picture, 2).full_size(people)
    np.testing.assert_array_equal(doubled.keypoints, np.full((1, 21, 2), 20.0))
    np.testing.assert_array_equal(doubled.boxes, [[2.0, 4.0, 6.0, 8.0]])
    np.testing.assert_array_equal(doubled.confidence, people.confidence)


class Slow:
    """Moves a clock by what it takes, the first call by more."""

    def __init__(self, name: str, seconds: Sequence[float], clock: list[float]) -> None:
        self.name = name
        self._seconds: Iterator[float] = iter(seconds)
        self._clock = clock

    def decode(self, files: Sequence[bytes]) -> Decoded:
        self._clock[0] += next(self._seconds)
        return [None for _ in files]

    def close(self) -> None:
        """Hold nothing."""


def test_the_faster_decoder_is_chosen_whatever_its_first_call_takes() -> None:
    clock = [0.0]
    steady = Slow("steady", [0.1, 2.0, 2.0, 2.0], clock)
    late = Slow("late", [60.0, 3.0, 1.0, 9.0], clock)
    seen: list[Decoded] = []
    chosen = choose_jpeg_decoder([steady, late], [b""], seen.append, lambda: clock[0])
    assert chosen is late
    assert seen == [[None]] * 8
