"""The file of an `AnomalyModel`: plain arrays in an npz, every one checked when it is read.

A damaged file must not judge: a part of another kind, shape or range is refused, so that nothing
that was read can raise later, or answer "no anomaly" because of a NaN.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pose_analyzer.anomaly_model import N_FEATURES, N_PHASES, AnomalyModel
from pose_analyzer.errors import ReferencesError
from pose_analyzer.isolation_forest import IsolationForest
from pose_analyzer.types import BoolArray, FloatArray, IntArray

FORMAT_VERSION: Final = 2

_UNREADABLE: Final = (
    OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, SyntaxError, MemoryError,
    OverflowError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise at a file that was cut or changed."""

Arrays = dict[str, npt.NDArray[np.generic]]


class StoredModel(NamedTuple):
    """What a file holds."""

    model: AnomalyModel
    channels: tuple[str, ...]
    floors: FloatArray
    own: FloatArray | None


def save_model(path: Path, stored: StoredModel) -> None:
    """Write a model as a compressed npz without pickle.

    Raises
    ------
    ReferencesError
        If the file cannot be written.
    """
    model = stored.model
    arrays: Arrays = {
        "format_version": np.array(FORMAT_VERSION),
        "channels": np.array(stored.channels),
        "floors": stored.floors,
        "offset": model.offset,
        "spread": model.spread,
        "curves": model.curves.astype(np.float32),
        "numbers": np.array([model.threshold, model.false_positive_rate, model.own_weight]),
        "calibration": model.calibration.astype(np.float32),
        "calibration_scores": model.calibration_scores,
        "athletes": model.athletes,
        "own": np.empty(0) if stored.own is None else stored.own.astype(np.float32),
        **{f"forest_{name}": array for name, array in model.forest.arrays().items()},
    }
    try:
        with path.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as exc:
        raise ReferencesError(f"cannot write the anomaly model {path}: {exc.strerror}") from exc


def load_model(path: Path) -> StoredModel:
    """Return what `save_model` wrote.

    Raises
    ------
    ReferencesError
        If the file is missing, is no such model, is damaged, or of another version.
    """
    try:
        # np.load leaves a file that it cannot read open, unless it is ours to close.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as exc:
        raise ReferencesError(f"there is no anomaly model {path}; fit one and save it") from exc
    except _UNREADABLE as exc:
        raise ReferencesError(f"{path} is not an anomaly model or is damaged; fit it anew") from exc
    parts = _Parts(path, arrays)
    parts.require_version()
    return _stored(parts)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The arrays of a file, each returned only as what it must be."""

    path: Path
    arrays: Arrays

    def require_version(self) -> None:
        version = self.arrays.get("format_version")
        if version is not None and version.shape == () and version.dtype.kind in "iu":
            if int(version) == FORMAT_VERSION:
                return
            found = f"version {int(version)}"
        else:
            found = "no version"
        raise ReferencesError(
            f"{self.path} is an anomaly model of {found}, this release reads version "
            f"{FORMAT_VERSION}; fit it anew from its references"
        )

    def require(self, name: str, *, is_right: bool | np.bool_) -> None:
        if not is_right:
            raise ReferencesError(f"{self.path} is damaged in {name}; fit it anew")

    def array(self, name: str) -> npt.NDArray[np.generic]:
        if name not in self.arrays:
            raise ReferencesError(f"{self.path} lacks {name}: it is damaged; fit it anew")
        return self.arrays[name]

    def of_kind(self, name: str, kinds: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        """Return a part; -1 in the shape stands for any length."""
        found = self.array(name)
        fits = found.ndim == len(shape) and all(
            wanted in (-1, length) for wanted, length in zip(shape, found.shape, strict=False)
        )
        self.require(name, is_right=found.dtype.kind in kinds and fits)
        return found

    def floats(self, name: str, shape: tuple[int, ...], *, may_be_nan: bool = False) -> FloatArray:
        values = self.of_kind(name, "f", shape).astype(np.float64)
        is_right = ~np.isinf(values) if may_be_nan else np.isfinite(values)
        self.require(name, is_right=is_right.all())
        return values

    def integers(self, name: str, shape: tuple[int, ...], least: int, below: int) -> IntArray:
        values = self.of_kind(name, "iu", shape).astype(np.intp)
        self.require(name, is_right=((values >= least) & (values < below)).all())
        return values

    def curves(self, name: str, unused: BoolArray) -> FloatArray:
        """Return scaled repetitions, of which each shows a channel throughout or not at all."""
        values = self.floats(name, (-1, N_PHASES, len(unused)), may_be_nan=True)
        is_hidden = np.isnan(values)
        is_whole = (is_hidden.any(axis=1) == is_hidden.all(axis=1)).all()
        self.require(name, is_right=is_whole and is_hidden[:, :, unused].all())
        return values


def _stored(parts: _Parts) -> StoredModel:
    channels = tuple(str(name) for name in parts.of_kind("channels", "U", (-1,)))
    n_channels = len(channels)
    floors = parts.floats("floors", (n_channels,))
    parts.require("floors", is_right=(floors >= 0.0).all())
    offset, spread = (
        parts.floats(name, (n_channels,), may_be_nan=True) for name in ("offset", "spread")
    )
    unused = np.isnan(spread)
    parts.require("offset", is_right=(np.isnan(offset) == unused).all())
    parts.require("spread", is_right=not unused.all() and (spread[~unused] > 0.0).all())
    curves = parts.curves("curves", unused)
    parts.require("curves", is_right=len(curves) >= 2)
    calibration = parts.curves("calibration", unused)
    n_calibration = len(calibration)
    whose = parts.of_kind("athletes", "iu", (-1,))
    athletes = parts.integers("athletes", (n_calibration if whose.size else 0,), 0, 2**31)
    numbers = parts.floats("numbers", (3,), may_be_nan=True)
    threshold, rate, own_weight = (float(value) for value in numbers)
    has_threshold = np.isfinite(threshold) and 0.0 < rate < 1.0
    parts.require("numbers", is_right=has_threshold or np.isnan(numbers[:2]).all())
    parts.require("numbers", is_right=0.0 <= own_weight <= 1.0)
    model = dataclasses.replace(
        AnomalyModel.restored(offset, spread, curves, _forest(parts, n_channels)),
        threshold=threshold,
        false_positive_rate=rate,
        calibration=calibration,
        calibration_scores=parts.floats("calibration_scores", (n_calibration,)),
        athletes=athletes,
        own_weight=own_weight,
    )
    has_own = own_weight > 0.0 or parts.array("own").shape != (0,)
    own = parts.curves("own", unused) if has_own else None
    parts.require("own", is_right=own is None or len(own) > 0)
    return StoredModel(model, channels, floors, own)


def _forest(parts: _Parts, n_channels: int) -> IsolationForest:
    """Return the forest, in which every path from a root ends in a leaf."""
    feature = parts.integers("forest_feature", (-1, -1), -(2**15), N_FEATURES * n_channels)
    n_nodes = feature.shape[1]
    parts.require("forest_feature", is_right=feature.size > 0)
    is_inner = feature >= 0
    left, right = (
        parts.integers(name, feature.shape, -(2**15), n_nodes)
        for name in ("forest_left", "forest_right")
    )
    for name, child in (("forest_left", left), ("forest_right", right)):
        parts.require(name, is_right=(child > np.arange(n_nodes))[is_inner].all())
    return IsolationForest(
        feature,
        parts.floats("forest_threshold", feature.shape),
        left,
        right,
        parts.floats("forest_path_length", feature.shape),
        int(parts.integers("forest_n_samples", (), 2, 2**31)),
    )
