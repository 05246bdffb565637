"""What a batch of the engine is: its pictures, its size, where they lie, and how it can fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from pose_analyzer.inference.decode import CocoPeople, people_in_pictures
from pose_analyzer.inference.device_decode import DecodeConfig
from pose_analyzer.inference.engine_slot import Picture, Slot
from pose_analyzer.inference.network_precision import Precision
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import PoseDetections

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
"""Batches that a graph is recorded for; another number of frames takes the next larger one."""
_BYTES: Final = ("uint8", "torch.uint8")
_NO_MEMORY: Final = ("out of memory", "ALLOC_FAILED", "unable to find an engine")
"""How pinned memory, cuBLAS and cuDNN say it, which have no exception of their own for it: the last
finds no engine if none of them gets its workspace."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine works.

    Attributes
    ----------
    image_size : int
        Longer side of the network's input in pixels.
    precision : str
        As `Precision`, on a GPU; a CPU takes FP32 always.
    is_square : bool
        Whether the input is square always. Otherwise it is the rectangle with the least padding,
        if all frames of a batch have the same one, as Ultralytics does for frames of one size.
    is_compiled : bool
        Whether PyTorch's compiler fuses the layers on a GPU: minutes at the start for each batch
        size, once a machine.
    max_batch : int
        Most frames of one run of the network, one of `BATCH_SIZES`.
    recovery_batches : int
        Batches without trouble after which the largest batch, halved for lack of memory, doubles
        again: half a minute at 30 batches a second (chosen by us).
    decode : DecodeConfig
        What is kept of the output.
    """

    image_size: int = 640
    precision: Precision = "tf32"
    is_square: bool = False
    is_compiled: bool = False
    max_batch: int = BATCH_SIZES[-1]
    recovery_batches: int = 1000
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.max_batch not in BATCH_SIZES:
            raise ValueError(f"max_batch must be one of {BATCH_SIZES}, got {self.max_batch}")


class Ticket:
    """A batch that was submitted; `PoseEngine.collect` takes it once."""

    __slots__ = ("n_frames", "results", "slot")

    def __init__(
        self, n_frames: int, slot: Slot | None, results: list[PoseDetections] | None
    ) -> None:
        self.n_frames = n_frames
        self.slot = slot
        self.results = results


def require_pictures(pictures: Sequence[Picture], max_batch: int) -> None:
    """Raise ValueError unless these are pictures, and as many as an engine takes at once."""
    if not 1 <= len(pictures) <= max_batch:
        raise ValueError(f"a batch has 1 to {max_batch} pictures, got {len(pictures)}")
    for picture in pictures:
        place = 2 if isinstance(picture, np.ndarray) else 0
        channels = picture.shape[place] if picture.ndim == 3 else 0
        if channels != 3 or str(picture.dtype) not in _BYTES:
            raise ValueError(
                f"a picture must be a uint8 array of shape (H, W, 3) or tensor of shape "
                f"(3, H, W), got {picture.dtype} {tuple(picture.shape)}"
            )


def letterboxes(pictures: Sequence[Picture], config: EngineConfig, stride: int) -> list[Letterbox]:
    """Return where each picture lies in the network's input."""
    size = config.image_size
    shapes = [_height_and_width(picture) for picture in pictures]
    if not config.is_square:
        boxes = [Letterbox.fit_rectangle(shape, size, stride) for shape in shapes]
        if len({(box.height, box.width) for box in boxes}) == 1:
            return boxes
    return [Letterbox.fit(shape, size, size) for shape in shapes]


def batch_size(n_frames: int) -> int:
    """Return the smallest of `BATCH_SIZES` that has room for some frames."""
    return next(size for size in BATCH_SIZES if size >= n_frames)


def people_of_rows(
    rows: npt.NDArray[np.float32], boxes: Sequence[Letterbox]
) -> list[PoseDetections]:
    """Return the people of each picture in its own pixels.

    Parameters
    ----------
    rows : float32 array, shape (B, n_people, 56)
        As `decode_on_device` gives them; copied.
    boxes : sequence of Letterbox
        One for each picture.
    """
    is_somebody = rows[..., 4] > 0.0
    people = rows[is_somebody].astype(np.float64)
    points = people[:, 5:].reshape(-1, N_COCO, 3)
    found = CocoPeople(people[:, :4], people[:, 4], points[..., :2], points[..., 2])
    return people_in_pictures(found, boxes, is_somebody.sum(axis=1).tolist())


def _height_and_width(picture: Picture) -> tuple[int, ...]:
    is_array = isinstance(picture, np.ndarray)
    return tuple(picture.shape[:2] if is_array else picture.shape[1:])


def has_memory_for(run: Callable[[], object]) -> bool:
    """Do something; return False if memory ran out in it.

    When this returns the error is gone, whose traceback holds all that the network had made.
    """
    try:
        run()
    except RuntimeError as exc:
        if not is_out_of_memory(exc):
            raise
        return False
    return True


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that memory ran out."""
    import torch

    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        text = str(error)
        if any(sign in text for sign in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
