"""Writes what was measured of a machine into a file of machines, and leaves the rest as it is."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import yaml

from gpu_optimizer.errors import DeviceError
from gpu_optimizer.machines import Machine, load_machines


def machine_line(machine: Machine) -> str:
    """Return a machine as a line of the file."""
    entry = {key: _plain(value) for key, value in asdict(machine).items() if key != "name"}
    if not machine.rates:
        del entry["rates"]
    text = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10**6)
    return f"  {machine.name}: {text.strip()}"


def _plain(value: object) -> object:
    """Return plain numbers, rates with as many digits as they were measured to."""
    if isinstance(value, dict):
        return {str(key): float(f"{number:.4g}") for key, number in value.items()}
    return value


def write_machine(path: Path, machine: Machine) -> None:
    """Put a machine into a file in place of one of the same name, or as its last.

    Comments and the other machines stay as they are, byte by byte.

    Parameters
    ----------
    path : Path
        Written whole or not at all. A link is followed.
    machine : Machine
        Named in small letters, digits and hyphens.

    Raises
    ------
    DeviceError
        If the file is not one of machines, each on a line of its own, or cannot be written.
    """
    path = path.resolve()
    before = load_machines(path)
    text = path.read_text(encoding="utf-8")
    line = machine_line(machine)
    old = re.compile(rf"^  {re.escape(machine.name)}:.*$", flags=re.MULTILINE)
    if old.search(text):
        text = old.sub(lambda _: line, text, count=1)
    else:
        text = f"{text.rstrip()}\n{line}\n"
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(text, encoding="utf-8")
        after = load_machines(temporary)
        if {**before, machine.name: after.get(machine.name)} != after:
            raise DeviceError(f"{path} does not have a line for each machine: write them so first")
        temporary.replace(path)
    except OSError as exc:
        raise DeviceError(f"{path} cannot be written ({exc}): name another file") from exc
    finally:
        temporary.unlink(missing_ok=True)
