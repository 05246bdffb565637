"""What holds for every test: where a GPU is needed, and no more threads than the test needs."""

from __future__ import annotations

import os

import pytest

# Two test runs on one machine must not fight over cores; set before a numeric library is loaded.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "2")
# Ultralytics looks for updates, fonts and settings on the network otherwise.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything below tests/gpu as a GPU test."""
    for item in items:
        if "gpu" in item.path.parts[-2:-1]:
            item.add_marker("gpu")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests without a GPU; fail them where REQUIRE_GPU=1 says that there is one."""
    if item.get_closest_marker("gpu") is None or _has_cuda():
        return
    if os.environ.get("REQUIRE_GPU") == "1":
        pytest.fail("REQUIRE_GPU=1, but torch finds no CUDA device", pytrace=False)
    pytest.skip("needs a CUDA device")


def _has_cuda() -> bool:
    import torch  # seconds to import, so only where a GPU test asks

    return bool(torch.cuda.is_available())
