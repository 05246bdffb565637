from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gpu_profiler
import pytest
import torch
from fake_card import FakeDoor, FakeStep
from gpu_profiler import MACHINES, Plan, main, write_measured

from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import SearchConfig
from gpu_optimizer.machines import load_machines
from gpu_optimizer.training_step import StepConfig

PLAN = Plan(("resnet50",), (8,), StepConfig("infer"), 512)


def details(path: Path) -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(path.read_text())["details"]
    return tables


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_a_forecast_is_written_and_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_profiler, "_MAX_FORECAST_BATCH", 1)
    small = "torchvision:squeezenet1_1,no-such-model"
    assert main(["--models", small, "--mode", "infer", "--out", str(tmp_path)]) == 0
    assert "no GPU is here" in capsys.readouterr().out
    assert "Forecast, not measured" in (tmp_path / "forecast.md").read_text()
    table = details(tmp_path / "forecast.json")["Forecast"]
    assert table["columns"][4:] == ["rtx-5070-ti", "rtx-4070-ti", "rtx-3070-ti"]
    fits, unknown = table["rows"]
    assert fits[4:] == ["fits"] * 3
    assert "no model is called" in str(unknown[-1])


def test_what_was_measured_is_written_with_every_trial(tmp_path: Path) -> None:
    machine = load_machines(MACHINES)["h100"]
    config = SearchConfig(isolation="none")
    result = BatchFinder(FakeStep(), "512MiB", config, door=FakeDoor()).find()
    found: dict[tuple[str, int], gpu_profiler.Search] = {
        ("resnet50", 8): result,
        ("vit_b_16", 8): "not even a batch of 1 runs",
    }
    path = write_measured(PLAN, machine, found, tmp_path)
    assert path.name == "nvidia_h100.md"
    tables = details(tmp_path / "nvidia_h100.json")
    assert tables["Largest batches"]["rows"][0][2] == 38
    assert tables["Largest batches"]["rows"][1][-1] == "not even a batch of 1 runs"
    assert len(tables["Trials"]["rows"]) == len(result.trials)
