"""What this machine is, what is wrong with it for PyTorch on a GPU, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch

from gpu_optimizer.allocator_config import AllocatorConfig

Level = Literal["error", "warning", "note"]
_VARIABLES: Final = (
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUBLAS_WORKSPACE_CONFIG",
)
_LIBRARIES: Final = ("torchvision", "timm", "transformers", "pynvml")
_CPU_FLAGS: Final = ("avx2", "avx512f", "amx_bf16", "rdrand", "rdseed")


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found here.

    Attributes
    ----------
    python, system, torch_version : str
        Versions.
    cuda_version, cudnn_version : str or None
        What this PyTorch was built with; None: without CUDA.
    driver_version : str or None
        Of the NVIDIA driver; None: there is none, or it cannot be asked.
    cards : tuple of (str, int)
        Name and bytes of each usable GPU.
    has_nvml : bool
        Whether NVML answers.
    variables : mapping of str to str
        What is set of the variables that change memory or speed.
    libraries : mapping of str to bool
        Whether optional libraries are installed.
    cpu_flags : mapping of str to bool
        Of the processor; empty where they cannot be read.
    """

    python: str
    system: str
    torch_version: str
    cuda_version: str | None
    cudnn_version: str | None
    driver_version: str | None
    cards: tuple[tuple[str, int], ...]
    has_nvml: bool
    variables: Mapping[str, str]
    libraries: Mapping[str, bool]
    cpu_flags: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know, and what to do.

    Attributes
    ----------
    level : {"error", "warning", "note"}
        ``error``: a GPU cannot be used, or figures would be wrong.
    what, advice : str
        A sentence each.
    """

    level: Level
    what: str
    advice: str


def examine() -> Facts:
    """Return what this machine is. It makes no CUDA context."""
    nvml = _nvml()
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None  # type: ignore[no-untyped-call]
    return Facts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        torch_version=torch.__version__,
        cuda_version=torch.version.cuda,
        cudnn_version=None if cudnn is None else str(cudnn),
        driver_version=nvml or _kernel_driver(Path("/proc/driver/nvidia/version")),
        cards=_cards(),
        has_nvml=nvml is not None,
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        libraries={name: importlib.util.find_spec(name) is not None for name in _LIBRARIES},
        cpu_flags=_cpu_flags(Path("/proc/cpuinfo")),
    )


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return what is to be said about facts, the errors first."""
    found = [*_about_cuda(facts), *_about_variables(facts.variables), *_about_libraries(facts)]
    order = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _about_cuda(facts: Facts) -> Iterator[Finding]:
    if facts.cuda_version is None:
        yield Finding(
            "warning",
            f"PyTorch {facts.torch_version} is built without CUDA",
            "for a GPU install a build with CUDA, as pytorch.org tells; forecasts need none",
        )
    elif facts.driver_version is None and not facts.cards:
        yield Finding(
            "warning",
            "no NVIDIA driver answers",
            "without a GPU only forecasts are possible; in a container start it with --gpus all",
        )
    elif not facts.cards:
        yield Finding(
            "error",
            f"the driver {facts.driver_version} is here, but PyTorch sees no GPU",
            "see whether CUDA_VISIBLE_DEVICES hides it and whether the driver is new enough for "
            f"CUDA {facts.cuda_version}",
        )


def _about_variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    old, new = (variables.get(name) for name in _VARIABLES[:2])
    if old is not None and new is not None and old != new:
        yield Finding(
            "warning",
            "PYTORCH_CUDA_ALLOC_CONF and PYTORCH_ALLOC_CONF are both set, and differ",
            "set PYTORCH_ALLOC_CONF alone; the other is its old name",
        )
    for name, text in ((_VARIABLES[0], old), (_VARIABLES[1], new)):
        if text is not None:
            yield from _about_settings(name, text)
    if variables.get("PYTORCH_NO_CUDA_MEMORY_CACHING"):
        yield Finding(
            "error",
            "PYTORCH_NO_CUDA_MEMORY_CACHING turns PyTorch's allocator off",
            "unset it: without it forecasts, traces and limits do not hold, and steps are slow",
        )
    if variables.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        yield Finding(
            "warning",
            "CUDA_LAUNCH_BLOCKING makes every kernel wait",
            "unset it before anything is timed",
        )
    if variables.get("CUDA_MODULE_LOADING", "LAZY") == "EAGER":
        yield Finding(
            "note",
            "CUDA_MODULE_LOADING=EAGER loads all kernels into the CUDA context",
            "unset it to have that memory for tensors",
        )
    if "CUBLAS_WORKSPACE_CONFIG" in variables:
        yield Finding(
            "note",
            "CUBLAS_WORKSPACE_CONFIG changes what matrix products take",
            "measure this machine with it: gpu-optimizer profile-machine",
        )


def _about_settings(name: str, text: str) -> Iterator[Finding]:
    if "cudaMallocAsync" in text:
        yield Finding(
            "error",
            f"{name} takes CUDA's allocator in place of PyTorch's",
            "remove backend:cudaMallocAsync: its memory can be neither traced nor replayed",
        )
        return
    try:
        config = AllocatorConfig.parse(text)
    except ValueError as exc:
        yield Finding("error", f"{name} is refused: {exc}", "mend it or unset it")
        return
    if config.expandable_segments and config.max_split_size_mb is not None:
        # github.com/pytorch/pytorch/issues/123548 and pull request 193400
        yield Finding(
            "error",
            f"{name} has expandable_segments with max_split_size_mb: reserved memory may grow "
            "without bound",
            "keep expandable_segments and remove max_split_size_mb",
        )
    if config.expandable_segments and config.garbage_collection_threshold:
        # github.com/pytorch/pytorch/pull/134338
        yield Finding(
            "note",
            f"{name} has garbage_collection_threshold, which leaves expandable segments alone",
            "remove it; segments that expand need it less",
        )
    if config.per_process_memory_fraction < 1:
        yield Finding(
            "warning",
            f"{name} limits each process to {config.per_process_memory_fraction:g} of the card",
            "remove per_process_memory_fraction: a search for a batch sets its own",
        )


def _about_libraries(facts: Facts) -> Iterator[Finding]:
    if facts.cards and not facts.has_nvml:
        yield Finding(
            "warning",
            "NVML cannot be asked",
            "pip install nvidia-ml-py: the memory of the CUDA context is measured better with it",
        )
    missing = [name for name in _LIBRARIES[:3] if not facts.libraries.get(name, False)]
    if missing:
        yield Finding(
            "note",
            f"not installed: {', '.join(missing)}",
            "pip install 'gpu-optimizer[models]' for the models of the registry",
        )


def _cards() -> tuple[tuple[str, int], ...]:
    if not torch.cuda.is_available():
        return ()
    cards = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return tuple((str(card.name), int(card.total_memory)) for card in cards)


def _nvml() -> str | None:
    """Return the version of the driver as NVML tells it."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _kernel_driver(path: Path) -> str | None:
    """Return the version of the driver as the kernel tells it."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except OSError:
        return None
    versions = [word for word in words if word[:1].isdigit() and "." in word]
    return versions[0] if versions else None


def _cpu_flags(path: Path) -> dict[str, bool]:
    """Return which of the flags that matter a processor has."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    rows = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    return {flag: flag in rows[0] for flag in _CPU_FLAGS} if rows else {}
