"""Live sources: pace, times, ends, and what they tell of an address."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.errors import VideoError
from pose_analyzer.live_source import CameraSource, PacedFile, RtspSource, decode_seconds
from pose_analyzer.report.video_writer import VideoWriter
from pose_analyzer.types import Frame, ImageArray
from pose_analyzer.video_source import VideoFile

IMAGE = np.full((48, 64, 3), 128, np.uint8)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class FakeCapture:
    """A camera of so many pictures; None cannot be opened."""

    def __init__(self, n_pictures: int | None) -> None:
        self.n_left = n_pictures
        self.is_released = False

    def isOpened(self) -> bool:  # noqa: N802
        return self.n_left is not None

    def read(self) -> tuple[bool, ImageArray | None]:
        if not self.n_left:
            return False, None
        self.n_left -= 1
        return True, IMAGE

    def get(self, propId: int, /) -> float:  # noqa: N803
        return {3: 64.0, 4: 48.0}.get(propId, 0.0)

    def release(self) -> None:
        self.is_released = True


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of five frames at 25 a second."""
    path = tmp_path_factory.mktemp("live") / "clip.mp4"
    with VideoWriter(path, 64, 48, 25.0) as writer:
        for n in range(5):
            writer.write(IMAGE, n / 25.0)
    return path


def test_a_file_is_delivered_at_its_own_pace(clip: Path) -> None:
    time = FakeTime()
    source = PacedFile(VideoFile(clip), clock=time.clock, sleep=time.sleep)
    arrivals = [(frame.time_s, time.now_s - 100.0) for frame in source]
    assert len(arrivals) == 5
    np.testing.assert_allclose([a for a, _ in arrivals], [b for _, b in arrivals], atol=1e-9)


def test_a_late_reader_is_not_made_later(clip: Path) -> None:
    time = FakeTime()
    frames = iter(PacedFile(VideoFile(clip), clock=time.clock, sleep=time.sleep))
    next(frames)
    time.now_s += 10.0
    assert len(list(frames)) == 4
    assert time.now_s == 110.0


class SlowRecording:
    """A recording of which each frame takes a quarter of a second to read."""

    name, width, height, fps, n_frames_estimate, warnings = "slow", 64, 48, 2.0, 3, ()

    def __init__(self, time: FakeTime) -> None:
        self._time = time

    def __iter__(self) -> Iterator[Frame]:
        for index in range(3):
            self._time.sleep(0.25)
            yield Frame(IMAGE, index / 2.0, index)


def test_a_file_tells_how_long_it_decodes_without_the_wait() -> None:
    time = FakeTime()
    source = PacedFile(SlowRecording(time), clock=time.clock, sleep=time.sleep)
    assert math.isnan(decode_seconds(source))
    told = [decode_seconds(source) for _ in source]
    assert told == [0.25, 0.25, 0.25]
    assert time.now_s == pytest.approx(101.0)


def test_a_camera_does_not_know_how_long_its_driver_decodes() -> None:
    source = CameraSource(0, open_capture=lambda _: FakeCapture(2))
    next(iter(source))
    assert math.isnan(decode_seconds(source))


def test_a_loop_goes_on_in_time_and_number_until_it_is_closed(clip: Path) -> None:
    time = FakeTime()
    source = PacedFile(VideoFile(clip), loops=True, clock=time.clock, sleep=time.sleep)
    frames = []
    for frame in source:
        frames.append(frame)
        if frame.index == 11:
            source.close()
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 0.04, atol=1e-3)


def test_close_ends_a_wait_at_once(clip: Path) -> None:
    source = PacedFile(VideoFile(clip), clock=lambda: -1e6 if started.is_set() else 0.0)
    started = threading.Event()
    frames = iter(source)
    next(frames)
    started.set()
    threading.Timer(0.01, source.close).start()
    assert list(frames) == []


def test_a_camera_that_ends_says_so_and_is_given_back() -> None:
    time, capture = FakeTime(), FakeCapture(3)
    times_s: deque[float] = deque()
    source = CameraSource(0, open_capture=lambda _: capture, clock=time.clock)
    with pytest.raises(VideoError, match="camera 0 gives no more pictures; check"):
        times_s.extend(frame.time_s for frame in source)
    assert len(times_s) == 3
    assert (np.diff(times_s) > 0.0).all()
    assert capture.is_released


def test_a_camera_that_cannot_be_opened_says_what_to_check() -> None:
    with pytest.raises(VideoError, match="camera 1 cannot be opened; check that it is plugged in"):
        CameraSource(1, open_capture=lambda _: FakeCapture(None))


def test_a_closed_camera_ends_without_an_error() -> None:
    source = CameraSource(0, open_capture=lambda _: FakeCapture(9))
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_an_address_shows_no_credentials_in_name_and_error() -> None:
    address = "rtsp://user:p@ss@host:554/live"
    source = RtspSource(address, open_capture=lambda _: FakeCapture(0))
    assert source.name == "rtsp://host:554/live"
    with pytest.raises(VideoError, match=r"^rtsp://host:554/live gives no more"):
        list(source)
    with pytest.raises(ValueError, match="'ftp://host/x'"):
        RtspSource("ftp://user:secret@host/x")
