"""Pose detectors: pictures in, people with keypoints out.

`MediaPipePoseDetector` needs no download and gives feet and metric landmarks;
`YOLOPosev11Detector` finds several people and is fast on a GPU. `make_detector` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from pose_analyzer.errors import DependencyMissingError, UnknownNetworkError, WeightsMissingError
from pose_analyzer.inference.backends.blazepose_graph import MODEL_NAMES, BlazePose, GraphConfig
from pose_analyzer.inference.backends.onnx_runtime import (
    OnnxPose,
    has_gpu_provider,
    has_onnxruntime,
    open_session,
)
from pose_analyzer.inference.backends.openvino_model import open_openvino_session
from pose_analyzer.inference.backends.ultralytics_model import (
    UltralyticsPose,
    find_or_fetch_weights,
)
from pose_analyzer.inference.detector import (
    DetectorStats,
    PoseBackend,
    PoseDetector,
    TimedDetector,
)
from pose_analyzer.inference.device_decode import DecodeConfig
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.network_precision import Precision
from pose_analyzer.inference.pose_network import load_pose_network
from pose_analyzer.inference.weights import exported_network, find_weights

__all__ = [
    "DETECTOR_NAMES",
    "DetectorName",
    "DetectorStats",
    "MediaPipePoseDetector",
    "PoseDetector",
    "YOLOPosev11Detector",
    "make_detector",
]

DetectorName = Literal["auto", "mediapipe", "yolo"]
DETECTOR_NAMES: Final[tuple[str, ...]] = get_args(DetectorName)
"""What `make_detector` takes."""
_ENGINE_WEIGHTS: Final = (".pt", ".onnx")


class MediaPipePoseDetector(TimedDetector):
    """BlazePose by MediaPipe, on the CPU: 21 keypoints with feet, and metric landmarks.

    With ``tracking`` the detector carries the last pose into the next frame, so one detector
    serves one stream; call `reset` between clips. A confidence is MediaPipe's visibility (times
    presence, with several people or a task file). Its landmarks are not smoothed.

    Parameters
    ----------
    model_complexity : int
        0 lite, 1 full, 2 heavy. Only the full weights come with MediaPipe's package.
    task_file : str or Path, optional
        A ``.task`` pose landmarker to use instead of the packaged weights.
    max_people : int
        Most people to find. More than one takes MediaPipe's Tasks interface.
    tracking : bool
        Whether to look for a person near the last frame's, which is faster and steadier. Without
        it every frame stands alone and any streams may be mixed.
    min_confidence : float
        In [0, 1]: to detect a person, and to keep on tracking one.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    DependencyMissingError
        If MediaPipe is not installed.
    WeightsMissingError
        If the weights are not there; says where to put them.

    References
    ----------
    .. [1] V. Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking",
       arXiv:2006.10204.
    """

    def __init__(
        self,
        model_complexity: int = 1,
        task_file: str | Path | None = None,
        *,
        max_people: int = 1,
        tracking: bool = True,
        min_confidence: float = 0.5,
    ) -> None:
        if model_complexity not in range(len(MODEL_NAMES)):
            raise ValueError(f"model_complexity must be 0, 1 or 2, got {model_complexity}")
        if max_people < 1:
            raise ValueError(f"max_people must be at least 1, got {max_people}")
        _require_share("min_confidence", min_confidence)
        path = None if task_file is None else Path(task_file).expanduser()
        name = MODEL_NAMES[model_complexity] if path is None else path.name
        config = GraphConfig(model_complexity, path, max_people, tracking, min_confidence)
        super().__init__(f"mediapipe-{name}", BlazePose(config))


@dataclass(frozen=True, slots=True)
class _YoloOptions:
    """The arguments of `YOLOPosev11Detector` that concern how its weights are run."""

    device: str | None
    confidence: float
    image_size: int
    threads: int | None
    precision: Precision


class YOLOPosev11Detector(TimedDetector):
    """A YOLO pose network: the 17 COCO keypoints of several people.

    On an NVIDIA GPU, ``.pt`` and ``.onnx`` weights of YOLO11 and YOLOv8 run in our batched engine,
    which has JPEG decoded on the GPU or by threads, whichever is faster. Otherwise ``.onnx`` files
    run in ONNX Runtime and OpenVINO folders (or their ``.xml``) in OpenVINO, with our own pre- and
    postprocessing; ``.pt`` weights and TensorRT engines run in Ultralytics. A folder that
    `pose-analyzer export` made is taken by its name. Frames are independent of each other, so one
    detector serves any number of streams. The foot keypoints are NaN.

    Parameters
    ----------
    weights : str or Path, optional
        A path, or a bare file name to look for in the current folder, ``$POSE_WEIGHTS_DIR`` and
        ``~/.cache/pose_analyzer/weights``. ``yolo11n-pose.pt`` or ``.onnx`` unless given.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. The first GPU, if there is one, unless given.
    confidence : float
        In [0, 1]. People at or below it are left out.
    image_size : int
        Longer side of the network's input in pixels, a multiple of 32. A network with a fixed
        input keeps its own.
    threads : int, optional
        Of one inference on the CPU; all cores unless given.
    download : bool
        Whether to fetch missing weights from their official release. No checksum is published, so
        it is not done unasked.
    precision : str
        ``"tf32"``, ``"fp16"`` or ``"fp32"``, of the batched engine; anything else calculates as
        its weights are stored. FP16 is faster for large batches and less exact.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    DependencyMissingError
        If the library that runs such weights is not installed.
    WeightsMissingError
        If the weights are not there; says where to get them and where to put them.
    DetectorError
        If the weights are not a pose network of the COCO keypoints.
    """

    def __init__(  # noqa: PLR0913 - each has a default, and a user sets one or two
        self,
        weights: str | Path | None = None,
        device: str | None = None,
        confidence: float = 0.25,
        image_size: int = 640,
        *,
        threads: int | None = None,
        download: bool = False,
        precision: Precision = "tf32",
    ) -> None:
        _require_share("confidence", confidence)
        if image_size < 32 or image_size % 32 != 0:
            raise ValueError(f"image_size must be a positive multiple of 32, got {image_size}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        if precision not in get_args(Precision):
            raise ValueError(
                f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}"
            )
        path = find_or_fetch_weights(weights, download=download)
        options = _YoloOptions(device, confidence, image_size, threads, precision)
        backend = _yolo_backend(path, options)
        super().__init__(path.name, backend, is_on_cpu=_is_on_cpu(backend, path, device))


def _require_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def _yolo_backend(path: Path, options: _YoloOptions) -> PoseBackend:
    """Return what runs weights of this kind."""
    network = exported_network(path)
    if network.suffix == ".xml":
        openvino = open_openvino_session(network, options.device, options.threads)
        return OnnxPose(openvino, options.confidence, options.image_size)
    if network.suffix in _ENGINE_WEIGHTS and _has_cuda(options.device):
        try:
            return _open_engine(network, options)
        except UnknownNetworkError:
            if network.suffix == ".onnx" and not has_gpu_provider():
                raise
        except DependencyMissingError:
            if network.suffix != ".onnx":
                raise
    if network.suffix == ".onnx" and has_onnxruntime():
        session = open_session(network, options.device, options.threads)
        return OnnxPose(session, options.confidence, options.image_size)
    return UltralyticsPose(
        network, options.confidence, options.image_size, options.device, options.threads
    )


def _is_on_cpu(backend: PoseBackend, path: Path, device: str | None) -> bool:
    """Return whether a network takes the time of the CPU's cores."""
    if not isinstance(backend, OnnxPose):
        return not _has_cuda(device)
    return exported_network(path).suffix == ".xml" or device == "cpu" or not has_gpu_provider()


