"""JPEG and sources in live streams: decoded when its turn has come, told, closed at once."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
from live_streams import failed_observers

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.inference.jpeg import ReadyFrame
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.multi_stream_processor import MultiStreamProcessor, ProcessorConfig
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.serving.live_stream import StreamConfig
from pose_analyzer.serving.observer import DropCause, Stage
from pose_analyzer.serving.result_queue import LiveResult, ResultQueue
from pose_analyzer.types import AnyFrame, Frame, JpegFrame, PoseDetections

WAIT_S = 10.0
EVERY = StreamConfig(policy="every_frame", depth=4)


def plain(index: int) -> Frame:
    return Frame(np.full((16, 24, 3), index, np.uint8), index / 30.0, index)


def jpeg(index: int) -> JpegFrame:
    data = cv2.imencode(".jpg", plain(index).image)[1].tobytes()
    return jpeg_frame(data, index / 30.0, index)


def garbage(index: int) -> JpegFrame:
    return JpegFrame(b"\xff\xd8 no picture", index / 30.0, index, 16, 24)


class Detector:
    """Sees nobody; tells which frames it decoded and detected; can be held."""

    def __init__(self) -> None:
        self.may_detect = threading.Event()
        self.may_detect.set()
        self.decoded: list[int] = []
        self.detected: list[int] = []
        self.has_decoded = threading.Semaphore(0)

    def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
        self.decoded += [frame.index for frame in frames]
        self.has_decoded.release()
        return [plain(frame.index) if frame.index >= 0 else None for frame in frames]

    def detect(self, frames: Sequence[ReadyFrame]) -> list[PoseDetections]:
        assert self.may_detect.wait(WAIT_S)
        self.detected += [frame.index for frame in frames if isinstance(frame, Frame)]
        return [PoseDetections.empty() for _ in frames]


class KnowsNoJpeg:
    """A detector that takes frames only."""

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        assert all(frame.image.shape == (16, 24, 3) for frame in frames)
        return [PoseDetections.empty() for _ in frames]


class Noting:
    """An observer that keeps stages and drops."""

    def __init__(self) -> None:
        self.stages: list[tuple[Stage, float]] = []
        self.drops: list[tuple[DropCause, int]] = []

    def stage(self, stage: Stage, seconds: float) -> None:
        self.stages.append((stage, seconds))

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        self.drops.append((cause, n))

    def batch(self, n_frames: int, capacity: int) -> None:
        assert 1 <= n_frames <= capacity

    def streams(self, n_live: int) -> None:
        """Pass over it."""

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        """Pass over it."""


@pytest.fixture(autouse=True)
def _no_observer_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not failed_observers(caplog)


def pipeline() -> StreamPipeline:
    return StreamPipeline(load_exercise("squat"))


def taken(results: ResultQueue, n: int) -> list[LiveResult]:
    return [result for _ in range(n) if (result := results.take(WAIT_S)) is not None]


def test_a_detector_that_knows_no_jpeg_gets_it_decoded() -> None:
    n_before = threading.active_count()
    with MultiStreamProcessor(KnowsNoJpeg()) as processor:
        results = processor.open_stream("a", pipeline(), EVERY)
        frames = [jpeg(index) if index % 3 else plain(index) for index in range(12)]
        processor.attach("a", frames)
        assert [result.frame for result in results] == frames
    assert threading.active_count() == n_before


def test_garbage_in_one_stream_is_a_bad_frame_of_that_stream_alone() -> None:
    with MultiStreamProcessor(KnowsNoJpeg()) as processor:
        good, bad = (processor.open_stream(name, pipeline(), EVERY) for name in ("good", "bad"))
        processor.attach("good", [jpeg(index) for index in range(10)])
        for index in range(10):
            processor.push("bad", jpeg(index) if index % 2 else garbage(index))
        assert [result.frame.index for result in taken(good, 10)] == list(range(10))
        assert [result.frame.index for result in taken(bad, 5)] == [1, 3, 5, 7, 9]
        assert processor.counts("bad").dropped == {"bad_frame": 5}


@pytest.mark.parametrize("data", [b"", "text", None])
def test_what_is_no_file_at_all_is_refused_before_it_waits(data: object) -> None:
    detector = Detector()
    with MultiStreamProcessor(detector) as processor:
        processor.open_stream("a", pipeline())
        assert not processor.push("a", JpegFrame(data, 0.0, 0, 16, 24))  # type: ignore[arg-type]
        assert processor.counts("a").dropped == {"bad_frame": 1}
    assert not detector.decoded


def test_frames_that_are_replaced_were_never_decoded() -> None:
    detector = Detector()
    detector.may_detect.clear()
    with MultiStreamProcessor(detector) as processor:
        results = processor.open_stream("a", pipeline())
        # One is detected and one decoded; the others wait for their turn, the newest of them.
        for index in (0, 1):
            processor.push("a", jpeg(index))
            assert detector.has_decoded.acquire(timeout=WAIT_S)
        for index in range(2, 9):
            processor.push("a", jpeg(index))
        assert processor.counts("a").dropped == {"replaced": 6}
        detector.may_detect.set()
        while (result := results.take(WAIT_S)) is not None and result.frame.index < 8:
            pass
    assert detector.decoded == detector.detected == [0, 1, 8]


def test_the_next_batch_is_decoded_while_one_is_detected() -> None:
    detector = Detector()
    detector.may_detect.clear()
    with MultiStreamProcessor(detector, ProcessorConfig(max_batch=1)) as processor:
        results = processor.open_stream("a", pipeline(), EVERY)
        for index in (0, 1):
            processor.push("a", jpeg(index))
            assert detector.has_decoded.acquire(timeout=WAIT_S)
        assert (detector.decoded, detector.detected) == ([0, 1], [])
        detector.may_detect.set()
        assert [result.frame.index for result in taken(results, 2)] == [0, 1]


def test_a_decoder_that_fails_drops_its_frames_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Detector):
        def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
            if any(isinstance(frame, JpegFrame) for frame in frames):
                raise OSError("the decoder is gone")
            return super().decode(frames)

    with MultiStreamProcessor(Failing()) as processor:
        results = processor.open_stream("a", pipeline(), EVERY)
        for frame in (plain(0), jpeg(1), plain(2)):
            processor.push("a", frame)
        assert [result.frame.index for result in taken(results, 2)] == [0, 2]
        assert processor.counts("a").dropped == {"bad_frame": 1}
    assert "the decoder is gone" in caplog.text


def test_decoding_is_told_once_for_a_batch_with_jpeg_and_not_without() -> None:
    observer = Noting()
    with MultiStreamProcessor(KnowsNoJpeg(), observer=observer) as processor:
        results = processor.open_stream("a", pipeline(), EVERY)
        for frame in (plain(0), jpeg(1), plain(2)):
            processor.push("a", frame)
            assert taken(results, 1)
    times_s = [seconds for stage, seconds in observer.stages if stage == "decode"]
    assert len(times_s) == 1
    assert 0.0 < times_s[0] < WAIT_S


class Timed:
    """A source that knows how long it decodes, from its second frame on."""

    def __init__(self) -> None:
        self.decode_s = math.nan

    def __iter__(self) -> Iterator[Frame]:
        for index in range(3):
            yield plain(index)
            self.decode_s = 0.25


def test_a_source_that_knows_how_long_it_decodes_is_asked() -> None:
    observer = Noting()
    with MultiStreamProcessor(KnowsNoJpeg(), observer=observer) as processor:
        results = processor.open_stream("a", pipeline(), EVERY)
        processor.attach("a", Timed())
        assert len(list(results)) == 3
    assert [told for told in observer.stages if told[0] == "decode"] == [("decode", 0.25)] * 2


class Silent:
    """A source that gives one frame and then nothing until it is closed."""

    def __init__(self) -> None:
        self.is_closed = threading.Event()
        self.has_ended = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        yield plain(0)
        assert self.is_closed.wait(WAIT_S)
        self.has_ended.set()

    def close(self) -> None:
        self.is_closed.set()


def test_closing_a_stream_ends_its_source_at_once() -> None:
    source, other = Silent(), Silent()
    with MultiStreamProcessor(KnowsNoJpeg()) as processor:
        results = processor.open_stream("a", pipeline(), EVERY)
        processor.open_stream("b", pipeline(), EVERY)
        processor.attach("a", source)
        processor.attach("b", other)
        assert taken(results, 1)
        processor.close_stream("a")
        assert source.has_ended.wait(WAIT_S)
        assert not other.is_closed.is_set()


def test_a_stream_that_fails_ends_its_source_too() -> None:
    source = Silent()

    def vanishing(_: object) -> None:
        raise ConnectionError("the client is gone")

    with MultiStreamProcessor(KnowsNoJpeg()) as processor:
        processor.open_stream("a", pipeline(), EVERY, vanishing)
        processor.attach("a", source)
        assert source.has_ended.wait(WAIT_S)


def test_a_source_whose_close_hangs_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    may_close = threading.Event()

    class Hanging(Silent):
        def close(self) -> None:
            assert may_close.wait(WAIT_S)
            super().close()
            raise OSError("the driver is gone")

    source = Hanging()
    with MultiStreamProcessor(KnowsNoJpeg()) as processor:
        first = processor.open_stream("a", pipeline(), EVERY)
        processor.attach("a", source)
        assert taken(first, 1)
        processor.close_stream("a")
        results = processor.open_stream("a", pipeline(), EVERY)
        processor.push("a", plain(0))
        assert taken(results, 1)
        may_close.set()
        assert source.has_ended.wait(WAIT_S)
    assert "the driver is gone" in caplog.text
