from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_optimizer.forecast_error import (
    ALLOCATED,
    KERNELS_BYTES,
    MARGIN,
    MEASURED_GPU,
    RESERVED,
    RESERVED_CONVOLVING,
    UNKNOWN_CONTEXT_BYTES,
    UNMEASURED_FACTOR,
    ErrorBand,
    forecast_error,
)
from gpu_optimizer.machines import find_machine

REPORTS = Path(__file__).parents[3] / "reports"
NAME, ALLOCATED_COLUMN, RESERVED_COLUMN = 0, 2, 4
CONTEXT_COLUMN = "context MiB"
CONTEXT_MARGIN_BYTES = 20 * 2**20


def deviations(column: int, *, is_convolving: bool | None = None) -> list[float]:
    """Return the true values of the report's cases as parts of their forecasts, less 1."""
    report = json.loads((REPORTS / "predictor_accuracy.json").read_text())
    rows = report["details"]["Cases"]["rows"]
    chosen = [
        row
        for row in rows
        if is_convolving is None or is_convolving != str(row[NAME]).startswith("llama")
    ]
    assert chosen
    return [1 / (1 + row[column] / 100) - 1 for row in chosen]


@pytest.mark.parametrize(
    ("band", "found"),
    [
        (ALLOCATED, deviations(ALLOCATED_COLUMN)),
        (RESERVED, deviations(RESERVED_COLUMN, is_convolving=False)),
        (RESERVED_CONVOLVING, deviations(RESERVED_COLUMN, is_convolving=True)),
    ],
    ids=["allocated", "reserved", "reserved with convolutions"],
)
def test_a_band_covers_every_case_of_the_report_and_little_more(
    band: ErrorBand, found: list[float]
) -> None:
    below, above = max(0.0, -min(found)), max(0.0, *found)
    told = f"the report needs below={below:.4f}, above={above:.4f}: mend forecast_error.py"
    assert below <= band.below <= below + MARGIN, told
    assert above <= band.above <= above + MARGIN, told


def test_the_card_of_the_report_is_the_one_that_is_named() -> None:
    report = json.loads((REPORTS / "predictor_accuracy.json").read_text())
    assert report["details"]["machine"]["gpu"] == MEASURED_GPU


def test_the_context_covers_what_was_measured_of_trained_models() -> None:
    searches = json.loads((REPORTS / "batch_finder.json").read_text())["details"]["Searches"]
    column = searches["columns"].index(CONTEXT_COLUMN)
    most = round(max(row[column] for row in searches["rows"]) * 2**20)
    counted = find_machine("h200").context_bytes
    assert counted is not None
    assert most <= counted + KERNELS_BYTES <= most + CONTEXT_MARGIN_BYTES
    assert most <= UNKNOWN_CONTEXT_BYTES <= most + 2 * CONTEXT_MARGIN_BYTES


def test_a_card_that_nobody_measured_is_less_sure() -> None:
    known, unknown = (
        forecast_error(is_convolving=True, is_measured=measured, context_bytes=context)
        for measured, context in ((True, 700), (False, None))
    )
    assert unknown.reserved.above == UNMEASURED_FACTOR * known.reserved.above
    assert unknown.allocated.below == UNMEASURED_FACTOR * known.allocated.below
    assert unknown.context_above_bytes > known.context_above_bytes


def test_a_band_lies_around_the_forecast() -> None:
    assert ErrorBand(0.25, 0.5).bytes_around(100) == (75, 150)


@pytest.mark.parametrize("sides", [(-0.1, 0.0), (1.0, 0.0), (0.0, -0.1)])
def test_a_band_that_is_none_is_an_error(sides: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="below must be 0 to less than 1"):
        ErrorBand(*sides)
