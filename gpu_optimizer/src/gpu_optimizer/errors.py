"""The exceptions of `gpu_optimizer`, one tree.

::

    GpuOptimizerError
    ├── DeviceError           no usable GPU, or its driver does not answer
    ├── OutOfMemoryError      the work does not fit, whatever was tried
    │   └── NoBatchFitsError  not even a batch of 1 runs
    ├── StepFailedError       the user's step raised something else than out-of-memory
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


class NoBatchFitsError(OutOfMemoryError):
    """Not even a batch of 1 runs.

    Parameters
    ----------
    held_bytes, limit_bytes : int
        What was allocated when memory ran out, and what PyTorch's allocator may hold.
    message : str
        What PyTorch said then.
    """

    def __init__(self, held_bytes: int, limit_bytes: int, message: str) -> None:
        super().__init__("a batch of 1", held_bytes, limit_bytes)
        self.args = (held_bytes, limit_bytes, message)
        self.message = message

    def __str__(self) -> str:
        return (
            f"not even a batch of 1 runs: PyTorch may hold {format_bytes(self.limit_bytes)}, and "
            f"memory ran out with {format_bytes(self.needed_bytes)} in use; give a larger budget, "
            "or take a lower precision, an optimizer with less state or checkpointing "
            f"({self.message.partition('. ')[0]})"
        )


class StepFailedError(GpuOptimizerError):
    """A step of the user failed, and not for lack of memory.

    Parameters
    ----------
    batch : int
        At which batch.
    error_type, message : str
        Of what it raised: ``"builtins.ValueError"`` and its text.
    trace : str
        The traceback, as Python prints it.
    """

    def __init__(self, batch: int, error_type: str, message: str, trace: str) -> None:
        super().__init__(batch, error_type, message, trace)
        self.batch = batch
        self.error_type = error_type
        self.message = message
        self.trace = trace

    def __str__(self) -> str:
        return (
            f"the step failed at batch {self.batch} with {self.error_type}: {self.message}; "
            f"this is no lack of memory, so mend the step first\n{self.trace}"
        ).rstrip()


class TraceError(GpuOptimizerError):
    """An allocation trace cannot be recorded or read."""


class UnknownModelError(GpuOptimizerError):
    """No architecture of that name is registered; the message lists those that are."""
