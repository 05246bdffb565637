from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_optimizer import cli_doctor, doctor
from gpu_optimizer.cli import main
from gpu_optimizer.doctor import Facts, findings

LIBRARIES = dict.fromkeys(("torchvision", "timm", "transformers", "pynvml"), True)
HEALTHY = Facts(
    python="3.12.3",
    system="Linux x86_64",
    torch_version="2.11.0",
    cuda_version="13.0",
    cudnn_version="91900",
    driver_version="580.159",
    cards=(("NVIDIA H200", 2**37),),
    has_nvml=True,
    variables={},
    libraries=LIBRARIES,
    cpu_flags={"avx2": True},
)


def with_settings(text: str) -> Facts:
    return replace(HEALTHY, variables={"PYTORCH_ALLOC_CONF": text})


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    assert findings(HEALTHY) == ()
    assert findings(with_settings("expandable_segments:True")) == ()


@pytest.mark.parametrize(
    ("facts", "level", "said"),
    [
        (replace(HEALTHY, cuda_version=None), "warning", "built without CUDA"),
        (replace(HEALTHY, cards=(), driver_version=None), "warning", "no NVIDIA driver answers"),
        (replace(HEALTHY, cards=()), "error", "PyTorch sees no GPU"),
        (replace(HEALTHY, has_nvml=False), "warning", "NVML cannot be asked"),
        (replace(HEALTHY, libraries={}), "note", "not installed: torchvision, timm"),
        (
            with_settings("expandable_segments:True,max_split_size_mb:128"),
            "error",
            "may grow without bound",
        ),
        (
            with_settings("expandable_segments:True,garbage_collection_threshold:0.8"),
            "note",
            "leaves expandable segments alone",
        ),
        (with_settings("backend:cudaMallocAsync"), "error", "in place of PyTorch's"),
        (with_settings("max_split_size:128"), "error", "is refused: unknown allocator setting"),
        (with_settings("per_process_memory_fraction:0.5"), "warning", "0.5 of the card"),
    ],
)
def test_what_is_wrong_is_found(facts: Facts, level: str, said: str) -> None:
    found = findings(facts)
    assert [finding.level for finding in found] == [level]
    assert said in found[0].what


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, "error"),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, "warning"),
        ({"CUDA_MODULE_LOADING": "EAGER"}, "note"),
        ({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}, "note"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "", "PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "warning"),
    ],
)
def test_variables_that_change_memory_or_speed_are_told(
    variables: dict[str, str], level: str
) -> None:
    assert [item.level for item in findings(replace(HEALTHY, variables=variables))] == [level]


def test_errors_come_first() -> None:
    ill = replace(HEALTHY, libraries={}, variables={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    assert [finding.level for finding in findings(ill)] == ["error", "note"]


def test_facts_and_findings_are_printed_and_errors_exit_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_doctor, "examine", lambda: HEALTHY)
    assert main(["doctor"]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    monkeypatch.setattr(cli_doctor, "examine", lambda: with_settings("nonsense"))
    assert main(["doctor"]) == 1
    assert "error: PYTORCH_ALLOC_CONF is refused" in capsys.readouterr().out


def test_this_machine_can_be_examined(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["python"].startswith("3.")
    assert set(facts["libraries"]) == set(LIBRARIES)


def test_the_driver_and_the_processor_are_read_from_files(tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue\n")
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("processor : 0\nflags\t\t: fpu avx2 rdrand\n")
    assert doctor._kernel_driver(version) == "580.159.04"
    assert doctor._kernel_driver(tmp_path / "none") is None
    assert doctor._cpu_flags(cpu)["rdrand"]
    assert not doctor._cpu_flags(cpu)["avx512f"]
    assert doctor._cpu_flags(tmp_path / "none") == {}
