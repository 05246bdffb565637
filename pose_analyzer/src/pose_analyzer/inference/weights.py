"""Where the weights of a YOLO pose network are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pose_analyzer.errors import WeightsMissingError

DEFAULT_WEIGHTS: Final = ("yolo11n-pose.pt", "yolo11n-pose.onnx")
"""What is looked for when no weights are named, in this order in each place."""
_NETWORK_ENDINGS: Final = (".xml", ".onnx", ".engine")
RELEASE_ADDRESS: Final = "https://github.com/ultralytics/assets/releases/download/v8.4.0/"
"""The official release of the publisher of YOLO11, as Ultralytics 8.4 itself uses it."""


def weight_folders() -> tuple[Path, ...]:
    """Return the folders where a bare file name is looked for, first match wins.

    The current folder, ``$POSE_WEIGHTS_DIR``, and the user's cache,
    ``~/.cache/pose_analyzer/weights``.
    """
    configured = os.environ.get("POSE_WEIGHTS_DIR", "")
    middle = (Path(configured).expanduser(),) if configured else ()
    return (Path.cwd(), *middle, cache_folder() / "weights")


def cache_folder() -> Path:
    """Return the package's folder in the user's cache; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "pose_analyzer"


def find_weights(weights: str | Path | None = None) -> Path:
    """Return the path of the weights.

    Parameters
    ----------
    weights : str or Path, optional
        A path, or a bare file name to look for in `weight_folders`. Without it, the first of
        `DEFAULT_WEIGHTS`.

    Raises
    ------
    WeightsMissingError
        If there is no such file; says where to get it and where to put it.
    """
    names = DEFAULT_WEIGHTS if weights is None else (str(weights),)
    for path in _candidates(names):
        if path.exists():
            return path
    raise WeightsMissingError(_missing_message(names[0]))


def exported_network(path: Path) -> Path:
    """Return the one network in an exported folder; any other path as it is.

    Raises
    ------
    WeightsMissingError
        If the folder holds no network, or several.
    """
    if not path.is_dir():
        return path
    found = [file for ending in _NETWORK_ENDINGS for file in sorted(path.glob(f"*{ending}"))]
    if len(found) != 1:
        raise WeightsMissingError(
            f"{path} holds {len(found)} networks ({', '.join(_NETWORK_ENDINGS)}); "
            "give a folder with one, or the file"
        )
    return found[0]


def _candidates(names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the paths to try: a name with a folder is itself, a bare one lies in any place."""
    for name in names:
        path = Path(name).expanduser()
        if path.name != str(path):
            yield path
    for folder in weight_folders():
        for name in names:
            if Path(name).name == name:
                yield folder / name


def _missing_message(name: str) -> str:
    """Say in one sentence which file is missing, where to get it and where to put it."""
    if Path(name).name != name:
        return f"weights {name} do not exist; give the path of a file that does"
    folders = ", ".join(str(folder) for folder in weight_folders())
    source = (
        f"get it from {RELEASE_ADDRESS}{name} (or pass --download-weights, in Python download=True)"
        if is_published(name)
        else "export it or get it from who made it"
    )
    return f"weights {name} were not found: {source}, and put it into one of: {folders}"


def is_published(name: str) -> bool:
    """Return whether the release is known to hold a file of that name."""
    return name in {f"yolo{family}{size}-pose.pt" for family in ("11", "26") for size in "nsmlx"}


def download_target(weights: str | Path | None = None) -> Path:
    """Return where a download of published weights is put.

    Raises
    ------
    WeightsMissingError
        If the name is not one of the published ones.
    """
    name = DEFAULT_WEIGHTS[0] if weights is None else str(weights)
    if not is_published(name):
        raise WeightsMissingError(_missing_message(name))
    return cache_folder() / "weights" / name
