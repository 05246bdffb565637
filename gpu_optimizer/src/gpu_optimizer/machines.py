"""What a machine takes besides a program's tensors, measured once for each and kept in a file."""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Final

import yaml

from gpu_optimizer.errors import DeviceError

DEFAULT_MACHINE: Final = "rtx-3070-ti"
_ATTENTIONS: Final = ("cudnn", "flash")
_FILE: Final = "machines.yml"


@dataclass(frozen=True, slots=True)
class Machine:
    """A card and its constants.

    Attributes
    ----------
    name, gpu : str
        What users call it, and what its driver does.
    total_bytes : int
        Memory of the card.
    context_bytes : int or None
        Outside of PyTorch's allocator: CUDA context and kernels. None: not measured.
    cublas_workspace_bytes : int
        For each thread that multiplies matrices.
    attention : {"cudnn", "flash"}
        The kernel of attention in half precision without a mask.
    n_processors : int
        Streaming multiprocessors, at least 1.
    is_measured : bool
        Whether these were measured on such a card, or taken from documentation.
    rates : mapping of str to float
        What it moves and computes, by names of `machine_profile.RATES`; empty: not measured.
    """

    name: str
    gpu: str
    total_bytes: int
    context_bytes: int | None
    cublas_workspace_bytes: int
    attention: str
    n_processors: int
    is_measured: bool
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        # YAML may have put anything here.
        kinds: tuple[tuple[str, object, type], ...] = (
            ("gpu", self.gpu, str),
            ("is_measured", self.is_measured, bool),
        )
        for name, value, kind in kinds:
            if not isinstance(value, kind):
                raise TypeError(f"{name} of {self.name} must be a {kind.__name__}, got {value!r}")
        sizes: tuple[tuple[str, object, int], ...] = (
            ("total_bytes", self.total_bytes, 1),
            ("context_bytes", 0 if self.context_bytes is None else self.context_bytes, 0),
            ("cublas_workspace_bytes", self.cublas_workspace_bytes, 0),
            ("n_processors", self.n_processors, 1),
        )
        for name, size, least in sizes:
            if not isinstance(size, int) or isinstance(size, bool) or size < least:
                raise ValueError(
                    f"{name} of {self.name} must be a whole number from {least}, got {size!r}"
                )
        for name, rate in self.rates.items():
            if not _is_rate(rate):
                raise ValueError(f"{name} of {self.name} must be a number from 0, got {rate!r}")
        if self.attention not in _ATTENTIONS:
            raise ValueError(f"attention must be {' or '.join(_ATTENTIONS)}, got {self.attention}")


def _is_rate(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf  # type: ignore[operator]


def load_machines(path: Path | None = None) -> dict[str, Machine]:
    """Return the machines of a file by name.

    Parameters
    ----------
    path : Path, optional
        YAML; by default the ``machines.yml`` that comes with the package.

    Raises
    ------
    DeviceError
        If the file cannot be read or is not of this form.
    """
    path = machines_path() if path is None else path
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = content["machines"].items()
        return {name: _machine(name, entry) for name, entry in entries}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as exc:
        raise DeviceError(f"{path} does not describe machines ({exc}): mend or replace it") from exc


def machines_path() -> Path:
    """Return the file that comes with the package."""
    return Path(str(importlib.resources.files("gpu_optimizer"))) / _FILE


def find_machine(name: str, path: Path | None = None) -> Machine:
    """Return one machine of a file.

    Raises
    ------
    DeviceError
        If it is not there; the message lists those that are.
    """
    machines = load_machines(path)
    if name not in machines:
        raise DeviceError(f"no machine is called {name!r}: known are {', '.join(sorted(machines))}")
    return machines[name]


def _machine(name: str, entry: Mapping[str, object]) -> Machine:
    wanted = {item.name for item in fields(Machine)} - {"name"}
    optional = {item.name for item in fields(Machine) if item.default_factory is not MISSING}
    if not wanted - optional <= set(entry) <= wanted:
        raise ValueError(f"{name} must have {', '.join(sorted(wanted))}, got {', '.join(entry)}")
    return Machine(name=name, **entry)  # type: ignore[arg-type]
