from __future__ import annotations

from pathlib import Path

import pytest

from gpu_optimizer.errors import DeviceError
from gpu_optimizer.machine_file import machine_line, write_machine
from gpu_optimizer.machines import Machine, find_machine, load_machines, machines_path

MEASURED = Machine(
    "a100", "NVIDIA A100", 2**36, 2**29, 2**23, "flash", 108, True, {"h2d_pinned_gb_s": 24.25}
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "machines.yml"
    copy.write_text(machines_path().read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def test_a_new_machine_is_added_and_the_rest_stays(path: Path) -> None:
    before = path.read_text(encoding="utf-8")
    write_machine(path, MEASURED)
    assert path.read_text(encoding="utf-8") == f"{before}{machine_line(MEASURED)}\n"
    assert find_machine("a100", path) == MEASURED


def test_a_known_machine_is_replaced_in_its_place(path: Path) -> None:
    known = list(load_machines(path))
    card = Machine("rtx-4070-ti", "Card", 2**33, None, 0, "flash", 60, is_measured=True)
    write_machine(path, card)
    assert list(load_machines(path)) == known
    assert find_machine("rtx-4070-ti", path).gpu == "Card"


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yml"
    link.symlink_to(path)
    write_machine(link, MEASURED)
    assert link.is_symlink()
    assert "h200" in load_machines(path)


def test_a_file_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "machines.yml"
    line = machine_line(MEASURED).strip().partition(": ")[2]
    path.write_text(f"machines:\n    h200: {line}\n", encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    with pytest.raises(DeviceError):
        write_machine(path, MEASURED)
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_rate_below_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="h2d_pinned_gb_s of x must be a number from 0"):
        Machine("x", "X", 1, 1, 1, "flash", 1, True, {"h2d_pinned_gb_s": -1.0})
