from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from gpu_optimizer.convolution_kernels import Temporaries
from gpu_optimizer.cuda_kernels import cuda_choices, output_bytes, temporaries

ATEN = torch.ops.aten


def taken(operator: object, *args: object) -> Temporaries:
    return temporaries(operator, args, "flash", 132)


def test_flash_backward_accumulates_dq_in_float32_over_whole_tiles() -> None:
    query = torch.empty(2, 3, 100, 64, dtype=torch.bfloat16)
    operator = ATEN._scaled_dot_product_flash_attention_backward.default
    assert taken(operator, query, query).held == (4 * 2 * 3 * 128 * (64 + 1),)


def test_cudnn_backward_accumulates_no_more_than_the_sequence() -> None:
    query = torch.empty(16, 6, 197, 64, dtype=torch.bfloat16)
    operator = ATEN._scaled_dot_product_flash_attention_backward.default
    assert temporaries(operator, (query, query), "cudnn", 132).held == (4917376,)


@pytest.mark.parametrize(("batch", "tiles"), [(24, 4723200), (64, 12595200)])
def test_efficient_backward_takes_what_was_recorded(batch: int, tiles: int) -> None:
    query = torch.empty(batch, 3, 197, 64, device="meta")
    operator = ATEN._scaled_dot_product_efficient_attention_backward.default
    expected = Temporaries(pulses=(0, 0, 4 * query.numel(), tiles))
    assert taken(operator, query, query) == expected


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "n_bytes"),
    [(4728, 192, 7274496), (4728, 768, 29097984), (3152, 1152, 29491200), (512, 4096, 0)],
)
def test_a_sum_over_rows_takes_the_buffer_that_was_recorded(
    n_rows: int, n_columns: int, n_bytes: int
) -> None:
    rows = torch.empty(n_rows, n_columns, device="meta")
    assert taken(ATEN.sum.dim_IntList, rows, [0], True).pulses == (n_bytes,)


def test_a_sum_over_columns_takes_nothing() -> None:
    rows = torch.empty(4728, 192, device="meta")
    assert taken(ATEN.sum.dim_IntList, rows, [1], True).pulses == (0,)


def test_layer_norm_copies_an_input_that_is_not_contiguous() -> None:
    rows = torch.empty(8, 4, device="meta")
    assert taken(ATEN.native_layer_norm.default, rows.t()).held == (4 * 32,)
    assert taken(ATEN.native_layer_norm.default, rows).held == ()


def test_statistics_of_layer_norm_are_float32() -> None:
    rows = torch.empty(8, dtype=torch.bfloat16)
    assert output_bytes(ATEN.native_layer_norm.default, 1, rows) == 32
    assert output_bytes(ATEN.native_layer_norm.default, 0, rows) == 16


def test_other_operators_take_nothing() -> None:
    assert taken(ATEN.relu.default, torch.empty(4)) == Temporaries()


def test_attention_and_dropout_are_as_before_afterwards() -> None:
    before = functional.scaled_dot_product_attention, functional.dropout
    with cuda_choices():
        assert functional.dropout is not before[1]
        assert functional.dropout(torch.ones(3), training=False).tolist() == [1, 1, 1]
    assert (functional.scaled_dot_product_attention, functional.dropout) == before
    assert nn.Dropout(0.5).eval()(torch.ones(2)).tolist() == [1, 1]
