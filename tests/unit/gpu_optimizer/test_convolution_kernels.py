"""Expected bytes were recorded on an H200 by scripts/gpu_record_steps.py."""

from __future__ import annotations

import pytest
import torch

from gpu_optimizer.convolution_kernels import (
    Temporaries,
    backward_temporaries,
    forward_temporaries,
)

Shape = tuple[int, ...]
F32, F16 = torch.float32, torch.float16


def empty(shape: Shape, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def forward(image: torch.Tensor, weight: Shape, stride: int = 1, groups: int = 1) -> Temporaries:
    pad = 0 if stride == weight[-1] else weight[-1] // 2
    rows = empty(weight, image.dtype)
    return forward_temporaries(
        (image, rows, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups)
    )


def backward(gradient: torch.Tensor, image: torch.Tensor, weight: Shape, stride: int = 1,
             groups: int = 1) -> Temporaries:  # fmt: skip
    pad = weight[-1] // 2
    rows = empty(weight, image.dtype)
    return backward_temporaries(
        (gradient, image, rows, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups,
         (True, True, False))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("image", "dtype", "weight", "stride", "n_bytes"),
    [
        ((32, 128, 28, 28), F32, (128, 128, 3, 3), 1, 26279952),
        ((32, 64, 56, 56), F32, (64, 64, 3, 3), 1, 25837584),
        ((32, 3, 224, 224), F32, (64, 3, 7, 7), 2, 122065680),
        ((48, 3, 224, 224), F16, (64, 3, 7, 7), 2, 96363024),
        ((48, 128, 28, 28), F16, (256, 128, 1, 1), 2, 14450704),
        ((8, 64, 56, 56), F32, (256, 64, 1, 1), 1, 0),
        ((8, 1024, 7, 7), F32, (2048, 1024, 1, 1), 1, 4816912),
        ((24, 96, 14, 14), F16, (576, 96, 1, 1), 1, 6322192),
        ((32, 3, 224, 224), F32, (32, 3, 3, 3), 2, 0),
        ((24, 3, 224, 224), F32, (192, 3, 16, 16), 16, 0),
        ((64, 3, 224, 224), F32, (192, 3, 16, 16), 16, 61800464),
    ],
)
def test_forward_takes_the_workspace_that_was_recorded(
    image: Shape, dtype: torch.dtype, weight: Shape, stride: int, n_bytes: int
) -> None:
    assert forward(empty(image, dtype), weight, stride).pulses == (n_bytes,)


@pytest.mark.parametrize(
    ("gradient", "image", "weight", "stride", "expected"),
    [
        ((8, 256, 56, 56), (8, 64, 56, 56), (256, 64, 1, 1), 1, (0, 524288)),
        ((12, 2048, 7, 7), (12, 1024, 7, 7), (2048, 1024, 1, 1), 1, (7225360, 7225360)),
    ],
)
def test_backward_takes_the_workspaces_that_were_recorded(
    gradient: Shape, image: Shape, weight: Shape, stride: int, expected: tuple[int, int]
) -> None:
    assert backward(empty(gradient), empty(image), weight, stride).pulses == expected


def test_channels_last_and_depthwise_convolutions_copy_nothing() -> None:
    image = empty((2, 8, 6, 6))
    assert forward(image, (8, 1, 3, 3), groups=8).pulses == (0,)
    last = image.to(memory_format=torch.channels_last)
    assert forward(last, (4, 8, 1, 1)) == Temporaries((), (0,))


def test_operands_that_are_not_contiguous_are_copied_first() -> None:
    half = empty((4, 32, 80, 80))[:, :16]
    assert forward(half, (16, 16, 1, 1)).held == (4 * 4 * 16 * 80 * 80,)
    contiguous = empty((4, 16, 80, 80))
    assert backward(half, contiguous, (16, 16, 1, 1)).held == (4 * 4 * 16 * 80 * 80,)


def test_a_gradient_that_is_not_wanted_takes_nothing() -> None:
    image, weight = empty((2, 8, 6, 6)), empty((4, 8, 3, 3))
    args = (empty((2, 4, 6, 6)), image, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    assert backward_temporaries((*args, (False, False, True))).pulses == (0, 0)
