"""Run a task of pixi.toml without pixi: make ``.venv`` once, then run the same command in it.

Only the standard library, because nothing is installed yet when this runs.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from setup_env import SetupError, read_stamp

REPOSITORY: Final = Path(__file__).resolve().parents[1]
_KEYS: Final = {"cmd", "depends-on", "description", "env"}


@dataclass(frozen=True, slots=True)
class Task:
    """One entry of the table of tasks.

    Attributes
    ----------
    command : str
        One line for sh; empty if the task only depends on others.
    description : str
        One line for the listing.
    depends_on : tuple of str
        Tasks that run before, in order.
    env : mapping of str to str
        Variables of this command.
    """

    command: str
    description: str = ""
    depends_on: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


def read_tasks(manifest: Path) -> dict[str, Task]:
    """Return the tasks of a pixi manifest, by name.

    Raises
    ------
    SetupError
        If a task uses a key that only pixi understands.
    """
    with manifest.open("rb") as file:
        table = tomllib.load(file)["tasks"]
    tasks = {}
    for name, entry in table.items():
        unknown = sorted(set(entry) - _KEYS)
        if unknown:
            raise SetupError(f"{manifest.name}: task {name}: scripts/run knows no key {unknown[0]}")
        tasks[name] = Task(
            command=str(entry.get("cmd", "")),
            description=str(entry.get("description", "")),
            depends_on=tuple(entry.get("depends-on", ())),
            env={str(key): str(value) for key, value in entry.get("env", {}).items()},
        )
    return tasks


def in_order(tasks: dict[str, Task], name: str) -> list[str]:
    """Return ``name`` and all it depends on, each once, dependencies first.

    Raises
    ------
    SetupError
        If a task does not exist, or depends on itself.
    """
    ordered: list[str] = []

    def visit(current: str, path: tuple[str, ...]) -> None:
        if current in path:
            raise SetupError(f"the tasks depend on each other: {' -> '.join([*path, current])}")
        if current not in tasks:
            raise SetupError(f"no task {current!r}; the tasks are: {', '.join(tasks)}")
        for dependency in tasks[current].depends_on:
            visit(dependency, (*path, current))
        if current not in ordered:
            ordered.append(current)

    visit(name, ())
    return ordered


def ensure_venv(folder: Path) -> None:
    """Make a virtual environment there, unless a working one is there already.

    Raises
    ------
    SetupError
        If this Python cannot make one; the message says what to install.
    """
    if folder.exists():
        if _works(folder) and read_stamp(folder).get("prefix", str(folder)) == str(folder):
            return
        # A moved folder or a Python that was removed leaves scripts that point nowhere.
        print(f"scripts/run: {folder.name} was moved or its Python is gone; making it anew")
        shutil.rmtree(folder)
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise SetupError(
                f"this Python has no module {module}; on Debian and Ubuntu install it with "
                f"'apt install python{version}-venv' and run this again"
            )
    print(f"scripts/run: making {folder.name} with Python {sys.version.split()[0]}", flush=True)
    try:
        venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise SetupError(f"cannot make {folder}: {exc}") from exc


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of this process with the virtual environment activated."""
    variables = dict(os.environ)
    variables["VIRTUAL_ENV"] = str(folder)
    variables["PATH"] = f"{folder / 'bin'}{os.pathsep}{variables.get('PATH', os.defpath)}"
    for stray in ("PYTHONHOME", "__PYVENV_LAUNCHER__"):
        variables.pop(stray, None)
    return variables


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a task after all it depends on; return the first exit code that is not 0."""
    tasks = read_tasks(REPOSITORY / "pixi.toml")
    names = in_order(tasks, name)
    folder = REPOSITORY / ".venv"
    ensure_venv(folder)
    variables = environment(folder)
    for current in names:
        command = tasks[current].command
        if current == name and arguments:
            command = f"{command} {shlex.join(arguments)}"
        done = subprocess.run(  # noqa: S602 - the commands are this repository's own table
            command,
            shell=True,
            cwd=REPOSITORY,
            env={**variables, **tasks[current].env},
            check=False,
        )
        if done.returncode != 0:
            return done.returncode if done.returncode > 0 else 128 - done.returncode
    return 0


def main(argv: Sequence[str]) -> int:
    """List the tasks, or run one."""
    try:
        if not argv or argv[0] in {"-h", "--help"}:
            print("usage: scripts/run TASK [ARGUMENT ...]\n\ntasks:")
            for name, task in read_tasks(REPOSITORY / "pixi.toml").items():
                print(f"  {name:<28}{task.description}")
            return 0
        return run(argv[0], argv[1:])
    except SetupError as exc:
        print(f"scripts/run: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _works(folder: Path) -> bool:
    """Say whether the environment's Python starts and is one that the lock serves."""
    check = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))"
    python = folder / "bin" / "python"
    try:
        done = subprocess.run([str(python), "-c", check], capture_output=True, check=False)  # noqa: S603 - our own file
    except OSError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
