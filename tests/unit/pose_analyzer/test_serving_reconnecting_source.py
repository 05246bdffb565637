"""ReconnectingSource: what is lost comes back, in order, and nothing that hangs holds it up."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pose_analyzer.errors import DependencyMissingError, NoVideoError, VideoError
from pose_analyzer.serving.back_off import ReconnectConfig
from pose_analyzer.serving.reconnecting_source import ReconnectingSource
from pose_analyzer.types import Frame, JpegFrame

IMAGE = np.zeros((2, 2, 3), np.uint8)
GONE = VideoError("gone")


class World:
    """Time that passes only when all wait, and cameras that follow a script.

    A camera is a list of frame intervals in seconds; an error in it is raised, and None is a read
    that hangs until the world ends. The next camera is opened at each connection, the last again.
    """

    def __init__(self, *cameras: list[float | Exception | None] | Exception) -> None:
        self.cameras = cameras
        self.now_s = 100.0
        self.opened_s: list[float] = []
        self.waits_s: list[float] = []
        self.n_closed = 0
        self.n_hung = 0
        self.ended = threading.Event()
        self.on_wait: Callable[[], None] = lambda: None
        self.others = set(threading.enumerate())

    def clock(self) -> float:
        return self.now_s

    def wait(self, changed: threading.Condition, timeout_s: float) -> None:
        """Let a reader work if there is one that can; else let the time pass."""
        threads = set(threading.enumerate()) - self.others
        readers = [thread for thread in threads if thread.name == "live reader"]
        if len(readers) > self.n_hung:
            changed.wait(0.001)
            return
        self.waits_s.append(timeout_s)
        self.now_s += max(timeout_s, 1e-6)
        self.on_wait()

    def open(self) -> Iterable[Frame]:
        camera = self.cameras[min(len(self.opened_s), len(self.cameras) - 1)]
        self.opened_s.append(self.now_s)
        if isinstance(camera, Exception):
            raise camera
        return Camera(self, camera)

    def source(self, config: ReconnectConfig | None = None) -> ReconnectingSource:
        return ReconnectingSource(
            "rtsp://user:secret@host/x?token=secret",
            self.open,
            config,
            rng=np.random.default_rng(0),
            clock=self.clock,
            wait=self.wait,
        )


class Camera:
    """One connection."""

    def __init__(self, world: World, script: list[float | Exception | None]) -> None:
        self.world = world
        self.script = script

    def __iter__(self) -> Iterator[Frame]:
        time_s = 0.0
        for index, step in enumerate(self.script):
            if step is None:
                self.world.n_hung += 1
                self.world.ended.wait(10.0)
                return
            if isinstance(step, Exception):
                raise step
            time_s += step
            self.world.now_s += max(step, 0.0)
            yield Frame(IMAGE, time_s, index)

    def close(self) -> None:
        self.world.n_closed += 1


@pytest.fixture
def end_of_world() -> Iterator[list[World]]:
    """End the reads that still hang."""
    worlds: list[World] = []
    yield worlds
    for world in worlds:
        world.ended.set()


def test_a_lost_source_comes_back_with_times_and_numbers_that_go_on() -> None:
    world = World([0.0, 0.1, GONE], GONE, GONE, [0.0, 0.1, 0.1])
    source = world.source()
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    gap_s = world.opened_s[3] - world.opened_s[0] - 0.1
    assert gap_s == pytest.approx(sum(world.waits_s))
    np.testing.assert_allclose(
        [frame.time_s for frame in frames], [0.0, 0.1, *(0.1 + gap_s + np.array([0, 0.1, 0.2]))]
    )
    assert source.n_reconnects == 1


def test_jpeg_stays_as_it_is_and_the_time_of_decoding_is_told() -> None:
    class Telling:
        decode_s = 0.25

        def __iter__(self) -> Iterator[JpegFrame]:
            yield JpegFrame(b"data", 5.0, 7, 48, 64)

    source = ReconnectingSource("door", Telling)
    assert math.isnan(source.decode_s)
    assert list(source) == [JpegFrame(b"data", 5.0, 0, 48, 64)]
    assert source.decode_s == 0.25


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.04, 3.0]), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_times_always_increase(cameras: list[list[float]]) -> None:
    scripts: list[list[float | Exception | None]] = [[*steps, GONE] for steps in cameras]
    frames = list(World(*scripts, [0.0]).source())
    assert len(frames) == sum(map(len, cameras)) + 1
    assert (np.diff([frame.time_s for frame in frames]) > 0.0).all()
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_silence_leads_to_a_new_connection_and_the_old_one_is_closed(
    end_of_world: list[World],
) -> None:
    world = World([0.0, None], [0.0, 0.1])
    end_of_world.append(world)
    source = world.source()
    assert len(list(source)) == 3
    assert 5.0 <= world.opened_s[1] - world.opened_s[0] <= 5.5 + 1e-6
    assert source.n_reconnects == 1


def test_a_camera_may_take_longer_to_its_first_frame(end_of_world: list[World]) -> None:
    world = World([None], [0.0])
    end_of_world.append(world)
    list(world.source())
    assert 15.0 <= world.opened_s[1] - world.opened_s[0] <= 15.5 + 1e-6


def test_hung_reads_do_not_pile_up(end_of_world: list[World]) -> None:
    world = World([None])
    end_of_world.append(world)
    with pytest.raises(VideoError, match="after 20 failures: 3 reads of it hang; restart"):
        list(world.source(ReconnectConfig(max_attempts=20)))
    assert len(world.opened_s) == 3


def test_only_a_good_spell_makes_the_failures_before_it_forgotten() -> None:
    def last_index(good_s: float) -> int:
        third_s = good_s / 3.0
        world = World(*[GONE] * 5, [0.0, third_s, third_s, third_s, GONE], [0.0])
        return list(world.source(ReconnectConfig(max_attempts=6)))[-1].index

    assert last_index(10.1) == 4
    with pytest.raises(VideoError, match="6 failures"):
        last_index(9.9)


def test_it_gives_up_only_where_it_was_told() -> None:
    with pytest.raises(
        VideoError, match=r"^rtsp://host/x\?\.\.\. is given up after 3 failures: gone"
    ):
        list(World(GONE).source(ReconnectConfig(max_attempts=3)))
    patient = World(*[GONE] * 200, [0.0])
    assert len(list(patient.source())) == 1


@pytest.mark.parametrize(
    "error", [DependencyMissingError("no OpenCV"), NoVideoError("no video"), KeyError("bug")]
)
@pytest.mark.parametrize("is_late", [False, True])
def test_what_trying_again_does_not_mend_passes_at_once(error: Exception, is_late: bool) -> None:
    world = World([0.0, error]) if is_late else World(error)
    with pytest.raises(type(error)) as caught:
        list(world.source())
    assert caught.value is error
    assert len(world.opened_s) == 1


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError("late")])
def test_errors_of_the_network_pass_away(error: Exception) -> None:
    assert len(list(World(error, [0.0]).source())) == 1


def test_a_source_that_ends_well_is_not_opened_again() -> None:
    world = World([0.0, 0.1])
    assert len(list(world.source())) == 2
    assert (len(world.opened_s), world.n_closed) == (1, 1)


def test_close_ends_a_back_off(end_of_world: list[World]) -> None:
    world = World(GONE)
    end_of_world.append(world)
    source = world.source()
    world.on_wait = source.close
    assert list(source) == []
    assert len(world.opened_s) == 1


def test_close_ends_a_read_that_hangs() -> None:
    taken, ended = threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        yield Frame(IMAGE, 0.0, 0)
        ended.wait(10.0)

    def consume() -> None:
        for _ in source:
            taken.set()

    source = ReconnectingSource("door", camera)
    consumer = threading.Thread(target=consume)
    consumer.start()
    assert taken.wait(5.0)
    source.close()
    consumer.join(5.0)
    is_done, is_hanging = not consumer.is_alive(), not ended.is_set()
    ended.set()
    assert is_done
    assert is_hanging


def test_a_close_that_hangs_holds_nobody_up() -> None:
    closing, ended = threading.Event(), threading.Event()

    class Stuck:
        def __iter__(self) -> Iterator[Frame]:
            return (Frame(IMAGE, float(n), n) for n in itertools.count())

        def close(self) -> None:
            closing.set()
            ended.wait(10.0)

    source = ReconnectingSource("door", Stuck)
    frames = iter(source)
    next(frames)
    source.close()
    assert closing.wait(5.0)
    assert list(frames) == []
    assert not ended.is_set()
    ended.set()


def test_a_reader_that_leaves_gives_the_camera_back() -> None:
    released = threading.Event()

    def camera() -> Iterator[Frame]:
        try:
            for n in itertools.count():
                yield Frame(IMAGE, float(n), n)
        finally:
            released.set()

    frames = iter(ReconnectingSource("door", camera))
    next(frames)
    del frames
    assert released.wait(5.0)


def test_each_loss_and_each_return_is_one_line_without_a_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leak = VideoError("rtsp://user:secret@host/x?token=secret is off")
    world = World([0.0, leak], *[leak] * 50, [0.0, leak], leak, [0.0])
    with caplog.at_level(logging.DEBUG):
        list(world.source())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    assert "rtsp://host/x?... is lost and tried again until it is back" in caplog.messages[0]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_delay_s": 0.0},
        {"first_delay_s": 40.0},
        {"factor": 0.5},
        {"stall_after_s": float("nan")},
        {"max_attempts": 0},
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ReconnectConfig(**wrong)  # type: ignore[arg-type]
