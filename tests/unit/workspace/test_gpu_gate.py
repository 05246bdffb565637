"""GPU tests skip where there is no GPU, and cannot skip in silence where there must be one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize(("required", "outcome"), [("0", "2 skipped"), ("1", "2 errors")])
def test_without_a_gpu(required: str, outcome: str) -> None:
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "REQUIRE_GPU": required}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests/gpu/test_device.py",
            "-q",
            "-p",
            "no:cacheprovider",
        ],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout
    assert (done.returncode == 0) is (required == "0")
