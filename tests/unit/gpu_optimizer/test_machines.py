from __future__ import annotations

from pathlib import Path

import pytest

from gpu_optimizer.errors import DeviceError
from gpu_optimizer.machines import find_machine, load_machines


def test_the_first_three_machines_have_16_12_and_8_gib() -> None:
    machines = list(load_machines().values())[:3]
    assert [machine.total_bytes >> 30 for machine in machines] == [16, 12, 8]


def test_an_unknown_machine_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match=r"known are .*rtx-3070-ti"):
        find_machine("rtx-9999")


@pytest.mark.parametrize(
    "text",
    ["", "machines: 3", "machines: {a: {gpu: A}}", "machines: [", "other: {}"],
)
def test_a_file_of_another_form_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "machines.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DeviceError, match="does not describe machines"):
        load_machines(path)


def test_an_amount_below_zero_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "machines.yml"
    path.write_text(
        "machines: {a: {gpu: A, total_bytes: -1, context_bytes: null, cublas_workspace_bytes: 0, "
        "attention: flash, n_processors: 48, is_measured: false}}",
        encoding="utf-8",
    )
    with pytest.raises(DeviceError, match="total_bytes of a must be a number from 0, got -1"):
        load_machines(path)
