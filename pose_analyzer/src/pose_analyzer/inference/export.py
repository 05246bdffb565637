"""Export a YOLO pose network, measure what it lost, and refuse what lost too much."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pose_analyzer import __version__
from pose_analyzer.errors import ExportError
from pose_analyzer.inference.backends.onnx_runtime import OnnxPose, open_session
from pose_analyzer.inference.backends.openvino_model import open_openvino_session
from pose_analyzer.inference.backends.ultralytics_model import UltralyticsPose
from pose_analyzer.inference.detector import PoseBackend
from pose_analyzer.inference.export_formats import (
    FORMATS,
    PRECISIONS,
    NetworkPlan,
    make_network,
    require_libraries,
)
from pose_analyzer.inference.export_gate import (
    LOWEST_CONFIDENCE,
    MAX_KEYPOINT_LOSS,
    Agreement,
    TruePeople,
    compare,
)
from pose_analyzer.inference.export_onnx import source_onnx
from pose_analyzer.types import Frame

RECORD: Final = "export.json"
"""What an export's folder says of itself."""
KEPT_SHARES: Final = (0.0, 0.25, 0.5)
"""INT8 leaves these shares of the convolutions in FP32, counted from the output, one after another
until the export holds: the last half loses the most (reports/export.md)."""
AIMED_ANGLE_DEG: Final = 1.0
"""Mean difference of joint angles at which INT8 stops looking for better (chosen by us)."""
_LIBRARIES: Final = ("openvino", "nncf", "onnx", "onnxruntime", "tensorrt", "ultralytics")


@dataclass(frozen=True, slots=True)
class ExportFrames:
    """The pictures of an export.

    Attributes
    ----------
    description : str
        Where they come from, for the record.
    calibration : tuple of Frame
        What INT8 takes its ranges from.
    held_out : tuple of Frame
        What the export is judged on; none of them is in ``calibration``.
    truth : tuple of TruePeople or None
        Who is in the held-out frames, where that is known.
    """

    description: str
    calibration: tuple[Frame, ...]
    held_out: tuple[Frame, ...]
    truth: tuple[TruePeople, ...] | None = None


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export.

    Attributes
    ----------
    weights : Path
        ``.pt`` or ``.onnx``.
    out : Path
        The folder to make; an earlier export in it is replaced, anything else is left alone.
    format, precision : str
        One of `FORMATS` and of `PRECISIONS`.
    image_size : tuple of int
        Height and width in pixels of the network's input, multiples of 32, for weights that leave
        it open. An ``.onnx`` with a fixed input keeps its own.
    accept_loss : bool
        Whether to keep an export that lost more than `MAX_KEYPOINT_LOSS`.
    """

    weights: Path
    out: Path
    format: str = "openvino"
    precision: str = "int8"
    image_size: tuple[int, int] = (640, 640)
    accept_loss: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("format", self.format, FORMATS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if any(side < 32 or side % 32 for side in self.image_size):
            raise ValueError(f"image_size must be multiples of 32, got {self.image_size}")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export made.

    Attributes
    ----------
    network : Path
        The file that runs; `YOLOPosev11Detector` also takes its folder.
    agreement : Agreement
        How near it comes to its source.
    """

    network: Path
    agreement: Agreement


def export_network(request: ExportRequest, frames: ExportFrames) -> ExportResult:
    """Export a network into a folder of its own, with its record, and return what it lost.

    An INT8 export is made with more and more of the network in FP32 until it loses no more than
    `MAX_KEYPOINT_LOSS` and `AIMED_ANGLE_DEG`. The folder appears when the export is complete and
    accepted. A refused one leaves nothing.

    Parameters
    ----------
    request : ExportRequest
        What to export.
    frames : ExportFrames
        To calibrate and to judge with.

    Raises
    ------
    DependencyMissingError
        If a library is not installed; says which.
    ExportError
        If the weights cannot be exported, the folder holds something else, or the export lost too
        much of its keypoints.
    """
    require_libraries(request.format, request.precision)
    _require_free(request.out)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=request.out.absolute().parent) as area:
        source = source_onnx(request.weights, request.image_size, Path(area))
        network, agreement, kept_share = _made(request, source, frames, Path(area))
        folder = network.parent
        if not agreement.holds and not request.accept_loss:
            raise ExportError(_refusal(agreement))
        record = json.dumps(_record(request, frames, agreement, kept_share), indent=1)
        (folder / RECORD).write_text(record + "\n", encoding="utf-8")
        if request.out.exists():
            shutil.rmtree(request.out)
        folder.rename(request.out)
    return ExportResult(request.out / network.name, agreement)


