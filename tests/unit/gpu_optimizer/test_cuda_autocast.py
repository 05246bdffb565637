from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from gpu_optimizer.cuda_autocast import cuda_rules

# What PyTorch's documentation says of CUDA ("CUDA Ops that can autocast to ...").
LOW = (
    lambda rows: rows @ rows,
    lambda rows: functional.linear(rows, rows),
    lambda rows: rows + rows,
    functional.gelu,
    functional.relu,
)
FULL = (
    torch.exp,
    torch.rsqrt,
    torch.sum,
    lambda rows: rows.pow(2),
    lambda rows: rows.sum(dim=1),
    lambda rows: functional.softmax(rows, dim=-1),
    lambda rows: functional.log_softmax(rows, dim=-1),
    lambda rows: functional.layer_norm(rows, (8,)),
    lambda rows: functional.group_norm(rows, 2),
    lambda rows: functional.mse_loss(rows, rows),
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_operators_run_in_the_precision_that_cuda_gives_them(dtype: torch.dtype) -> None:
    with FakeTensorMode(), cuda_rules(), torch.autocast("cpu", dtype=dtype):
        rows = torch.zeros(8, 8, dtype=dtype, requires_grad=True)
        assert {call(rows).dtype for call in LOW} == {dtype}
        assert {call(rows).dtype for call in FULL} == {torch.float32}


def test_gradients_come_back_in_the_precision_of_the_tensor() -> None:
    with FakeTensorMode(), cuda_rules():
        rows = torch.zeros(8, 8, dtype=torch.float16, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = sum(call(rows).sum() for call in FULL)
        assert isinstance(loss, torch.Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        assert rows.grad is not None
        assert rows.grad.dtype == torch.float16


def test_a_dtype_that_the_caller_names_stays() -> None:
    with FakeTensorMode(), cuda_rules(), torch.autocast("cpu", dtype=torch.bfloat16):
        rows = torch.zeros(8, dtype=torch.bfloat16)
        assert rows.sum(dtype=torch.float64).dtype == torch.float64


def test_the_rules_end_with_the_block() -> None:
    with cuda_rules():
        pass
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.exp(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
