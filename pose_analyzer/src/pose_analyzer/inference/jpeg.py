"""Decoding JPEG pictures for the engine: by threads or on the GPU, whichever is faster here."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import numpy as np

from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.jpeg_head import jpeg_size
from pose_analyzer.types import Frame, ImageArray, PoseDetections

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_TRIALS: Final = 3


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
ReadyFrame: TypeAlias = Frame | DecodedJpeg
"""What a detector can look at without decoding."""


class JpegDecoder(Protocol):
    """Anything that decodes a batch of JPEG pictures."""

    @property
    def name(self) -> str:
        """What it is, for reports."""
        ...

    def decode(self, files: Sequence[bytes]) -> Decoded:
        """Return the pictures in order, finished."""
        ...

    def close(self) -> None:
        """Free what it holds. Safe to call twice."""
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

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

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
    host : JpegDecoder
        Decodes a batch that nvJPEG fails on.
    device : str
        ``"cuda"`` or ``"cuda:N"``.
    """

    name: Final = "nvJPEG"

    def __init__(self, host: JpegDecoder, device: str = "cuda") -> None:
        self._host = host
        self._device = device

    def decode(self, files: Sequence[bytes]) -> Decoded:
        """Return the pictures in order."""
        # What cannot be one is kept from nvJPEG: a single one fails the whole batch.
        are_whole = [jpeg_size(data) is not None for data in files]
        whole = list(itertools.compress(files, are_whole))
        pictures = iter(self._decode_whole(whole) if whole else ())
        return [next(pictures) if is_whole else None for is_whole in are_whole]

    def close(self) -> None:
        """Do nothing: the host's decoder belongs to whoever made it."""

    def _decode_whole(self, files: Sequence[bytes]) -> Decoded:
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg

        tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        try:
            pictures = decode_jpeg(tensors, mode=ImageReadMode.RGB, device=self._device)
            torch.cuda.current_stream(self._device).synchronize()
        except RuntimeError as exc:
            logger.debug("nvJPEG fails on a batch of %d, the host decodes it: %s", len(files), exc)
            return self._host.decode(files)
        return [DecodedJpeg(picture, 1) for picture in pictures]


def jpeg_decoders(image_size: int, device: str) -> list[JpegDecoder]:
    """Return the decoders to compare for a network's pictures: threads, and nvJPEG on a GPU.

    Parameters
    ----------
    image_size : int
        Longer side of the network's input.
    device : str
        Where the pictures should be: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    """
    threads = ThreadedJpegDecoder(image_size)
    if not device.startswith("cuda") or importlib.util.find_spec("torchvision") is None:
        return [threads]
    return [threads, GpuJpegDecoder(threads, device)]


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
