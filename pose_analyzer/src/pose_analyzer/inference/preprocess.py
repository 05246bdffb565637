"""From pictures to the input tensor of a YOLO network. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pose_analyzer.types import FloatArray, ImageArray

NetworkArray: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float16]
"""What goes into and comes out of a network."""

PADDING_GREY: Final = 114
"""Grey of the border; YOLO is trained with it (Ultralytics, `LetterBox`)."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture lies in a network's input: scaled alike in x and y, centred, padded.

    Attributes
    ----------
    source_width, source_height : int
        Pixels of the picture.
    width, height : int
        Pixels of the network's input.
    inner_width, inner_height : int
        Pixels of the scaled picture inside it.
    left, top : int
        Where the scaled picture starts.
    """

    source_width: int
    source_height: int
    width: int
    height: int
    inner_width: int
    inner_height: int
    left: int
    top: int

    @classmethod
    def fit(cls, source_shape: tuple[int, ...], height: int, width: int) -> Letterbox:
        """Return the largest centred fit of a picture into ``height`` x ``width``.

        Parameters
        ----------
        source_shape : tuple
            ``image.shape``: height, width, ...
        height, width : int
            Pixels of the network's input.

        Raises
        ------
        ValueError
            If the picture has no pixel.
        """
        source_height, source_width = source_shape[:2]
        if source_height < 1 or source_width < 1:
            raise ValueError(f"an image needs at least one pixel, got shape {source_shape}")
        scale = min(height / source_height, width / source_width)
        inner_width = min(max(round(source_width * scale), 1), width)
        inner_height = min(max(round(source_height * scale), 1), height)
        # An odd pixel goes right and below, as in training; half a pixel is half a pixel of error.
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        return cls(source_width, source_height, width, height, inner_width, inner_height, left, top)

    @classmethod
    def fit_rectangle(
        cls, source_shape: tuple[int, ...], image_size: int, stride: int
    ) -> Letterbox:
        """Return the fit with the least padding that a network of this stride takes.

        Parameters
        ----------
        source_shape : tuple
            ``image.shape``: height, width, ...
        image_size : int
            Pixels of the longer side of the input.
        stride : int
            Both sides of the input are multiples of it.
        """
        inner = cls.fit(source_shape, image_size, image_size)
        height = -(-inner.inner_height // stride) * stride
        width = -(-inner.inner_width // stride) * stride
        left, top = (width - inner.inner_width) // 2, (height - inner.inner_height) // 2
        return cls(
            inner.source_width,
            inner.source_height,
            width,
            height,
            inner.inner_width,
            inner.inner_height,
            left,
            top,
        )

    @property
    def start(self) -> tuple[int, int]:
        """Column and row where the scaled picture starts in the network's input."""
        return self.left, self.top

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the network's input to one of the picture, in x and y."""
        return self.inner_width / self.source_width, self.inner_height / self.source_height

    @property
    def source_size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.source_width, self.source_height

    def to_network(self, points: FloatArray) -> FloatArray:
        """Return points of the picture, shape (..., 2), in pixels of the network's input."""
        scaled: FloatArray = points * np.array(self.scale) + self.start
        return scaled

    def to_source(self, points: FloatArray) -> FloatArray:
        """Return points of the network's input, shape (..., 2), in pixels of the picture."""
        scaled: FloatArray = (points - self.start) / np.array(self.scale)
        return scaled


def network_input(
    images: Sequence[ImageArray], boxes: Sequence[Letterbox]
) -> npt.NDArray[np.float32]:
    """Return pictures as one tensor for a YOLO network.

    Parameters
    ----------
    images : sequence of uint8 arrays, shape (H, W, 3)
        BGR.
    boxes : sequence of Letterbox
        One for each picture, all with the same ``height`` and ``width``.

    Returns
    -------
    float32 array, shape (B, 3, height, width)
        RGB in [0, 1], C-contiguous.
    """
    height, width = boxes[0].height, boxes[0].width
    grey = np.float32(PADDING_GREY / 255.0)
    tensor = np.full((len(images), 3, height, width), grey, dtype=np.float32)
    for planes, image, box in zip(tensor, images, boxes, strict=True):
        bottom, right = box.top + box.inner_height, box.left + box.inner_width
        _scale_into(planes[:, box.top : bottom, box.left : right], image)
    return tensor


def _scale_into(planes: npt.NDArray[np.float32], image: ImageArray) -> None:
    """Write a BGR picture as RGB planes in [0, 1], resampled to their size."""
    import cv2

    _, height, width = planes.shape
    if image.shape[:2] != (height, width):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    # Five times as fast as cv2.dnn.blobFromImage over the whole padded input.
    for plane, channel in zip(planes, reversed(cv2.split(image)), strict=True):
        np.multiply(channel, np.float32(1.0 / 255.0), out=plane)
