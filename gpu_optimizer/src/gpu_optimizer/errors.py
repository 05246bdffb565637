"""The exceptions of `gpu_optimizer`, one tree.

::

    GpuOptimizerError
    ├── DeviceError           no usable GPU, or its driver does not answer
    ├── OutOfMemoryError      the work does not fit, whatever was tried
    ├── TraceError            an allocation trace cannot be recorded or read
    └── UnknownModelError     no architecture of that name is registered

A wrong *argument* raises `ValueError` or `TypeError`; these say that the *world* is not as needed.
The text of each is one sentence for a person, with what to do next.
"""

from __future__ import annotations

from gpu_optimizer.units import format_bytes


class GpuOptimizerError(Exception):
    """Base of everything that this package raises about the outside world."""


class DeviceError(GpuOptimizerError):
    """No usable GPU is here, or its driver does not answer."""


class OutOfMemoryError(GpuOptimizerError):
    """The work does not fit.

    Parameters
    ----------
    what : str
        What did not fit, as the subject of a sentence: ``"a batch of 64"``.
    needed_bytes, limit_bytes : int
        What it needs and what may be used.
    """

    def __init__(self, what: str, needed_bytes: int, limit_bytes: int) -> None:
        super().__init__(what, needed_bytes, limit_bytes)
        self.what = what
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return (
            f"{self.what} needs {format_bytes(self.needed_bytes)}, "
            f"{format_bytes(self.needed_bytes - self.limit_bytes)} more than the limit of "
            f"{format_bytes(self.limit_bytes)}"
        )


class TraceError(GpuOptimizerError):
    """An allocation trace cannot be recorded or read."""


class UnknownModelError(GpuOptimizerError):
    """No architecture of that name is registered; the message lists those that are."""
