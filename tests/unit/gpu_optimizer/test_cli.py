from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gpu_optimizer import cli_predict
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
        ([*SMALL, "--budget", "9000GiB"], "is more than rtx-3070-ti has, 8.00 GiB"),
        ([*SMALL[:-1], str(10**14)], "a size is beyond 8 EiB"),
        (["defrag", "yolo11n-pose"], "for mode 'infer' only"),
        (["trace", SMALL[1], "--mode", "infer", "--html", "/proc/no/page.html"], "/proc/no"),
        ([*SMALL, "--device", "abacus"], "no machine is called 'abacus'"),
        ([*SMALL, "--machines", "none.yml"], "none.yml does not describe machines"),
        (["profile-machine", "--name", "My GPU"], "small letters, digits and hyphens"),
        (["profile-machine", "--out", "none.yml"], "none.yml does not describe machines"),
        (["predict", "resnet50", "--batch", "0"], "batch must be at least 1"),
        (["predict", "resnet50", "--batch", str(10**20)], "must be below 2**63"),
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


def test_a_verdict_is_sure_only_outside_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    def run(budget: str) -> tuple[int, str]:
        code = main([*SMALL, "--device", "h200", "--budget", budget])
        return code, capsys.readouterr().out

    row = next(one for one in run("4GiB")[1].splitlines() if "device memory" in one)
    needed, most = row.split("(")[0].split()[2], row.split("to ")[1].rstrip(")")
    code, told = run(f"{float(needed) + 1} MiB")
    assert (code, "\nmay just fit into" in told) == (0, True)
    assert f"it may need up to {most}" in told
    code, told = run("650MiB")
    assert (code, "\ndoes not fit into" in told) == (1, True)


def test_a_card_that_was_not_measured_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--device", "rtx-3070-ti"])
    assert "doubled, as this card was not measured" in capsys.readouterr().out


def test_a_larger_card_is_told_where_nothing_else_helps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["predict", SMALL[1], "--precision", "bf16", "--mode", "infer", "--batch", "1"]
    assert main([*arguments, "--budget", "5MiB"]) == 1
    told = capsys.readouterr().out
    assert "what would fit\n  --device rtx-4070-ti" in told


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"), 2, "too little memory"),
    ],
)
def test_a_run_that_ends_early_says_why(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli_predict, "predict", fail)
    assert main(SMALL) == code
    assert says in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = "from gpu_optimizer.cli import main; raise SystemExit(main(['doctor']))"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
