from __future__ import annotations

import pytest

from gpu_optimizer.cli import main

SMALL = ["predict", "torchvision:squeezenet1_1", "--batch", "2"]


def test_what_fits_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--budget", "4GiB"]) == 0
    told = capsys.readouterr().out
    assert "peak allocated" in told
    assert "by category" in told
    assert "fits into 4.00 GiB" in told


def test_what_does_not_fit_exits_with_1_and_tells_the_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*SMALL, "--budget", "20MiB"]) == 1
    told = capsys.readouterr().out
    for change in ("does not fit into 20.00 MiB", "batch 1", "bf16", "sgd", "bf16 + sgd"):
        assert change in told


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["predict", "resnet5O"], "no model is called 'resnet5O'"),
        ([*SMALL, "--budget", "lots"], "a size is a number and a unit"),
        ([*SMALL, "--budget", "0"], "the budget must be more than 0"),
        ([*SMALL, "--device", "abacus"], "no machine is called 'abacus'"),
        (["predict", "resnet50", "--batch", "0"], "batch must be at least 1"),
        (["predict", "resnet50", "--accumulate", "0"], "n_accumulate must be at least 1"),
        (["predict", "resnet50", "--new-tokens", "4"], "n_new_tokens needs mode 'infer'"),
    ],
)
def test_nonsense_exits_with_2_and_one_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert len(told.splitlines()) == 1
