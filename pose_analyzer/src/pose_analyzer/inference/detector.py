"""What a pose detector is, and the part that all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

from pose_analyzer.errors import DetectorError
from pose_analyzer.inference.engine_slot import Picture
from pose_analyzer.inference.jpeg import Decoded, JpegDecoder, ReadyFrame, ThreadedJpegDecoder
from pose_analyzer.inference.jpeg_batch import JpegBatchDecoder
from pose_analyzer.inference.latency import LatencyWindow
from pose_analyzer.lifetime import Closing
from pose_analyzer.types import AnyFrame, Frame, JpegFrame, PoseDetections


@dataclass(frozen=True, slots=True)
class DetectorStats:
    """What a detector has cost so far.

    Attributes
    ----------
    n_frames : int
        Frames analysed.
    latency_ms_median, latency_ms_p99 : float
        Of one call of `PoseDetector.detect`, however many frames it took, over the last 4096
        calls; NaN before the first.
    device_memory_bytes : int or None
        The most GPU memory reserved; None on a CPU, or where the library does not tell.
    """

    n_frames: int
    latency_ms_median: float
    latency_ms_p99: float
    device_memory_bytes: int | None


class PoseDetector(Protocol):
    """Anything that finds people in frames. A context manager: leaving it closes the detector."""

    @property
    def name(self) -> str:
        """What it is, for reports: ``"mediapipe-full"``, ``"yolo11n-pose.onnx"``."""
        ...

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames.

        Raises
        ------
        DetectorError
            If the detector fails or is closed.
        """
        ...

    def stats(self) -> DetectorStats:
        """Return what it has cost so far."""
        ...

    def close(self) -> None:
        """Free what it holds. Safe to call twice; `detect` fails afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PoseBackend(Protocol):
    """What runs the network."""

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame; at least one frame comes."""
        ...

    def device_memory_bytes(self) -> int | None:
        """Return the most GPU memory reserved; None where that is not known."""
        ...

    def reset(self) -> None:
        """Forget the stream."""
        ...

    def close(self) -> None:
        """Free everything; called once."""
        ...


DetectorStage = Literal["preprocess", "infer", "postprocess"]
StageListener: TypeAlias = Callable[[DetectorStage, float], None]
"""Takes a stage and how many seconds a batch spent in it; the `stage` of an observer is one."""


@runtime_checkable
class BatchedBackend(Protocol):
    """A backend that says how many frames it takes at once, and where the time goes."""

    on_stage: StageListener | None

    @property
    def max_batch(self) -> int:
        """Most frames of one run now; it may fall and rise again."""
        ...


@runtime_checkable
class PictureBackend(Protocol):
    """A backend that also takes pictures without a frame, on its device too."""

    def infer_pictures(self, pictures: Sequence[Picture]) -> list[PoseDetections]:
        """Return the people of each picture; at least one picture comes."""
        ...

    def jpeg_decoders(self) -> Sequence[JpegDecoder]:
        """Return what could make its pictures of JPEG files here, at least one."""
        ...


