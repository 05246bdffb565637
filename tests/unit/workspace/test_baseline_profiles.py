"""The page of baseline profiles names blocks of any naming and tells what was not measured."""

from __future__ import annotations

import json
from pathlib import Path

import baseline_profiles
import pytest
import torch

from gpu_optimizer.memory_predictor import ForecastRequest
from gpu_optimizer.training_step import StepConfig


def test_layers_are_summed_by_numbered_blocks() -> None:
    layers = [
        ("layer1.0.conv1", 3),
        ("layer1.0.bn1", 4),
        ("encoder.layers.encoder_layer_11.mlp.0", 2),
        ("encoder.layers.encoder_layer_11.ln_1", 1),
        ("fc", 5),
    ]
    assert baseline_profiles._grouped(layers) == [
        ("layer1.0", 7),
        ("fc", 5),
        ("encoder.layers.encoder_layer_11", 3),
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_the_report_says_that_nothing_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = (
        ForecastRequest("torchvision:squeezenet1_1", 1, step=StepConfig("infer")),
        ForecastRequest("nonsense", 1),
    )
    monkeypatch.setattr(baseline_profiles, "CASES", cases)
    assert baseline_profiles.main(["--out", str(tmp_path)]) == 0
    page = (tmp_path / f"{baseline_profiles.NAME}.md").read_text(encoding="utf-8")
    assert "not measured" in page
    assert "UnknownModelError" in page
    details = json.loads((tmp_path / f"{baseline_profiles.NAME}.json").read_text("utf-8"))
    assert any(name.endswith("all layers") for name in details["details"])
