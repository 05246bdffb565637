from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gpu_optimizer import cli_profile_machine
from gpu_optimizer.cli import main
from gpu_optimizer.machine_profile import RATES, RateSizes, machine_name, measure_rates
from gpu_optimizer.machines import Machine, find_machine, machines_path

MEASURED = Machine("h200", "NVIDIA H200", 2**37, 2**29, 2**25, "cudnn", 132, True, {RATES[0]: 55.0})


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        ("NVIDIA GeForce RTX 3070 Ti", "rtx-3070-ti"),
        ("NVIDIA H200", "h200"),
        ("Tesla T4", "t4"),
        ("NVIDIA", "nvidia"),
    ],
)
def test_a_card_is_called_by_the_short_of_its_name(gpu: str, name: str) -> None:
    assert machine_name(gpu) == name


def test_rates_come_from_the_fastest_of_the_timed_calls() -> None:
    def ticks() -> Iterator[float]:
        time_s = 0.0
        for duration_s in [9.0, 4.0, 2.0] * 6:
            yield time_s
            time_s += duration_s
            yield time_s

    sizes = RateSizes(copy_bytes=4000, matrix_side=10, n_repeats=2)
    rates = measure_rates(torch.device("cpu"), sizes, ticks().__next__)
    assert list(rates) == [name for name in RATES if "pinned" not in name]
    assert rates["h2d_pageable_gb_s"] == pytest.approx(2000 / 1e9)
    assert rates["matmul_bf16_tflops"] == pytest.approx(1000 / 1e12)
    assert torch.get_float32_matmul_precision() == "highest"


def test_what_was_measured_is_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "machines.yml"
    path.write_text(machines_path().read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(cli_profile_machine, "profile_machine", lambda _: MEASURED)
    assert main(["profile-machine", "--dry-run"]) == 0
    assert "h2d_pinned_gb_s: 55.0" in capsys.readouterr().out
    assert main(["profile-machine", "--out", str(path), "--name", "mine"]) == 0
    assert "as mine" in capsys.readouterr().out
    assert find_machine("mine", path).rates == MEASURED.rates


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile-machine"]) == 2
    assert "no CUDA device is here" in capsys.readouterr().err