class TimedDetector(Closing):
    """The part that all detectors share: name, clock, JPEG, lifetime.

    Parameters
    ----------
    name : str
        For reports.
    backend : PoseBackend
        Runs the network; closed with this.
    is_on_cpu : bool, keyword-only
        Whether the network takes the time of the CPU's cores.
    """

    def __init__(self, name: str, backend: PoseBackend, *, is_on_cpu: bool = True) -> None:
        self._name = name
        self._backend = backend
        self.is_on_cpu = is_on_cpu
        self._latency = LatencyWindow()
        self._is_closed = False
        if isinstance(backend, PictureBackend):
            self._jpeg = JpegBatchDecoder(backend.jpeg_decoders(), self._use)
        else:
            self._jpeg = JpegBatchDecoder([ThreadedJpegDecoder()])

    @property
    def name(self) -> str:
        """What it is, for reports."""
        return self._name

    @property
    def max_batch(self) -> int | None:
        """Most frames that one run of the network takes now; None if that is not known."""
        return self._backend.max_batch if isinstance(self._backend, BatchedBackend) else None

    def watch_stages(self, listener: StageListener | None) -> None:
        """Tell a listener how long each batch spends where; only the batched engine knows."""
        if isinstance(self._backend, BatchedBackend):
            self._backend.on_stage = listener

    @property
    def jpeg_decoder(self) -> str | None:
        """What decodes JPEG here, for reports; None before the first decided it."""
        return self._jpeg.chosen

    def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
        """Return the frames in order, as `detect` can take them without decoding.

        One thread may decode while another one is in `detect`.

        Parameters
        ----------
        frames : sequence of Frame or JpegFrame
            The first JPEG decide which decoder is used, by measurement, which takes up to a second
            on a GPU: let the detector see some before it is in use.

        Returns
        -------
        list
            None where a JPEG is none.
        """
        return self._jpeg.decode(frames)

    def detect(self, frames: Sequence[AnyFrame | ReadyFrame]) -> list[PoseDetections]:
        """Return the people of each frame, in the order of the frames.

        Parameters
        ----------
        frames : sequence of Frame, JpegFrame or what `decode` gave
            Any number, none too. Not modified.

        Raises
        ------
        DetectorError
            If the detector is closed, its library fails, or a JPEG is none.
        """
        if self._is_closed:
            raise DetectorError(f"detector {self._name} is closed; make a new one")
        if not frames:
            return []
        started_s = time.perf_counter()
        ready = [frame for frame in frames if not isinstance(frame, JpegFrame)]
        if len(ready) < len(frames):
            ready = self._all_decoded(frames)
        try:
            detections = self._infer(ready)
        except RuntimeError as exc:
            raise DetectorError(f"detector {self._name} failed: {exc}") from exc
        self._latency.add(time.perf_counter() - started_s, len(frames))
        return detections

    def stats(self) -> DetectorStats:
        """Return what it has cost so far."""
        return DetectorStats(
            n_frames=self._latency.n_frames,
            latency_ms_median=self._latency.percentile_ms(50.0),
            latency_ms_p99=self._latency.percentile_ms(99.0),
            device_memory_bytes=None if self._is_closed else self._backend.device_memory_bytes(),
        )

    def reset(self) -> None:
        """Forget the stream: the next frame is treated as the first of a new one."""
        self._backend.reset()

    def close(self) -> None:
        """Free what it holds. Safe to call twice; `detect` fails afterwards."""
        if not self._is_closed:
            self._is_closed = True
            self._jpeg.close()
            self._backend.close()

    def _all_decoded(self, frames: Sequence[AnyFrame | ReadyFrame]) -> list[ReadyFrame]:
        """Return frames of all kinds decoded; raise if one cannot be."""
        decoded = iter(self._jpeg.decode([f for f in frames if isinstance(f, JpegFrame)]))
        ready: list[ReadyFrame] = []
        for place, frame in enumerate(frames):
            found = next(decoded) if isinstance(frame, JpegFrame) else frame
            if found is None:
                raise DetectorError(f"frame {place} of the batch is no JPEG; check what sends it")
            ready.append(found)
        return ready

    def _infer(self, frames: Sequence[ReadyFrame]) -> list[PoseDetections]:
        plain = [frame for frame in frames if isinstance(frame, Frame)]
        if len(plain) == len(frames):
            return self._backend.infer(plain)
        if not isinstance(self._backend, PictureBackend):
            raise DetectorError(f"detector {self._name} takes frames of its own decoding only")
        people = self._backend.infer_pictures(
            [frame.image if isinstance(frame, Frame) else frame.picture for frame in frames]
        )
        return [
            found if isinstance(frame, Frame) else frame.full_size(found)
            for frame, found in zip(frames, people, strict=True)
        ]

    def _use(self, decoded: Decoded) -> None:
        self._infer([each for each in decoded if each is not None])
