"""GPU tests skip where there is no GPU, and cannot skip in silence where there must be one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
TORCH = "class cuda:\n    is_available = staticmethod(lambda: {found})\n"
"""Stands in for torch, which takes ten seconds to say the same."""


@pytest.mark.parametrize(
    ("found", "required", "outcome"),
    [
        (False, "0", "1 passed, 1 skipped"),
        (False, "1", "1 passed, 1 error"),
        (True, "0", "2 passed"),
        (True, "1", "2 passed"),
    ],
)
def test_a_gpu_test(tmp_path: Path, found: bool, required: str, outcome: str) -> None:
    for name, text in {
        "tests/gpu/test_a.py": "def test_on_the_gpu(): pass\n",
        "tests/unit/test_b.py": "def test_elsewhere(): pass\n",
        "torch.py": TORCH.format(found=found),
        "pytest.ini": "[pytest]\nmarkers = gpu: needs a CUDA device\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(REPOSITORY / "tests" / "conftest.py", tmp_path / "tests")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "REQUIRE_GPU": required,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout
    assert (done.returncode != 0) is ("error" in outcome)
