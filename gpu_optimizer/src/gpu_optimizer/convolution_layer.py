"""A convolution as kernels see it: operands, channels, alignment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

_ALIGNMENT_BYTES: Final = 16
FIRST_LAYER_CHANNELS: Final = 4
"""Up to so many channels of the input a layer is taken for the first one."""
ROOM_BYTES: Final = 16
"""Besides the copies of operands in a workspace, as recorded."""
_TILE_PIXELS: Final = 64


@dataclass(frozen=True, slots=True)
class ConvolutionLayer:
    """A convolution; `out` pictures have `n_out` elements."""

    image: torch.Tensor
    weight: torch.Tensor
    stride: tuple[int, ...]
    groups: int
    is_transposed: bool
    n_out: int

    @property
    def is_half(self) -> bool:
        """Whether its numbers have 16 bits."""
        return self.image.element_size() == 2

    @property
    def channels(self) -> tuple[int, int]:
        """Of the input and of the output."""
        if self.is_transposed:
            return self.weight.shape[0], self.weight.shape[1] * self.groups
        return self.weight.shape[1] * self.groups, self.weight.shape[0]

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has kernels of its own."""
        return 1 < self.groups == self.image.shape[1]

    @property
    def is_last(self) -> bool:
        """Whether its channels are last."""
        return is_channels_last(self.image)

    @property
    def is_point(self) -> bool:
        """Whether the kernel has one pixel."""
        return math.prod(self.weight.shape[2:]) == 1

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product."""
        return self.is_point and set(self.stride) <= {1} and self.groups == 1

    @property
    def is_aligned(self) -> bool:
        """Whether the pictures that go in are multiples of 16 B."""
        n_pixels = math.prod(self.image.shape[2:])
        return n_pixels * self.image.element_size() % _ALIGNMENT_BYTES == 0

    @property
    def has_odd_output(self) -> bool:
        """Whether the pictures that come out are no multiple of 16 B."""
        n_pixels = self.n_out // (self.image.shape[0] * self.channels[1])
        return n_pixels * self.image.element_size() % _ALIGNMENT_BYTES > 0

    @property
    def is_tiny(self) -> bool:
        """Whether its pictures are smaller than a tile, and their size is odd."""
        n_pixels = math.prod(self.image.shape[2:])
        return n_pixels < _TILE_PIXELS and not self.is_aligned

    @property
    def is_first(self) -> bool:
        """Whether it has as few channels as a first layer."""
        return self.image.shape[1] <= FIRST_LAYER_CHANNELS

    @property
    def is_overlapping(self) -> bool:
        """Whether kernels share pixels."""
        sizes = self.weight.shape[2:]
        return any(size > at_axis(self.stride, axis) for axis, size in enumerate(sizes))

    @property
    def copies(self) -> int:
        """Bytes of input, output and weight; a kernel of one pixel is the same in any layout."""
        n_weights = 0 if self.is_point else self.weight.numel()
        n_copied = self.image.numel() + self.n_out + n_weights
        return n_copied * self.image.element_size() + ROOM_BYTES

    def padded(self, channels: int) -> int:
        """Return the bytes that a padding of the input's channels adds."""
        n_before = self.image.shape[1]
        if n_before >= channels:
            return 0
        n_each = (self.image.numel() + self.weight.numel()) // n_before
        return n_each * (channels - n_before) * self.image.element_size()


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has its channels last and is not contiguous as well."""
    return (
        tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def at_axis(values: tuple[int, ...], axis: int) -> int:
    """Return a setting of an axis; one that is given once is of all axes."""
    return values[axis] if axis < len(values) else values[-1]
