"""A camera that stands in for OpenCV's and tells when each frame was captured."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from pose_analyzer.types import ImageArray


class PacedCapture:
    """A camera for Ultralytics' loader: 1080p at 30 frames a second, newest frame, times kept.

    It stands in for `cv2.VideoCapture`. Each picture carries its number in its first pixels.
    """

    images: Sequence[ImageArray] = ()
    _lock: Final = threading.Lock()
    _made = 0
    times: dict[int, float] = {}  # noqa: RUF012 - shared by all cameras on purpose

    def __init__(self, *_: object) -> None:
        self._start_s = time.monotonic() + np.random.default_rng(PacedCapture._made).uniform(
            0, 1 / 30
        )
        self._index = 0
        self._camera = PacedCapture._made
        PacedCapture._made += 1

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Return True."""
        return True

    def get(self, key: int) -> float:
        """Return a property as OpenCV does."""
        return {
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FRAME_WIDTH: 1920.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 1080.0,
        }.get(key, 0.0)

    def grab(self) -> bool:
        """Wait for the next frame."""
        self._index += 1
        due_s = self._start_s + self._index / 30.0
        time.sleep(max(due_s - time.monotonic(), 0.0))
        return True

    def retrieve(self) -> tuple[bool, ImageArray]:
        """Return the frame that was grabbed."""
        image = self.images[(7 * self._camera + self._index) % len(self.images)].copy()
        number = self._camera * 1_000_000 + self._index
        image[0, :4] = np.array(list(number.to_bytes(4, "little")), dtype=np.uint8)[:, None]
        with self._lock:
            self.times[number] = self._start_s + self._index / 30.0
        return True, image

    def read(self) -> tuple[bool, ImageArray]:
        """Grab and retrieve."""
        self.grab()
        return self.retrieve()

    def release(self) -> None:
        """Do nothing."""
