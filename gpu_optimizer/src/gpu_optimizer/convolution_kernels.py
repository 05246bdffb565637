"""What cuDNN's convolutions take besides their outputs, from recorded steps.

cuDNN chooses kernels by rules that are not published. Most of them want channels last: a contiguous
operand is copied within the workspace (NVIDIA, "Convolutional Layers User's Guide", section "Tensor
layouts"). `recorded_convolutions` tells what the most similar of many recorded ones takes. Where
none is similar these rules hold, which steps of other models than forecasts are judged on showed
(scripts/gpu_record_steps.py; scripts/predictor_learning.py compares each with its forecast):

- nothing for depthwise convolutions, for channels last, and for kernels of one pixel without
  stride, which are matrix products, unless the picture's size is no multiple of 16 B;
- nothing forward for first layers (of up to four channels) with kernels of up to three pixels or
  with kernels that do not overlap, unless they make many patches of float32; others have their
  channels padded; and nothing for the gradient of their weight if the pictures that come out are no
  multiple of 16 B;
- the gradient of the weight of a matrix product is made for each picture and then added up; others
  are made in parts when there are few weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from gpu_optimizer.convolution_layer import (
    FIRST_LAYER_CHANNELS,
    ConvolutionLayer,
    at_axis,
    is_channels_last,
)
from gpu_optimizer.recorded_convolutions import find_recorded

_SMALL_KERNEL: Final = 3
# Channels to which a first layer is padded; NVIDIA's guide, section "Channels in and out".
_PADDED_CHANNELS: Final = {torch.float16: 4, torch.bfloat16: 8}
# Fewer channels on either side are multiplied without a copy in float32: recorded are 320 without
# and 1024 with one; where between them it changes is chosen by us, see docs/decisions/0014.
_WIDE_CHANNELS: Final = 512
# In how many parts the gradient of a weight is made, by its channels in times out, as recorded.
_PARTS_FLOAT: Final = ((1024, 42), (2048, 28), (16384, 14), (65536, 3))
_PARTS_HALF: Final = ((8192, 13), (65536, 3))
# In half precision fewer pixels are added up at once, as recorded.
_MIN_PIXELS_HALF: Final = 8192
_PARTS_ROOM_BYTES: Final = 607
_STRIDED_POINT_PARTS: Final = 4
# Matrix products whose input's gradient is made of copies in half precision: recorded are 100 352
# pixels with and 25 088 without, 128 channels with and 64 without; between them chosen by us.
_MANY_PIXELS_HALF: Final = 50_000
_MANY_CHANNELS_HALF: Final = 128
# More than this is not taken for the parts that pictures have in the gradient of a matrix product:
# recorded are 62.5 MiB (float32) and 37.5 MiB (half precision) with parts, 64 MiB without in both.
_PARTS_LIMIT_BYTES: Final = 64 * 2**20
# Larger pictures of strided kernels of one pixel in float32 are written where they belong: recorded
# are 31 MiB with a copy and 61 MiB without; where between them it changes is chosen by us.
_DIRECT_POINT_BYTES: Final = 48 * 2**20
# Patches that a first layer makes of float32 pictures from copies: recorded are 12 544 with and
# 4 704 without; between them chosen by us.
_MANY_PATCHES: Final = 8192
_FIRST_LAYER_PARTS: Final = 8
_FIRST_LAYER_PARTS_EACH: Final = 5
_ACCUMULATOR_BYTES: Final = 4
_WARP: Final = 32
_VECTOR: Final = 4
# Filters of float32 whose pictures are written where they belong, as recorded.
_DIRECT_FILTERS: Final = 64
_WIDEST_DIRECT_FILTERS: Final = 128
# In how many parts the gradients of weights are made with channels last, as recorded.
_DEPTHWISE_LAST_PARTS: Final = 128
_LAST_PARTS: Final = 72
_LAST_CHANNELS: Final = 16384


@dataclass(frozen=True, slots=True)
class Temporaries:
    """What a kernel takes and gives back.

    Attributes
    ----------
    held : tuple of int
        Bytes of copies that are made before its outputs and kept until it ends.
    pulses : tuple of int
        Bytes that are taken after its first, second, ... output and given back at once.
    """

    held: tuple[int, ...] = ()
    pulses: tuple[int, ...] = ()


def forward_temporaries(args: Sequence[object]) -> Temporaries:
    """Return what ``aten.convolution`` with these arguments takes."""
    image, weight = as_tensor(args[0]), as_tensor(args[1])
    stride, padding, dilation = (_integers(args[index]) for index in (3, 4, 5))
    groups, extra = _integer(args[8]), _integers(args[7])
    n_out = image.shape[0]
    if args[6]:
        n_out *= weight.shape[1] * groups
    else:
        n_out *= weight.shape[0]
    for axis, size in enumerate(image.shape[2:]):
        step, pad, wide = (at_axis(values, axis) for values in (stride, padding, dilation))
        reach = wide * (weight.shape[axis + 2] - 1) + 1
        if args[6]:
            n_out *= (size - 1) * step - 2 * pad + reach + at_axis(extra, axis)
        else:
            n_out *= (size + 2 * pad - reach) // step + 1
    layer = ConvolutionLayer(image, weight, stride, groups, bool(args[6]), n_out)
    is_copied = not (image.is_contiguous() or is_channels_last(image))
    recorded = find_recorded(layer)
    n_bytes = _forward(layer) if recorded is None else recorded.forward
    if recorded is None and n_bytes and _is_direct(layer):
        n_bytes -= n_out * image.element_size()
        n_bytes += _bytes(weight) if layer.is_point else 0
    return Temporaries((_bytes(image),) if is_copied else (), (n_bytes,))


def backward_temporaries(args: Sequence[object]) -> Temporaries:
    """Return what ``aten.convolution_backward`` with these arguments takes."""
    gradient, image, weight = (as_tensor(args[index]) for index in range(3))
    layer = ConvolutionLayer(
        image, weight, _integers(args[4]), _integer(args[9]), bool(args[7]), gradient.numel()
    )
    is_last = is_channels_last(image)
    is_copied = not (is_channels_last(gradient) if is_last else gradient.is_contiguous())
    mask = args[10] if isinstance(args[10], Sequence) else (True, True, True)
    recorded = find_recorded(layer)
    if recorded is None:
        taken = _input_gradient(layer), _weight_gradient(layer)
    else:
        taken = recorded.input_gradient, recorded.weight_gradient
    return Temporaries(
        (_bytes(gradient),) if is_copied else (),
        (taken[0] if mask[0] else 0, taken[1] if mask[1] else 0),
    )


def _is_direct(layer: ConvolutionLayer) -> bool:
    """Return whether the output needs no copy."""
    if (
        not layer.is_aligned
        or layer.is_half
        or layer.is_first
        or layer.is_last
        or layer.is_transposed
    ):
        return False
    before, after = layer.channels
    is_strided = max(layer.stride) > 1
    if layer.is_point:
        return is_strided and layer.n_out * layer.image.element_size() > _DIRECT_POINT_BYTES
    return after == _DIRECT_FILTERS or (
        is_strided and before == _DIRECT_FILTERS and after <= _WIDEST_DIRECT_FILTERS
    )


def _forward(layer: ConvolutionLayer) -> int:
    if layer.is_depthwise:
        return 0
    if layer.is_last:
        return 0 if layer.weight.is_contiguous(memory_format=torch.channels_last) else _bytes(
            layer.weight
        )  # fmt: skip
    if layer.is_product:
        before, after = layer.channels
        if layer.is_half:
            is_copied = after > before and not layer.is_aligned
        else:
            is_copied = layer.is_tiny and min(before, after) >= _WIDE_CHANNELS
        return layer.copies if is_copied else 0
    if layer.is_first:
        is_small = max(layer.weight.shape[2:]) <= _SMALL_KERNEL
        n_pixels = layer.n_out // layer.channels[1]
        if not is_small and not layer.is_overlapping and n_pixels >= _MANY_PATCHES:
            return 0 if layer.is_half else layer.copies + layer.padded(FIRST_LAYER_CHANNELS)
        if is_small or not layer.is_overlapping:
            return 0
        return layer.copies + layer.padded(_PADDED_CHANNELS.get(layer.image.dtype, 0))
    return layer.copies


def _input_gradient(layer: ConvolutionLayer) -> int:
    if layer.is_product and layer.is_half:
        n_pixels = layer.n_out // layer.channels[1]
        is_large = n_pixels >= _MANY_PIXELS_HALF and min(layer.channels) >= _MANY_CHANNELS_HALF
        return layer.copies if is_large and layer.channels[1] >= layer.channels[0] else 0
    return _forward(layer)


def _weight_gradient(layer: ConvolutionLayer) -> int:
    n_bytes = layer.weight.numel() * _ACCUMULATOR_BYTES
    if layer.is_depthwise:
        n_filters = layer.weight.shape[0]
        n_padded = math.ceil(n_filters / _WARP) * _WARP
        return n_bytes // n_filters * n_padded * _DEPTHWISE_LAST_PARTS if layer.is_last else 0
    if layer.is_product and not layer.is_last:
        n_parts_bytes = layer.image.shape[0] * n_bytes
        is_unfit = not layer.is_half and layer.channels[1] % _VECTOR
        return layer.copies if is_unfit or n_parts_bytes >= _PARTS_LIMIT_BYTES else n_parts_bytes
    if layer.is_first:
        if layer.has_odd_output:
            return 0
        parts = _FIRST_LAYER_PARTS
        if not layer.is_half:
            parts = _FIRST_LAYER_PARTS_EACH * layer.image.shape[0] if layer.is_overlapping else 0
        channels = _PADDED_CHANNELS.get(layer.image.dtype, FIRST_LAYER_CHANNELS)
        return layer.copies + layer.padded(channels) + parts * n_bytes
    if layer.is_last:
        is_small = math.prod(layer.channels) <= _LAST_CHANNELS and not layer.is_point
        return _LAST_PARTS * n_bytes if is_small else 0
    parts = _parts(layer)
    return layer.copies + (parts * n_bytes + _PARTS_ROOM_BYTES if parts else 0)


def _parts(layer: ConvolutionLayer) -> int:
    if layer.is_point:
        return 0 if layer.is_half else _STRIDED_POINT_PARTS
    n_channels = math.prod(layer.channels)
    if layer.is_half and layer.n_out // layer.channels[1] < _MIN_PIXELS_HALF:
        return 0
    table = _PARTS_HALF if layer.is_half else _PARTS_FLOAT
    return next((parts for limit, parts in table if n_channels <= limit), 0)


def as_tensor(value: object) -> torch.Tensor:
    """Return an argument that must be a tensor.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"an operator's argument must be a tensor here, got {type(value)}")
    return value


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _integers(value: object) -> tuple[int, ...]:
    return tuple(int(item) for item in value) if isinstance(value, Sequence) else ()


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 1
