from __future__ import annotations

import json

import pytest
from fake_card import FakeDoor, FakeStep

from gpu_optimizer import cli_find_batch
from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import SearchConfig
from gpu_optimizer.cli import main

HERE = ["find-batch", "resnet50", "--budget", "512MiB"]


@pytest.fixture
def fake_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command search on a card that is made up, in this process."""

    def finder(_: object, budget: str, config: SearchConfig, **options: object) -> BatchFinder:
        config = SearchConfig(isolation="none", margin=config.margin)
        tell = options["on_trial"]
        return BatchFinder(FakeStep(), budget, config, door=FakeDoor(), on_trial=tell)  # type: ignore[arg-type]

    monkeypatch.setattr(cli_find_batch, "BatchFinder", finder)


@pytest.mark.usefixtures("fake_card")
def test_what_was_found_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(HERE) == 0
    told = capsys.readouterr()
    for line in ("largest batch    38 (not proven)", "for PyTorch      488.00 MiB", "limited by"):
        assert line in told.out
    assert "batch     39  out of memory" in told.err


@pytest.mark.usefixtures("fake_card")
def test_json_has_every_trial(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*HERE, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_max"] == 38
    assert {trial["batch"] for trial in result["trials"]} >= {1, 2, 4, 38, 39}


@pytest.mark.usefixtures("fake_card")
def test_a_budget_in_which_nothing_fits_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find-batch", "resnet50", "--budget", "64MiB"]) == 1
    assert "not even a batch of 1 runs" in capsys.readouterr().err


def test_an_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BatchFinder, "find", interrupted)
    assert main(HERE) == 130


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["find-batch"], "name a model or a step"),
        ([*HERE, "--step", "a:b"], "name a model or a step"),
        (["find-batch", "--step", "nonsense"], "a step is named 'module:function'"),
        (["find-batch", "resnet5O"], "no model is called"),
        (["find-batch", "yolo11n-pose"], "for mode 'infer' only, got 'train'"),
        (["find-batch", "resnet50", "--checkpoint"], "has no blocks that can be checkpointed"),
        (["find-batch", "llama-7b", "--seq", "0"], "seq must be at least 1"),
        (["find-batch", "resnet50", "--budget", "lots"], "a size is a number"),
        ([*HERE, "--max-batch", "0"], "max_batch must be at least 1"),
        ([*HERE, "--margin", "2"], "margin must be 0 to less than 1"),
    ],
)
def test_nonsense_exits_with_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert reason in capsys.readouterr().err
