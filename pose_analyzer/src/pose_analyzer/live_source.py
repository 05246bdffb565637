"""Pictures as they come: a camera, a network stream, or a file at its own pace.

These give every frame once, when it is there. Which frames are analysed is decided behind them.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol, runtime_checkable

import numpy as np

from pose_analyzer.errors import DependencyMissingError, VideoError
from pose_analyzer.network_capture import NetworkCapture, without_credentials
from pose_analyzer.types import Frame
from pose_analyzer.video_source import VideoSource

LEAST_STEP_S: Final = 1e-4
"""Two frames of a live source are at least so far apart in time (chosen by us)."""
_FALLBACK_FPS: Final = 30.0
"""For a camera that does not tell its rate: the commonest one."""
_ADDRESS: Final = re.compile(r"(rtsps?|https?)://\S+", re.IGNORECASE)


@runtime_checkable
class TimedSource(Protocol):
    """Something that decodes and says how long that takes."""

    @property
    def decode_s(self) -> float:
        """Seconds that decoding the last frame took; NaN if that is not known."""
        ...


def decode_seconds(source: object) -> float:
    """Return how long a source decoded its last frame; NaN where it does not tell."""
    return source.decode_s if isinstance(source, TimedSource) else math.nan


class PacedFile:
    """A recording that delivers its frames at the times at which they were taken.

    A reader that is late gets the next frames at once, as a camera would not wait for it either.

    Parameters
    ----------
    source : VideoSource
        The recording; iterated anew for each loop.
    loops : bool, keyword-only
        Begin again at the end; times and numbers go on.
    clock : callable, keyword-only
        Seconds, never going back.
    sleep : callable, keyword-only, optional
        Waits so many seconds; without it a wait that `close` ends.
    """

    n_frames_estimate: int | None
    decode_s: float = math.nan
    """Seconds that reading and decoding the last frame took."""

    def __init__(
        self,
        source: VideoSource,
        *,
        loops: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._source = source
        self._loops = loops
        self._clock = clock
        self._stopped = threading.Event()
        self._sleep = self._stopped.wait if sleep is None else sleep
        self.name = source.name
        self.width = source.width
        self.height = source.height
        self.fps = source.fps
        self.n_frames_estimate = None if loops else source.n_frames_estimate

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the recording."""
        return self._source.warnings

    def close(self) -> None:
        """End the iteration, also one that waits. Safe to call twice, from any thread."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Frame]:
        """Return the frames, each when its time has come."""
        start_s = self._clock()
        index, offset_s = 0, 0.0
        while not self._stopped.is_set():
            end_s = offset_s
            for frame in self._timed():
                time_s = offset_s + frame.time_s
                wait_s = start_s + time_s - self._clock()
                if wait_s > 0.0:
                    self._sleep(wait_s)
                if self._stopped.is_set():
                    return
                yield Frame(frame.image, time_s, index)
                index += 1
                end_s = time_s + 1.0 / self.fps
            if not self._loops or end_s == offset_s:
                return
            offset_s = end_s

    def _timed(self) -> Iterator[Frame]:
        frames = iter(self._source)
        while True:
            started_s = self._clock()
            frame = next(frames, None)
            if frame is None:
                return
            self.decode_s = self._clock() - started_s
            yield frame


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...  # noqa: N802, D102

    def read(self) -> tuple[bool, object]: ...  # noqa: D102

    def get(self, propId: int, /) -> float: ...  # noqa: N803, D102

    def release(self) -> None: ...  # noqa: D102


class _CaptureSource:
    """Frames of an OpenCV capture, timed when they arrive; one iteration."""

    n_frames_estimate: int | None = None
    warnings: tuple[str, ...] = ()

    def __init__(self, name: str, capture: Capture, clock: Callable[[], float], help_: str) -> None:
        self.name = name
        self._capture = capture
        self._clock = clock
        self._help = help_
        self._stopped = threading.Event()
        if not capture.isOpened():
            raise VideoError(f"{name} cannot be opened; {help_}")
        # 3, 4 and 5 are width, height and rate in every version of OpenCV.
        self.width, self.height = int(capture.get(3)), int(capture.get(4))
        fps = capture.get(5)
        self.fps = fps if np.isfinite(fps) and fps > 0.0 else _FALLBACK_FPS

    @property
    def decode_s(self) -> float:
        """Seconds that decoding the last frame took; NaN where the driver decodes."""
        return decode_seconds(self._capture)

    def close(self) -> None:
        """End the iteration after the picture that is being read. Any thread may call it."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Frame]:
        """Return the frames until `close`; `VideoError` when no more come."""
        first_s, last_s, index = 0.0, -LEAST_STEP_S, 0
        try:
            while not self._stopped.is_set():
                is_read, image = self._capture.read()
                if self._stopped.is_set():
                    return
                if not is_read or image is None:
                    raise VideoError(f"{self.name} gives no more pictures; {self._help}")
                now_s = self._clock()
                if index == 0:
                    first_s = now_s
                last_s = max(now_s - first_s, last_s + LEAST_STEP_S)
                yield Frame(np.asarray(image, dtype=np.uint8), last_s, index)
                index += 1
        finally:
            self._capture.release()


class CameraSource(_CaptureSource):
    """A camera of this machine.

    Parameters
    ----------
    camera : int
        Its number, from 0.
    open_capture : callable
        Opens it.
    clock : callable
        Seconds, never going back.

    Raises
    ------
    VideoError
        If it cannot be opened.
    """

    def __init__(
        self,
        camera: int,
        *,
        open_capture: Callable[[int], Capture] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if camera < 0:
            raise ValueError(f"camera must be at least 0, got {camera}")
        capture = (open_capture or _open_camera)(camera)
        super().__init__(
            f"camera {camera}",
            capture,
            clock,
            "check that it is plugged in, that you may use it, and that no other program does",
        )


class RtspSource(_CaptureSource):
    """A network camera by its address.

    Parameters
    ----------
    address : str
        ``rtsp://``, ``rtsps://``, ``http://`` or ``https://``. A user name and password in it are
        used, and shown nowhere.
    open_capture : callable
        Opens it.
    clock : callable
        Seconds, never going back.

    Raises
    ------
    VideoError
        If it does not answer within 5 s, or gives no picture. A read that takes longer fails too.
    NoVideoError
        If it sends only sound.
    DependencyMissingError
        If PyAV is not installed.

    Notes
    -----
    Only protocols of network video are spoken, whatever a playlist behind the address names.
    """

    def __init__(
        self,
        address: str,
        *,
        open_capture: Callable[[str], Capture] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if _ADDRESS.fullmatch(address) is None:
            raise ValueError(
                "address must begin with rtsp://, rtsps://, http:// or https://, "
                f"got {without_credentials(address)!r}"
            )
        capture = (open_capture or NetworkCapture)(address)
        super().__init__(
            without_credentials(address),
            capture,
            clock,
            "check the address, the password and that the camera is on",
        )


def _open_camera(camera: int) -> Capture:
    try:
        import cv2
    except ImportError as exc:
        raise DependencyMissingError(
            "reading a camera needs OpenCV: pip install 'pose-analyzer[video]'"
        ) from exc
    capture = cv2.VideoCapture(camera)
    # Old pictures in a queue of the driver would only be late.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
