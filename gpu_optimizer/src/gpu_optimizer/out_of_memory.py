"""Which exceptions say that a GPU has no more memory: by type and status code, not by prose."""

from __future__ import annotations

import re
from typing import Final

import torch

# cudaErrorMemoryAllocation; NVIDIA, "CUDA Runtime API", enum cudaError.
_CUDA_MEMORY_ALLOCATION: Final = 2
# cuBLAS and cuDNN have no types of their own in Python: PyTorch raises a RuntimeError that begins
# with the status which the library returned. NVIDIA, "cuBLAS", cublasStatus_t, and "cuDNN Backend
# API", cudnnStatus_t.
_LIBRARY_STATUS: Final = re.compile(
    r"(?:CUDA error: CUBLAS_STATUS_ALLOC_FAILED"
    r"|cuDNN error: CUDNN_STATUS_(?:ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED))\b"
)
# What PyTorch's allocator of host memory raises; c10/core/impl/alloc_cpu.cpp has no type for it.
_HOST_MEMORY: Final = re.compile(r"DefaultCPUAllocator: (?:can't allocate|not enough) memory")
# What a convolution raises when each of cuDNN's engines failed, be it for memory or for another
# reason; ATen/native/cudnn/Conv_v8.cpp catches the allocator's exception there.
_NO_ENGINE: Final = re.compile(r"(?:GET|FIND) was unable to find an engine to execute")


def lacks_engine(exc: BaseException) -> bool:
    """Return whether cuDNN found no way to convolve.

    That is for lack of memory if the allocator counted an allocation that failed.
    """
    return type(exc) is RuntimeError and _NO_ENGINE.match(str(exc)) is not None


def is_out_of_memory(exc: BaseException) -> bool:
    """Return whether an exception says that the GPU has no more memory.

    Parameters
    ----------
    exc : BaseException
        Itself alone: what wraps another exception is taken for what it is.

    Notes
    -----
    ``torch.OutOfMemoryError`` is that of PyTorch's allocator; ``torch.AcceleratorError`` with the
    code of a failed ``cudaMalloc`` comes from memory outside of it.
    """
    if isinstance(exc, torch.OutOfMemoryError):
        return True
    accelerator_error = getattr(torch, "AcceleratorError", None)
    if accelerator_error is not None and isinstance(exc, accelerator_error):
        return getattr(exc, "error_code", None) == _CUDA_MEMORY_ALLOCATION
    return type(exc) is RuntimeError and _LIBRARY_STATUS.match(str(exc)) is not None


def is_out_of_host_memory(exc: BaseException) -> bool:
    """Return whether an exception says that the host has no more memory."""
    is_told = type(exc) is RuntimeError and _HOST_MEMORY.search(str(exc)) is not None
    return is_told or isinstance(exc, MemoryError)
