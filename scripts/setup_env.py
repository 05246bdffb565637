"""Bring the active environment in line with requirements.lock; at once when nothing changed.

Only the standard library, because nothing is installed yet when this runs. It works in a virtual
environment and in pixi's, and refuses any other Python: syncing removes what the lock does not
name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("pose_analyzer", "gpu_optimizer", "client")
LOCK: Final = REPOSITORY / "requirements.lock"
STAMP: Final = "workspace-setup.json"
NEEDED_BYTES: Final = 8 * 2**30
"""A fresh environment: the CUDA build of torch is most of it."""


class SetupError(Exception):
    """The environment cannot be set up; the message says what to do."""


def digest(files: Sequence[Path]) -> str:
    """Return a digest of the contents of the files, in order."""
    total = hashlib.sha256()
    for path in files:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def read_stamp(prefix: Path) -> dict[str, str]:
    """Return what the last finished setup of an environment recorded; empty if there was none."""
    try:
        stamp = json.loads((prefix / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in stamp.items()}


def uv_environment(variables: Mapping[str, str], pip_settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for uv, which reads none of pip's settings.

    Somebody whose pip is set up for a mirror or a proxy's certificate need not do it twice; uv's
    own variables win.
    """
    merged = dict(variables)
    index = variables.get("PIP_INDEX_URL") or pip_settings.get("index-url", "")
    if index and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX"} & set(variables):
        merged["UV_DEFAULT_INDEX"] = index
    certificate = variables.get("PIP_CERT") or pip_settings.get("cert", "")
    if certificate:
        merged.setdefault("SSL_CERT_FILE", certificate)
    # The largest wheels take minutes on a slow line; uv's own limit is 30 s without a byte.
    merged.setdefault("UV_HTTP_TIMEOUT", "300")
    return merged


def pinned(lock_text: str, name: str) -> str:
    """Return the entry of one package in the lock, with its hashes.

    Raises
    ------
    SetupError
        If the lock does not name it.
    """
    match = re.search(rf"^{re.escape(name)}==.*(?:\n +--hash=.*)+", lock_text, flags=re.MULTILINE)
    if match is None:
        raise SetupError(f"requirements.lock names no {name}; run the task 'lock'")
    return match[0] + "\n"


def main() -> int:
    """Set the active environment up if the lock or a package's metadata changed."""
    prefix = Path(sys.prefix)
    try:
        _require_own_environment(prefix)
        wanted = {
            "digest": digest([LOCK, *(REPOSITORY / name / "pyproject.toml" for name in PACKAGES)]),
            "repository": str(REPOSITORY),
            "prefix": str(prefix),
        }
        if read_stamp(prefix) == wanted:
            return 0
        with _one_at_a_time(prefix):
            if read_stamp(prefix) != wanted:
                _install(prefix)
                (prefix / STAMP).write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    except SetupError as exc:
        print(f"setup: {exc}", file=sys.stderr)
        return 2
    return 0


def _require_own_environment(prefix: Path) -> None:
    is_pixi = (prefix / "conda-meta").is_dir() and "PIXI_PROJECT_ROOT" in os.environ
    if sys.prefix == sys.base_prefix and not is_pixi:
        raise SetupError(
            f"{sys.executable} is not an environment of this repository; "
            "run 'scripts/run setup' or 'pixi run setup'"
        )


@contextlib.contextmanager
def _one_at_a_time(prefix: Path) -> Iterator[None]:
    """Let two setups of the same environment run after each other."""
    with (prefix / (STAMP + ".lock")).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(prefix: Path) -> None:
    """Sync the lock, then add the repository's own packages, editable."""
    if not read_stamp(prefix) and not (prefix / "bin" / "pytest").exists():
        _require_disk(prefix)
    print("setup: installing requirements.lock (minutes the first time)", flush=True)
    variables = uv_environment(os.environ, _pip_settings())
    uv = _uv(prefix)
    target = ["--python", sys.executable]
    if (prefix / "conda-meta").is_dir():
        target.append("--break-system-packages")  # it is pixi's environment, made for this
    _run([uv, "pip", "sync", *target, "--require-hashes", str(LOCK)], variables)
    # The sync may have put another uv in place of this one.
    uv = _uv(prefix)
    editables = [part for name in PACKAGES for part in ("--editable", str(REPOSITORY / name))]
    offline = ["--offline", "--no-deps", "--no-build-isolation"]
    _run([uv, "pip", "install", *target, *offline, *editables], variables)


def _require_disk(prefix: Path) -> None:
    free = shutil.disk_usage(prefix).free
    if free < NEEDED_BYTES:
        raise SetupError(
            f"the environment needs about {NEEDED_BYTES / 2**30:.0f} GiB at {prefix}, but only "
            f"{free / 2**30:.1f} GiB are free; make room and run this again"
        )


def _pip_settings() -> dict[str, str]:
    """Return pip's global settings by name; empty without pip."""
    if importlib.util.find_spec("pip") is None:
        return {}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return dict(re.findall(r"^global\.([a-z-]+)='(.*)'$", done.stdout, flags=re.MULTILINE))


def _uv(prefix: Path) -> str:
    """Return the environment's own uv, installing the locked one if there is none."""
    uv = prefix / "bin" / "uv"
    if not uv.exists():
        if importlib.util.find_spec("pip") is None:
            _run([sys.executable, "-m", "ensurepip", "--upgrade"], os.environ)
        with tempfile.TemporaryDirectory() as folder:
            requirement = Path(folder) / "uv.txt"
            requirement.write_text(pinned(LOCK.read_text(encoding="utf-8"), "uv"))
            arguments = ["install", "--quiet", "--require-hashes", "--no-deps", "-r", requirement]
            variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            _run([sys.executable, "-m", "pip", *map(str, arguments)], variables)
    return str(uv)


def _run(command: Sequence[str], variables: Mapping[str, str]) -> None:
    done = subprocess.run(list(command), env=dict(variables), check=False)  # noqa: S603 - uv or pip
    if done.returncode == 0:
        return
    for folder in (Path(sys.prefix), Path(tempfile.gettempdir()), Path.home()):
        if shutil.disk_usage(folder).free < 2**28:
            raise SetupError(
                f"the disk is full at {folder}; the environment and its download cache need about "
                f"{NEEDED_BYTES / 2**30:.0f} GiB; make room and run this again"
            )
    raise SetupError(
        "installing failed, see above. If the package index cannot be reached, set the variables "
        "of uv and pip for your proxy or mirror (HTTPS_PROXY, UV_DEFAULT_INDEX, PIP_INDEX_URL), "
        "then run this again: it goes on where it stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
