"""Letterboxing a batch on the device, from no more bytes than it needs.

A picture that shrinks to half or less is sampled in one or two of its lines for each line of the
result: the host packs only those, and the device does the rest for the whole batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pose_analyzer.inference.preprocess import PADDING_GREY, Letterbox
from pose_analyzer.types import ImageArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

N_LAYOUT: Final = 8
"""Whole numbers that describe one packed picture to the device."""
_ALIGNMENT: Final = 256


@dataclass(frozen=True, slots=True)
class Packing:
    """What of a picture is sent, for one letterbox.

    Attributes
    ----------
    lines_each : int
        Lines sent for each line of the result, 1 or 2; 0 if the picture is sent whole.
    lines : int array, or None
        Lines of the picture that are sent, in order; None for all.
    n_bytes : int
        Of the lines.
    """

    lines_each: int
    lines: IntArray | None
    n_bytes: int


@functools.lru_cache(maxsize=256)
def packing_for(box: Letterbox) -> Packing:
    """Return what to send of a picture of three channels for a letterbox.

    The lines are those that linear interpolation between pixel centres takes, which is that of
    OpenCV's INTER_LINEAR: result line y lies at (y + 1/2) source / result - 1/2.
    """
    line_bytes = 3 * box.source_width
    if box.source_height < 2 * box.inner_height:
        return Packing(0, None, line_bytes * box.source_height)
    upper, numerator = np.divmod(
        (2 * np.arange(box.inner_height) + 1) * box.source_height - box.inner_height,
        2 * box.inner_height,
    )
    if not numerator.any():
        return Packing(1, upper, line_bytes * len(upper))
    lines = np.stack([upper, upper + 1], axis=1).ravel()
    return Packing(2, lines, line_bytes * len(lines))


def aligned(n_bytes: int) -> int:
    """Return the next multiple of 256, where the next picture starts."""
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


def pack(
    image: ImageArray, packing: Packing, target: ImageArray, lines: slice = slice(None)
) -> None:
    """Copy the lines that are needed, or some of these, into a flat array.

    It lets other threads run meanwhile.

    Parameters
    ----------
    image : uint8 array, shape (H, W, 3)
    packing : Packing
    target : uint8 array, shape (packing.n_bytes,)
    lines : slice
        Which of the lines that are sent.
    """
    n_lines = len(image) if packing.lines is None else len(packing.lines)
    rows = target.reshape(n_lines, *image.shape[1:])[lines]
    if packing.lines is None:
        np.copyto(rows, image[lines])
    else:
        # Any other mode than "raise" writes straight into the target.
        np.take(image, packing.lines[lines], axis=0, out=rows, mode="clip")


def unpacked(box: Letterbox) -> Packing:
    """Return the packing of a picture that is on the device already: whole."""
    return Packing(0, None, 3 * box.source_width * box.source_height)


def layout(box: Letterbox, packing: Packing, offset: int) -> tuple[int, ...]:
    """Return what the device must know of a picture packed at an offset: `N_LAYOUT` numbers."""
    return (
        offset,
        box.source_width,
        box.source_height,
        box.inner_width,
        box.inner_height,
        box.left,
        box.top,
        packing.lines_each,
    )


def letterbox_batch(
    packed: Tensor, layouts: Sequence[Sequence[int]], on_device: Tensor, out: Tensor
) -> None:
    """Write packed pictures as the input of a network.

    Parameters
    ----------
    packed : uint8 tensor, shape (bytes,)
        BGR lines as packed, on the device of ``out``.
    layouts : sequence of B sequences
        As from `layout`.
    on_device : int32 tensor, shape (>= B, 8)
        The same numbers, on the device.
    out : tensor, shape (>= B, 3, H, W)
        RGB in [0, 1] of any floating type; its first B pictures are overwritten.
    """
    if out.is_cuda and has_triton():
        from pose_analyzer.inference.letterbox_kernel import launch

        launch(packed, on_device, out[: len(layouts)])
        return
    for row, numbers in enumerate(layouts):
        _letterbox_one(packed, numbers, out[row])


@functools.cache
def has_triton() -> bool:
    """Return whether Triton, which compiles the fused kernel, is installed."""
    import importlib.util

    return importlib.util.find_spec("triton") is not None


def _letterbox_one(packed: Tensor, numbers: Sequence[int], out: Tensor) -> None:
    """Write one picture, (3, H, W), with PyTorch's own operations."""
    offset, source_width, source_height, width, height, left, top, lines_each = numbers
    n_lines = lines_each * height if lines_each else source_height
    n_values = n_lines * source_width * 3
    picture = packed[offset : offset + n_values].view(n_lines, source_width, 3)
    upper, lower, down = _neighbours(height, source_height, packed)
    if lines_each:
        upper = lines_each * _range(height, packed)
        lower = upper + lines_each - 1
    before, after, across = _neighbours(width, source_width, packed)
    above = _between(picture[upper], before, after, across)
    below = _between(picture[lower], before, after, across)
    # OpenCV returns whole numbers; the network is trained on those.
    pixels = (above + (below - above) * down[:, None, None]).add_(0.5).floor_().div_(255.0)
    out.fill_(PADDING_GREY / 255.0)
    out[:, top : top + height, left : left + width] = pixels.flip(2).permute(2, 0, 1)


def _range(n: int, like: Tensor) -> Tensor:
    import torch

    return torch.arange(n, device=like.device)


def _neighbours(n: int, n_source: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels left and right of each sample and how far it lies between, in [0, 1).

    Whole numbers as long as possible: a sample that lies on a pixel must not fall beside it.
    """
    numerator = ((2 * _range(n, like) + 1) * n_source - n).clamp_min_(0)
    before = numerator.div(2 * n, rounding_mode="floor")
    between = (numerator - before * (2 * n)).float() / (2 * n)
    return before, (before + 1).clamp_max_(n_source - 1), between


def _between(lines: Tensor, before: Tensor, after: Tensor, across: Tensor) -> Tensor:
    """Interpolate lines, (H, W, 3), between their pixels."""
    left, right = lines[:, before].float(), lines[:, after].float()
    return left + (right - left) * across[None, :, None]
