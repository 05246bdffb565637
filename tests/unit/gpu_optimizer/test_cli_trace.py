"""The command ``gpu-optimizer trace`` on a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gpu_optimizer import models, traced_step
from gpu_optimizer.cli import main
from gpu_optimizer.models import ModelEntry
from gpu_optimizer.training_step import Workload


class _Small(nn.Sequential):
    """Two layers on pictures of 8 pixels."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 1000))


class _Greedy(_Small):
    """A model that never fits."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError(f"no room for {rows.shape}")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    small = ModelEntry("small", "image", lambda _: _Small(), image_px=8)
    greedy = ModelEntry("greedy", "image", lambda _: _Greedy(), image_px=8)
    monkeypatch.setattr(models, "_ENTRIES", {"small": small, "greedy": greedy})
    yield
    assert torch.get_default_dtype() == torch.float32


def test_the_table_and_the_files_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("p.html", "p.json", "p.sqlite")]
    options = [f"--{path.suffix[1:]}={path}" for path in files]
    assert main(["trace", "small", "--batch", "4", "--device", "cpu", *options]) == 0
    told = capsys.readouterr().out
    content = json.loads(files[1].read_text(encoding="utf-8"))
    assert "cpu dispatch" in told
    assert "all layers" in told
    assert all(path.stat().st_size > 0 for path in files)
    assert content["peak_bytes"] == sum(layer["at_peak_bytes"] for layer in content["layers"])
    assert dict(content["by_category"])["optimizer state"] > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "amp-bf16"])
def test_inference_needs_less_than_training(precision: str, tmp_path: Path) -> None:
    peaks = []
    for mode in ("infer", "train"):
        path = tmp_path / f"{mode}.json"
        options = ["--mode", mode, "--precision", precision, "--json", str(path)]
        assert main(["trace", "small", "--device", "cpu", *options]) == 0
        peaks.append(json.loads(path.read_text(encoding="utf-8"))["peak_bytes"])
    assert peaks[0] < peaks[1]


def test_a_model_that_does_not_fit_gets_its_post_mortem(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["trace", "greedy", "--device", "cpu"]) == 1
    assert "out of memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nonsense"], "no model is called"),
        (["small", "--batch", "0"], "batch"),
        (["small", "--warmup", "-1"], "n_warmup"),
        (["small", "--layers", "0"], "--layers"),
        (["small", "--new-tokens", "3", "--mode", "infer"], "generates no tokens"),
        (["small", "--html", "missing/page.html"], "no folder"),
        (["small", "--device", "tpu"], "device"),
        (["small", "--html", "."], "folder"),
        (["small", "--html", "./one", "--json", "one"], "different files"),
    ],
)
def test_nonsense_is_one_sentence(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "small", "--device", "cuda:0"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_weights_that_do_not_fit_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> nn.Module:
        raise torch.OutOfMemoryError("no room")

    workload = Workload(refuse, dict, lambda model, batch: torch.zeros(()))  # noqa: ARG005
    monkeypatch.setattr(ModelEntry, "workload", lambda *_, **__: workload)
    assert main(["trace", "small", "--device", "cpu"]) == 2
    assert "the weights do not fit" in capsys.readouterr().err


def test_a_model_that_this_machine_cannot_hold_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    n_bytes = 4 * sum(one.numel() for one in _Small().parameters())
    monkeypatch.setattr(traced_step, "available_host_bytes", lambda: 4 * n_bytes - 1)
    assert main(["trace", "small", "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "weights, gradients and optimizer state take" in told
    assert "gpu-optimizer predict" in told
    assert main(["trace", "small", "--device", "cpu", "--mode", "infer"]) == 0
