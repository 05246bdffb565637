from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from gpu_optimizer.cuda_kernels import cuda_choices, workspace_bytes

ATEN = torch.ops.aten


def convolution(image: torch.Tensor, weight: torch.Tensor, groups: int = 1) -> int:
    args = (image, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups)
    return workspace_bytes(ATEN.convolution.default, args, convolution_copies=1.0)


def test_a_convolution_copies_its_operands_to_channels_last() -> None:
    image, weight = torch.empty(2, 8, 6, 6), torch.empty(4, 8, 3, 3)
    assert convolution(image, weight) == 4 * (2 * 8 * 36 + 4 * 8 * 9 + 2 * 4 * 36)


def test_channels_last_and_depthwise_convolutions_copy_nothing() -> None:
    image, weight = torch.empty(2, 8, 6, 6), torch.empty(8, 1, 3, 3)
    assert convolution(image, weight, groups=8) == 0
    last = image.to(memory_format=torch.channels_last)
    assert convolution(last, torch.empty(4, 8, 3, 3)) == 0


def test_flash_backward_accumulates_dq_in_float32_over_whole_tiles() -> None:
    query = torch.empty(2, 3, 100, 64, dtype=torch.bfloat16)
    operator = ATEN._scaled_dot_product_flash_attention_backward.default
    assert workspace_bytes(operator, (query, query), 1.0) == 4 * 2 * 3 * 128 * (64 + 1)


def test_other_operators_take_nothing() -> None:
    assert workspace_bytes(ATEN.relu.default, (torch.empty(4),), 1.0) == 0


def test_attention_and_dropout_are_as_before_afterwards() -> None:
    before = functional.scaled_dot_product_attention, functional.dropout
    with cuda_choices():
        assert functional.dropout is not before[1]
        assert functional.dropout(torch.ones(3), training=False).tolist() == [1, 1, 1]
    assert (functional.scaled_dot_product_attention, functional.dropout) == before
    assert nn.Dropout(0.5).eval()(torch.ones(2)).tolist() == [1, 1]