def _open_engine(path: Path, options: _YoloOptions) -> PoseEngine:
    """Return the batched engine, ready for frames of 16:9."""
    config = EngineConfig(
        image_size=options.image_size,
        precision=options.precision,
        decode=DecodeConfig(confidence=options.confidence),
    )
    engine = PoseEngine(load_pose_network(path), options.device or "cuda", config)
    engine.warm_up()
    return engine


def _has_cuda(device: str | None) -> bool:
    """Return whether a GPU is asked for, or none excluded, and PyTorch has one."""
    if device is not None and not device.startswith("cuda"):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def make_detector(
    name: str = "auto",
    weights: str | None = None,
    device: str | None = None,
    *,
    download: bool = False,
) -> TimedDetector:
    """Return a detector by name.

    Parameters
    ----------
    name : str
        One of `DETECTOR_NAMES`. ``"auto"`` takes the kind that the weights are for; without
        weights, YOLO if there is a GPU and YOLO weights are found, else MediaPipe.
    weights : str, optional
        ``.task`` for MediaPipe; ``.pt``, ``.onnx``, ``.engine`` or an OpenVINO folder for YOLO.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; MediaPipe is on the CPU always.
    download : bool
        Whether published YOLO weights may be fetched from their publisher if they are not here.

    Raises
    ------
    ValueError
        If the name is none of these, or the weights are for another detector.
    DetectorError
        As from the detectors: library or weights missing.
    """
    if name not in DETECTOR_NAMES:
        raise ValueError(
            f"unknown detector {name!r}; it must be one of {', '.join(DETECTOR_NAMES)}"
        )
    is_task = weights is not None and weights.endswith(".task")
    if weights is not None and name != "auto" and is_task != (name == "mediapipe"):
        wanted = "a .task file" if name == "mediapipe" else "a .pt, .onnx, .engine or OpenVINO file"
        raise ValueError(f"detector {name} needs {wanted} as weights, got {weights}")
    if name == "auto":
        name = "mediapipe" if is_task or (weights is None and not _gpu_is_ready(device)) else "yolo"
    if name == "mediapipe":
        return MediaPipePoseDetector(task_file=weights)
    return YOLOPosev11Detector(weights, device, download=download)


def _gpu_is_ready(device: str | None) -> bool:
    """Return whether YOLO's default weights are here, and a GPU that can run them."""
    try:
        find_weights()
    except WeightsMissingError:
        return False
    return _has_cuda(device)
