from __future__ import annotations

import pytest
import torch

from gpu_optimizer.out_of_memory import is_out_of_memory


class _Subclass(torch.OutOfMemoryError):
    """A framework's own."""


def accelerator_error(code: int) -> BaseException:
    error: BaseException = torch.AcceleratorError("CUDA error: out of memory")
    error.error_code = code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "exc",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        _Subclass("x"),
        accelerator_error(2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_what_says_by_type_or_status_that_memory_is_out(exc: BaseException) -> None:
    assert is_out_of_memory(exc)


@pytest.mark.parametrize(
    "exc",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("caught: CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        ValueError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
        accelerator_error(719),
    ],
)
def test_what_only_sounds_like_it(exc: BaseException) -> None:
    assert not is_out_of_memory(exc)
