"""Decodes and runs a batch so that one poisoned frame does not spoil the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from pose_analyzer.inference.jpeg import ReadyFrame, ThreadedJpegDecoder
from pose_analyzer.inference.jpeg_batch import JpegBatchDecoder
from pose_analyzer.types import AnyFrame, Frame, PoseDetections

logger = logging.getLogger(__name__)

_RECOVERY_S: Final = 30.0
"""After running out of memory, larger batches are tried again after so long (chosen by us)."""
_OUT_OF_MEMORY: Final = "out of memory"


class BatchDetector(Protocol):
    """What finds people in frames; `max_batch` is read from it where it has one."""

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames."""
        ...


@runtime_checkable
class DecodingDetector(Protocol):
    """One that decodes JPEG for itself, as `TimedDetector` does."""

    def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
        """Return the frames in order, decoded; None where a JPEG is none."""
        ...

    def detect(self, frames: Sequence[ReadyFrame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames."""
        ...


class HostDecoding:
    """Decodes in threads for a detector that knows frames only."""

    def __init__(self, detector: BatchDetector) -> None:
        self._detector = detector
        self._jpeg = JpegBatchDecoder([ThreadedJpegDecoder()])

    def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
        """Return the frames in order, decoded; None where a JPEG is none."""
        return self._jpeg.decode(frames)

    def detect(self, frames: Sequence[ReadyFrame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames."""
        return self._detector.detect([frame for frame in frames if isinstance(frame, Frame)])

    def close(self) -> None:
        """Let the threads end."""
        self._jpeg.close()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of a batch.

    Attributes
    ----------
    detections : tuple of (PoseDetections or None)
        Of each frame; None where the detector failed on it, alone and twice.
    is_clean : bool
        Whether the whole batch went through at once, so that its time is worth learning.
    """

    detections: tuple[PoseDetections | None, ...]
    is_clean: bool


class BatchRunner:
    """Calls a detector, and on failure finds out which frames are to blame.

    A batch that fails is halved until the frames that fail stand alone; each of these is tried once
    more. A detector that runs out of memory gets batches of half the size for a while.

    Parameters
    ----------
    detector : BatchDetector
        Used by one thread at a time, but for its ``decode`` where it has one.
    most : int
        Largest batch, at least 1; less where the detector's own ``max_batch`` says so.
    clock : callable
        Tells the time in seconds.
    """

    def __init__(self, detector: BatchDetector, most: int, clock: Callable[[], float]) -> None:
        if most < 1:
            raise ValueError(f"the largest batch must be at least 1, got {most}")
        self._detector = detector
        self._host = HostDecoding(detector)
        self._decoding: DecodingDetector = (
            detector if isinstance(detector, DecodingDetector) else self._host
        )
        self._most = most
        self._clock = clock
        self._reduced: int | None = None
        self._reduced_s = 0.0

    @property
    def max_batch(self) -> int:
        """The largest batch now."""
        most = self._most
        own: object = getattr(self._detector, "max_batch", None)
        if isinstance(own, int):
            most = min(most, max(1, own))
        if self._reduced is not None and self._clock() - self._reduced_s > _RECOVERY_S:
            self._reduced = None
        return most if self._reduced is None else min(most, self._reduced)

    def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
        """Return the frames in order, decoded; None where a JPEG is none.

        One thread may decode while another one is in `run`.
        """
        try:
            return self._decoding.decode(frames)
        except Exception:
            logger.exception("the JPEG frames of a batch are dropped, because decoding failed")
            return [frame if isinstance(frame, Frame) else None for frame in frames]

    def close(self) -> None:
        """Free what decodes here; the detector belongs to whoever made it."""
        self._host.close()

    def run(self, frames: Sequence[ReadyFrame]) -> BatchResult:
        """Return the people of each frame, at least one frame."""
        try:
            return BatchResult(tuple(self._detect(frames)), is_clean=True)
        except Exception as exc:  # noqa: BLE001 - whatever a detector fails with, the others go on
            self._note(exc, len(frames))
        if len(frames) == 1:
            return BatchResult(self._once_more(frames), is_clean=False)
        middle = len(frames) // 2
        parts = self.run(frames[:middle]).detections + self.run(frames[middle:]).detections
        return BatchResult(parts, is_clean=False)

    def _once_more(self, frames: Sequence[ReadyFrame]) -> tuple[PoseDetections | None]:
        try:
            return (self._detect(frames)[0],)
        except Exception:
            logger.exception("the detector fails on a frame, which is dropped")
            return (None,)

    def _detect(self, frames: Sequence[ReadyFrame]) -> list[PoseDetections]:
        detections = self._decoding.detect(frames)
        if len(detections) != len(frames):
            raise RuntimeError(f"{len(frames)} frames gave {len(detections)} results")
        return detections

    def _note(self, error: Exception, n_frames: int) -> None:
        logger.warning("a batch of %d failed, it is tried in parts: %s", n_frames, error)
        if _OUT_OF_MEMORY in str(error).lower() and n_frames > 1:
            self._reduced = min(n_frames // 2, self._reduced or n_frames)
            self._reduced_s = self._clock()
