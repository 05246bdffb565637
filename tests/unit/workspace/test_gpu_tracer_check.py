"""What the measurement on a GPU writes before and after it measured."""

from __future__ import annotations

import json
from pathlib import Path

import gpu_tracer_check
import pytest
import torch
from gpu_tracer_check import Findings


def _bars(folder: Path) -> dict[str, dict[str, object]]:
    text = (folder / f"{gpu_tracer_check.NAME}.json").read_text(encoding="utf-8")
    return {bar["name"]: bar for bar in json.loads(text)["bars"]}


def test_what_was_not_reached_is_not_measured(tmp_path: Path) -> None:
    gpu_tracer_check.write_report(tmp_path, Findings())
    bars = _bars(tmp_path)
    assert all(bar["measured"] is None for bar in bars.values())
    assert bars["peak_error_max"]["note"] == "not reached"


def test_the_worst_case_is_the_one_that_counts(tmp_path: Path) -> None:
    findings = Findings(peak_errors=[0.01, 0.2], layer_errors=[0], leaked_bytes=[-512, 0])
    findings.overheads["resnet50_bs256_fp32"] = (0.4, 20)
    gpu_tracer_check.write_report(tmp_path, findings)
    bars = _bars(tmp_path)
    assert bars["peak_error_max"]["holds"] is False
    assert bars["layers_off_total_max"]["holds"] is True
    assert bars["memory_left_by_tracer_max"]["measured"] == 0
    assert bars["tracer_overhead_resnet50_bs256_fp32"]["holds"] is True


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_tracer_check.main(["--out", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err
