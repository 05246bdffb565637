"""GuardedObserver: what an observer raises reaches nobody, and is logged once."""

from __future__ import annotations

import threading

import pytest
from live_streams import EVERY, Client, CountingObserver, FakeDetector, frame, pipeline

from pose_analyzer.multi_stream_processor import MultiStreamProcessor
from pose_analyzer.serving.guarded_observer import GuardedObserver
from pose_analyzer.serving.load_shedding import SheddingPolicy
from pose_analyzer.serving.observer import DropCause, Stage
from pose_analyzer.serving.stream_manager import StreamManager
from pose_analyzer.serving.vram_monitor import SimulatedReader, VramMonitor


class Failing:
    """An observer that fails whatever it is told."""

    def __init__(self) -> None:
        self.n_told = 0

    def stage(self, stage: Stage, seconds: float) -> None:
        self._fail(stage, seconds)

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        self._fail(cause, n)

    def batch(self, n_frames: int, capacity: int) -> None:
        self._fail(n_frames, capacity)

    def streams(self, n_live: int) -> None:
        self._fail(n_live)

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        self._fail(used_bytes, total_bytes)

    def _fail(self, *told: object) -> None:
        self.n_told += 1
        raise ConnectionError(f"nobody hears {told}")


def test_what_an_observer_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing()
    observer = GuardedObserver(failing)
    observer.stage("infer", 0.1)
    observer.dropped("stale", 2)
    observer.batch(1, 2)
    observer.streams(3)
    observer.vram(0, 0)
    assert failing.n_told == 5
    assert [record.message for record in caplog.records] == [
        "the observer Failing fails; its figures are not complete"
    ]
    assert "nobody hears ('infer', 0.1)" in caplog.text


def test_an_observer_is_told_everything_as_it_is() -> None:
    counting = CountingObserver()
    observer = GuardedObserver(counting)
    observer.stage("infer", 0.1)
    observer.dropped("stale", 2)
    observer.dropped("stale")
    observer.streams(3)
    assert (counting.stages, counting.drops, counting.n_live) == ({"infer": 1}, {"stale": 3}, [3])


def test_an_observer_that_fails_costs_no_frame() -> None:
    client, failing = Client(), Failing()
    with MultiStreamProcessor(FakeDetector(), observer=failing) as processor:
        processor.open_stream("a", pipeline(), EVERY, client)
        processor.push("a", frame(0))
        processor.push("a", frame(0))
        processor.attach("a", [frame(index) for index in range(1, 9)])
        assert client.indices == list(range(9))
    assert failing.n_told > 9


def test_an_observer_that_fails_keeps_no_memory_from_being_freed() -> None:
    freed = threading.Event()
    vram = VramMonitor(SimulatedReader(lambda: 0.99))
    with MultiStreamProcessor(FakeDetector()) as processor:
        processor.open_stream("a", pipeline())
        manager = StreamManager(processor, vram, SheddingPolicy(), observer=Failing())
        manager.on_shed = freed.set
        manager.step(0.0)
    assert freed.is_set()
