"""How far the true memory of a step may be from its forecast, as measured against a real GPU.

The bands hold the errors of all cases of ``reports/predictor_accuracy.json``, and are at most
`MARGIN` wider than these; a test compares them with the report. Reserved memory is less sure where
a model convolves: cuDNN chooses a kernel by rules that it does not tell, and each has a workspace
of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MEASURED_GPU: Final = "NVIDIA H200"
"""The card of the report; on another, libraries may choose other kernels."""
MARGIN: Final = 0.01
"""How much wider than the measured errors a band may be; chosen by us."""
UNMEASURED_FACTOR: Final = 2.0
"""By how much bands are wider for a card whose constants nobody has measured; chosen by us."""
KERNELS_BYTES: Final = 80 * 2**20
"""What the kernels of a model add to a measured context at most: ``reports/batch_finder.json``."""
UNKNOWN_CONTEXT_BYTES: Final = 800 * 2**20
"""What a context takes at most where it was not measured: a little more than on `MEASURED_GPU`."""


@dataclass(frozen=True, slots=True)
class ErrorBand:
    """Where the true value lies, as parts of the forecast.

    Attributes
    ----------
    below, above : float
        It is at least ``1 - below`` and at most ``1 + above`` times the forecast; from 0, `below`
        less than 1.
    """

    below: float
    above: float

    def __post_init__(self) -> None:
        if not (0 <= self.below < 1 and self.above >= 0):
            raise ValueError(
                f"below must be 0 to less than 1 and above from 0, got {self.below}, {self.above}"
            )

    def bytes_around(self, n_bytes: int) -> tuple[int, int]:
        """Return the least and the most that a forecast of so many bytes may turn out to be."""
        return round(n_bytes * (1 - self.below)), round(n_bytes * (1 + self.above))

    def widened(self, factor: float) -> ErrorBand:
        """Return a band so many times as wide on both sides."""
        return ErrorBand(min(self.below * factor, 0.99), self.above * factor)


ALLOCATED: Final = ErrorBand(below=0.01, above=0.01)
RESERVED: Final = ErrorBand(below=0.01, above=0.025)
RESERVED_CONVOLVING: Final = ErrorBand(below=0.01, above=0.09)


@dataclass(frozen=True, slots=True)
class ForecastError:
    """The bands of a forecast.

    Attributes
    ----------
    allocated, reserved : ErrorBand
        Of peak allocated and reserved memory.
    context_above_bytes : int
        What the CUDA context may take more than is counted for it.
    """

    allocated: ErrorBand
    reserved: ErrorBand
    context_above_bytes: int


def forecast_error(
    *, is_convolving: bool, is_measured: bool, context_bytes: int | None
) -> ForecastError:
    """Return the bands of a forecast.

    Parameters
    ----------
    is_convolving : bool
        Whether the step has a convolution.
    is_measured : bool
        Whether the constants of the card were measured.
    context_bytes : int or None
        What is counted for the CUDA context; None where nothing is.
    """
    factor = 1.0 if is_measured else UNMEASURED_FACTOR
    return ForecastError(
        ALLOCATED.widened(factor),
        (RESERVED_CONVOLVING if is_convolving else RESERVED).widened(factor),
        UNKNOWN_CONTEXT_BYTES if context_bytes is None else KERNELS_BYTES,
    )
