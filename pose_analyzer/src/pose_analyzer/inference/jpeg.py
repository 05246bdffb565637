"""Decoding JPEG pictures for the engine: by threads or on the GPU, whichever is faster here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import numpy as np

from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.types import ImageArray, PoseDetections

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_TRIALS: Final = 3
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL: Final = 0xFF
_NO_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD9)))


@dataclass(frozen=True, slots=True)
class DecodedJpeg:
    """A picture as the engine takes it.

    Attributes
    ----------
    picture : uint8 array, shape (H, W, 3), or uint8 tensor, shape (3, H, W)
        BGR on the host, or RGB on the GPU.
    scale : int
        Pixels of the JPEG to one of the picture, in x and y: 1 or 2.
    """

    picture: ImageArray | Tensor
    scale: int

    def full_size(self, people: PoseDetections) -> PoseDetections:
        """Return people found in the picture in pixels of the JPEG."""
        if self.scale == 1:
            return people
        return replace(
            people, keypoints=people.keypoints * self.scale, boxes=people.boxes * self.scale
        )


Decoded: TypeAlias = list[DecodedJpeg | None]
"""One for each JPEG; None for what is none."""


class JpegDecoder(Protocol):
    """Anything that decodes a batch of JPEG pictures."""

    @property
    def name(self) -> str:
        """What it is, for reports."""
        ...

    def decode(self, files: Sequence[bytes]) -> Decoded:
        """Return the pictures in order."""
        ...


class ThreadedJpegDecoder:
    """OpenCV in threads, one picture each.

    Parameters
    ----------
    image_size : int, optional
        Longer side of the network's input. A picture at least twice as long is decoded at half its
        size, which libjpeg does before the inverse transform and so in less time. Without it,
        every picture is decoded whole.
    threads : int, optional
        All cores that this process may use unless given.
    """

    def __init__(self, image_size: int | None = None, threads: int | None = None) -> None:
        self._image_size = image_size
        self._pool = ThreadPoolExecutor(available_cores() if threads is None else threads)

    @property
    def name(self) -> str:
        """What it is, for reports."""
        return "threads" if self._image_size is None else "threads, half size"

    def decode(self, files: Sequence[bytes]) -> Decoded:
        """Return the pictures in order."""
        return list(self._pool.map(self._decode_one, files))

    def _decode_one(self, data: bytes) -> DecodedJpeg | None:
        import cv2

        size = jpeg_size(data)
        if size is None:
            return None
        is_half = self._image_size is not None and max(size) >= 2 * self._image_size
        # The orientation that a camera notes is left alone, as nvJPEG leaves it.
        flags = cv2.IMREAD_REDUCED_COLOR_2 if is_half else cv2.IMREAD_COLOR
        image = cv2.imdecode(
            np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION
        )
        if image is None:
            return None  # type: ignore[unreachable]  # its stub does not know that it can be
        return DecodedJpeg(np.asarray(image, dtype=np.uint8), 2 if is_half else 1)


class GpuJpegDecoder:
    """nvJPEG through torchvision; the pictures stay on the GPU.

    Parameters
    ----------
    device : str
        ``"cuda"`` or ``"cuda:N"``.
    """

    name: Final = "nvJPEG"

    def __init__(self, device: str = "cuda") -> None:
        self._device = device
        self._threads = ThreadedJpegDecoder(threads=1)

    def decode(self, files: Sequence[bytes]) -> Decoded:
        """Return the pictures in order."""
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg

        tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        try:
            pictures = decode_jpeg(tensors, mode=ImageReadMode.RGB, device=self._device)
        except RuntimeError:
            # One that is no JPEG fails the whole batch; the host tells which.
            return self._threads.decode(files)
        return [DecodedJpeg(picture, 1) for picture in pictures]


def choose_jpeg_decoder(
    decoders: Sequence[JpegDecoder],
    sample: Sequence[bytes],
    then: Callable[[Decoded], object],
    clock: Callable[[], float] = time.perf_counter,
) -> JpegDecoder:
    """Return the decoder that is fastest here; its choice is logged.

    Parameters
    ----------
    decoders : sequence of JpegDecoder
        At least one.
    sample : sequence of bytes
        A batch as it will come.
    then : callable
        What is done with the pictures, so that the way to the GPU counts too.
    clock : callable
        Seconds.
    """
    best_s: dict[str, float] = {}
    for decoder in decoders:
        then(decoder.decode(sample))
        durations = []
        for _ in range(_TRIALS):
            start_s = clock()
            then(decoder.decode(sample))
            durations.append(clock() - start_s)
        best_s[decoder.name] = min(durations)
    chosen = min(decoders, key=lambda decoder: best_s[decoder.name])
    logger.info("JPEG is decoded by %s; seconds a batch: %s", chosen.name, best_s)
    return chosen


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width from the head of a JPEG file; None if it is none.

    References
    ----------
    .. [1] ITU-T T.81 (1992), annex B: markers and the frame header.
    """
    if data[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(data):
        if data[place] != _FILL:
            return None
        marker = data[place + 1]
        if marker == _FILL:
            place += 1
        elif marker in _NO_LENGTH:
            place += 2
        elif marker in _START_OF_FRAME:
            height, width = (
                int.from_bytes(data[place + start : place + start + 2], "big") for start in (5, 7)
            )
            return (height, width) if height and width else None
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
