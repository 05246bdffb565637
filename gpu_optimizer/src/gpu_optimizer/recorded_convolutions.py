"""What convolutions take, by the most similar one of many that were recorded on a GPU.

``recorded/convolutions.csv.gz`` was written by ``scripts/gpu_record_convolutions.py`` on an H200
with PyTorch 2.11 and cuDNN 9: 21 840 convolutions of 16 to 512 channels. What they take is told in
terms of their operands (`_taken_as`), so that it holds for one that is somewhat larger or smaller.
How far it may be from a recorded one, and what makes two similar, was chosen by us on recorded ones
that were left out in turn (docs/decisions/0014).
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from gpu_optimizer.convolution_layer import ROOM_BYTES, ConvolutionLayer

_FILE: Final = "recorded/convolutions.csv.gz"
_KINDS: Final = {
    (3, 1, False): "3x3",
    (3, 2, False): "3x3/2",
    (1, 2, False): "1x1/2",
    (2, 2, True): "2x2t",
}
"""By the side of the kernel, its stride and whether it is transposed."""
_SIDES: Final = {name: key for key, name in _KINDS.items()}
_DTYPES: Final = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "float16"}
_ACCUMULATOR_BYTES: Final = 4
_ALIGNMENT_BYTES: Final = 16
_FEW_CHANNELS: Final = 4
"""Channels that are no multiple of this are multiplied by other kernels."""
_NOTHING_BYTES: Final = 1024
_ROUNDED_BYTES: Final = 2048
_UNSPLIT_BYTES: Final = 2**20
"""What the allocator leaves with a block that it does not split is in the recorded bytes."""
_WHOLE: Final = 0.02
_MAX_CHANNELS_OFF: Final = 0.7
_MAX_PIXELS_OFF: Final = 1.5
"""Of the nearest recorded one, in powers of two."""
_SHAPE_WEIGHT: Final = 0.05
_CHANNELS_WEIGHT: Final = 4.0

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
_Group: TypeAlias = tuple[str, str, bool, bool]


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes that the forward pass and the gradients of input and weight take and give back."""

    forward: int
    input_gradient: int
    weight_gradient: int


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of the operands of convolutions, as numbers or arrays.

    Attributes
    ----------
    copies
        As `ConvolutionLayer.copies`.
    part
        Of the weight in float32.
    """

    image: Integers
    out: Integers
    copies: Integers
    part: Integers


@dataclass(frozen=True, slots=True)
class _Table:
    """Recorded convolutions of one type, kind and alignment.

    Attributes
    ----------
    features : array, shape (N, 4)
        Powers of two: batch, pixels of a picture, channels before and after.
    taken : array, shape (N, 3)
        Bytes: forward, gradient of the input, gradient of the weight.
    """

    features: Floats
    taken: Integers
    sizes: _Sizes


def find_recorded(layer: ConvolutionLayer) -> Taken | None:
    """Return what a convolution takes by the most similar recorded one.

    Parameters
    ----------
    layer : ConvolutionLayer
        With contiguous operands.

    Returns
    -------
    Taken or None
        None if none is similar: grouped ones, other kernels, few channels.
    """
    found = _described(layer)
    table = None if found is None else _tables().get(found[0])
    if found is None or table is None:
        return None
    gaps = table.features - found[1]
    pixels_off = np.abs(gaps[:, 0] + gaps[:, 1])
    distance = (
        pixels_off**2
        + _SHAPE_WEIGHT * np.square(gaps[:, :2]).sum(axis=1)
        + _CHANNELS_WEIGHT * np.square(gaps[:, 2:]).sum(axis=1)
    )
    row = int(distance.argmin())
    channels_off = float(np.abs(gaps[row, 2:]).sum())
    if channels_off > _MAX_CHANNELS_OFF or pixels_off[row] > _MAX_PIXELS_OFF:
        return None
    n_image, n_weight = layer.image.numel(), layer.weight.numel()
    own = _sizes(*(np.array([n]) for n in (n_image, layer.n_out, n_weight)),
                 n_item=layer.image.element_size(), is_point=layer.is_point)  # fmt: skip
    sizes = table.sizes
    near = _Sizes(*(array[[row]] for array in (sizes.image, sizes.out, sizes.copies, sizes.part)))
    forward, input_gradient, weight_gradient = (
        _taken_as(int(n_bytes), near, own, result)
        for n_bytes, result in zip(table.taken[row], ("out", "image", "weight"), strict=True)
    )
    return Taken(forward, input_gradient, weight_gradient)


def _described(layer: ConvolutionLayer) -> tuple[_Group, Floats] | None:
    """Return the group and the features of a convolution, or None for those never recorded."""
    dtype = _DTYPES.get(layer.image.dtype)
    side, stride = max(layer.weight.shape[2:], default=0), max(layer.stride, default=0)
    kind = _KINDS.get((side, stride, layer.is_transposed))
    channels = layer.channels
    if (
        dtype is None
        or kind is None
        or layer.image.dim() != 4
        or layer.groups != 1
        or layer.is_last
        or layer.n_out == 0
        or min(layer.weight.shape[2:]) != side
        or any(n % _FEW_CHANNELS for n in channels)
    ):
        return None
    batch, n_pixels = layer.image.shape[0], math.prod(layer.image.shape[2:])
    n_after = layer.n_out // (batch * channels[1])
    n_item = layer.image.element_size()
    is_even = [n * n_item % _ALIGNMENT_BYTES == 0 for n in (n_pixels, n_after)]
    features = np.log2([batch, n_pixels, *channels])
    return (dtype, kind, is_even[0], is_even[1]), features


def _taken_as(n_bytes: int, near: _Sizes, own: _Sizes, result: str) -> int:
    """Return what `own` takes where a similar one took `n_bytes`, in the same terms.

    These are: nothing; copies of all operands; copies of all but the result; for the gradient of
    a weight parts besides the copies, or parts alone; or copies and the same bytes more.
    """
    copies, own_copies = int(near.copies[0]), int(own.copies[0])
    if n_bytes <= _NOTHING_BYTES:
        return 0
    more = n_bytes - copies
    if abs(more) <= _ROUNDED_BYTES or (result != "weight" and 0 < more <= _UNSPLIT_BYTES):
        return own_copies
    if result == "weight":
        n_parts = n_bytes / int(near.part[0])
        if more > 0:
            return own_copies + round(more / int(near.part[0]) * int(own.part[0]))
        if abs(n_parts - round(n_parts)) < _WHOLE:
            return round(n_parts) * int(own.part[0])
    else:
        pair = (near.out, own.out) if result == "out" else (near.image, own.image)
        if -_ROUNDED_BYTES <= more + int(pair[0][0]) <= _UNSPLIT_BYTES:
            return own_copies - int(pair[1][0])
    return max(0, own_copies + more)


def _sizes(
    n_image: Integers, n_out: Integers, n_weight: Integers, *, n_item: int, is_point: bool
) -> _Sizes:
    copied = (n_image + n_out + (0 if is_point else n_weight)) * n_item + ROOM_BYTES
    return _Sizes(n_image * n_item, n_out * n_item, copied, n_weight * _ACCUMULATOR_BYTES)


@functools.cache
def _tables() -> dict[_Group, _Table]:
    """Read the recorded convolutions once."""
    packed = (importlib.resources.files("gpu_optimizer") / _FILE).read_bytes()
    lines = gzip.decompress(packed).decode("ascii").splitlines()[1:]
    by_kind: dict[tuple[str, str], list[list[int]]] = {}
    for line in lines:
        dtype, kind, *numbers = line.split(",")
        by_kind.setdefault((dtype, kind), []).append([int(number) for number in numbers])
    tables: dict[_Group, _Table] = {}
    for (dtype, kind), listed in by_kind.items():
        rows = np.array(listed, dtype=np.int64)
        n_item = 4 if dtype == "float32" else 2
        n_after = _pixels_after(rows[:, 3], kind)
        n_before = rows[:, 3] ** 2
        even = [n * n_item % _ALIGNMENT_BYTES == 0 for n in (n_before, n_after)]
        for first in (False, True):
            for second in (False, True):
                chosen = (even[0] == first) & (even[1] == second)
                if chosen.any():
                    group = (dtype, kind, first, second)
                    tables[group] = _table(rows[chosen], n_after[chosen], kind, n_item)
    return tables


def _pixels_after(side: Integers, kind: str) -> Integers:
    """Return the pixels of a picture that comes out."""
    _, stride, is_transposed = _SIDES[kind]
    after: Integers = side * stride if is_transposed else -(-side // stride)
    return after**2


def _table(rows: Integers, n_after: Integers, kind: str, n_item: int) -> _Table:
    batch, before, after, side = rows[:, :4].T
    n_side = _SIDES[kind][0]
    sizes = _sizes(
        batch * before * side**2,
        batch * after * n_after,
        before * after * n_side**2,
        n_item=n_item,
        is_point=n_side == 1,
    )
    features = np.log2(np.stack([batch, side**2, before, after], axis=1))
    return _Table(features, rows[:, 4:], sizes)