def _made(
    request: ExportRequest, source: Path, frames: ExportFrames, area: Path
) -> tuple[Path, Agreement, float]:
    """Return the first network that is near enough, or the last, and its share kept in FP32."""
    *shares, last = KEPT_SHARES if request.precision == "int8" else (0.0,)
    for share in shares:
        network, agreement = _attempt(request, source, frames, area, share)
        if agreement.holds and agreement.angle_deg <= AIMED_ANGLE_DEG:
            return network, agreement, share
    return *_attempt(request, source, frames, area, last), last


def _attempt(
    request: ExportRequest, source: Path, frames: ExportFrames, area: Path, kept_share: float
) -> tuple[Path, Agreement]:
    """Return one network, in a folder of its own, and how near it comes to its source."""
    folder = area / f"made_{kept_share:.2f}"
    folder.mkdir()
    plan = NetworkPlan(source, request.format, request.precision, request.image_size, kept_share)
    target = folder / f"{request.weights.stem}_{request.precision}"
    network = make_network(plan, frames.calibration, target, area)
    return network, judge(source, network, request.image_size, frames)


def judge(
    source: Path, network: Path, image_size: tuple[int, int], frames: ExportFrames
) -> Agreement:
    """Return how near an exported network comes to its source on the held-out frames.

    Parameters
    ----------
    source : Path
        The ``.onnx`` in FP32.
    network : Path
        The exported ``.xml``, ``.onnx`` or ``.engine``.
    image_size : tuple of int
        Height and width of the input, where the network leaves it open.
    frames : ExportFrames
        Only the held-out ones are looked at.
    """
    longer = max(image_size)
    original = OnnxPose(open_session(source, "cpu", None), LOWEST_CONFIDENCE, longer)
    expected = original.infer(frames.held_out)
    found = _backend(network, longer).infer(frames.held_out)
    return compare(expected, found, frames.truth)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _backend(network: Path, image_size: int) -> PoseBackend:
    """Return what runs an exported network."""
    if network.suffix == ".engine":
        return UltralyticsPose(network, LOWEST_CONFIDENCE, image_size)
    opener = open_openvino_session if network.suffix == ".xml" else open_session
    return OnnxPose(opener(network, "cpu", None), LOWEST_CONFIDENCE, image_size)


def _require_free(out: Path) -> None:
    is_free = not out.exists() or (
        out.is_dir() and ((out / RECORD).is_file() or not any(out.iterdir()))
    )
    if not is_free:
        raise ExportError(f"{out} holds something that is no export; choose another folder")


def _refusal(agreement: Agreement) -> str:
    if math.isnan(agreement.keypoint_loss):
        return (
            f"nobody was seen in the {agreement.n_frames} held-out frames, so the export cannot be "
            "judged; give clips with a person with --calibrate, or keep it with --accept-loss"
        )
    return (
        f"the export was refused: {agreement.sentence()}; more than {MAX_KEYPOINT_LOSS:.0%} of the "
        "keypoints' accuracy is lost; calibrate with clips like those it will see, use fp16, or "
        "keep it with --accept-loss"
    )


def _record(
    request: ExportRequest, frames: ExportFrames, agreement: Agreement, kept_share: float
) -> dict[str, object]:
    """Return what the folder says of itself; None where something was not measured."""
    figures = {**asdict(agreement), "keypoint_loss": agreement.keypoint_loss}
    return {
        "source": request.weights.name,
        "source_sha256": sha256(request.weights),
        "format": request.format,
        "precision": request.precision,
        "kept_share": kept_share,
        "frames": frames.description,
        "n_calibration_frames": len(frames.calibration) if request.precision == "int8" else 0,
        "gate": {name: _number(value) for name, value in figures.items()},
        "gate_holds": agreement.holds,
        "versions": {"pose_analyzer": __version__, **_versions()},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    """Return the versions of the export's libraries that are installed."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
