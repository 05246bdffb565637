from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from gpu_predictor_check import Cost, Outcome, main, report, rule_of_thumb, save
from predictor_cases import CASES, UNet

from gpu_optimizer.machines import Machine
from gpu_optimizer.training_step import StepConfig

MACHINE = Machine("card", "Card", 2**33, 2**28, 2**23, "flash", 48, is_measured=True)


def outcome(case: str, forecast: float, note: str = "") -> Outcome:
    return Outcome(case, 1000.0, 2000.0, forecast, 2100.0, 1100.0, 500.0, 0.5, (), note)


def test_there_are_more_than_twelve_cases_of_all_kinds() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 12
    assert {case.step.mode for case in CASES} == {"train", "infer"}
    assert {case.step.precision for case in CASES} == {"fp32", "bf16", "amp", "amp-bf16"}
    assert {case.step.optimizer for case in CASES} == {"adamw", "sgd", "momentum"}


def test_the_u_net_answers_every_pixel() -> None:
    assert UNet(width=2)(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 16, 16)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (StepConfig("train", "sgd"), 200.0),
        (StepConfig("train", "momentum"), 300.0),
        (StepConfig("train", "adamw"), 400.0),
        (StepConfig("infer"), 120.0),
    ],
)
def test_the_rule_of_thumb_counts_copies_of_the_parameters(
    step: StepConfig, expected: float
) -> None:
    assert rule_of_thumb(100, step) == pytest.approx(expected)


def test_a_failed_case_is_told_and_does_not_count(tmp_path: Path) -> None:
    nan = math.nan
    failed = Outcome("b", nan, nan, nan, nan, nan, nan, nan, (), "failed")
    report([outcome("a", 1020.0), failed], MACHINE, Cost(3.0, 4.0, 10**9), tmp_path)
    bars = json.loads((tmp_path / "predictor_accuracy.json").read_text())["bars"]
    assert bars[0]["measured"] == pytest.approx(2.0)
    assert (bars[0]["n"], bars[0]["holds"]) == (1, False)
    assert "failed" in (tmp_path / "predictor_accuracy.md").read_text()


def test_what_is_known_is_saved_with_its_errors(tmp_path: Path) -> None:
    save(tmp_path / "out.json", MACHINE, [outcome("a", 990.0)], 1.0)
    case = json.loads((tmp_path / "out.json").read_text())["cases"][0]
    assert case["errors_percent"]["forecast_allocated"] == pytest.approx(-1.0)
    assert case["errors_percent"]["forecast_reserved"] == pytest.approx(5.0)


def test_without_a_gpu_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
