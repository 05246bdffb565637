from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"total_bytes": -1}, "total_bytes of a must be a whole number from 1, got -1"),
        ({"total_bytes": 1.5}, "total_bytes of a must be a whole number from 1, got 1.5"),
        ({"total_bytes": math.inf}, "got inf"),
        ({"context_bytes": True}, "context_bytes of a must be a whole number from 0, got True"),
        ({"n_processors": 2.5}, "n_processors of a must be a whole number from 1, got 2.5"),
        ({"is_measured": "no"}, "is_measured of a must be a bool, got 'no'"),
        ({"gpu": None}, "gpu of a must be a str, got None"),
        ({"rates": {"h2d_pinned_gb_s": -1}}, "h2d_pinned_gb_s of a must be a number from 0"),
    ],
)
def test_a_machine_with_a_wrong_entry_is_an_error(
    tmp_path: Path, wrong: dict[str, object], reason: str
) -> None:
    entry: dict[str, object] = {
        "gpu": "A", "total_bytes": 8, "context_bytes": None, "cublas_workspace_bytes": 0,
        "attention": "flash", "n_processors": 48, "is_measured": False,
    }  # fmt: skip
    path = tmp_path / "machines.yml"
    path.write_text(yaml.safe_dump({"machines": {"a": {**entry, **wrong}}}), encoding="utf-8")
    with pytest.raises(DeviceError, match=reason):
        load_machines(path)
