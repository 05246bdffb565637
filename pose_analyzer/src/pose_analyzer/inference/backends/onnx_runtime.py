"""YOLO pose networks as ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from pose_analyzer.errors import DependencyMissingError, DetectorError
from pose_analyzer.inference.decode import decode_yolo_pose, people_in_picture
from pose_analyzer.inference.preprocess import Letterbox, NetworkArray, network_input
from pose_analyzer.types import Frame, PoseDetections

_STRIDE: Final = 32
"""Of every YOLO11 pose network; both sides of its input are multiples of it."""
_GPU_PROVIDER: Final = "CUDAExecutionProvider"


class TensorInfo(Protocol):
    """Name, shape and type of an input."""

    @property
    def name(self) -> str:
        """Name of the tensor."""
        ...

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Batch, channels, height, width; a name or None where any size is taken."""
        ...

    @property
    def type(self) -> str:
        """``"tensor(float)"`` or ``"tensor(float16)"``."""
        ...


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that is used here."""

    def get_inputs(self) -> Sequence[TensorInfo]:
        """Return the inputs."""
        ...

    def run(
        self, output_names: Sequence[str] | None, input_feed: dict[str, NetworkArray]
    ) -> Sequence[NetworkArray]:
        """Return the outputs."""
        ...


def open_session(weights: Path, device: str | None, threads: int | None) -> Session:
    """Return an ONNX Runtime session.

    Parameters
    ----------
    weights : Path
        An ``.onnx`` file.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. Without it, the GPU where ONNX Runtime has one.
    threads : int, optional
        Of one inference on the CPU; all cores that this process may use unless given.

    Raises
    ------
    DependencyMissingError
        If onnxruntime is not installed.
    DetectorError
        If the file is not a model, or there is no such device.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
    except ImportError as exc:
        raise DependencyMissingError(
            'an .onnx detector needs onnxruntime: pip install "pose-analyzer[onnx]"'
        ) from exc
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = available_cores() if threads is None else threads
    # Threads that wait in a loop take the cores from decoding, drawing and encoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(device)
    unreadable = (
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.NoSuchFile,
        ort_errors.NotImplemented,
    )
    try:
        session: Session = onnxruntime.InferenceSession(
            str(weights), sess_options=options, providers=providers
        )
    except unreadable as exc:
        raise DetectorError(f"{weights} is not a model that ONNX Runtime can load: {exc}") from exc
    return session


def has_onnxruntime() -> bool:
    """Return whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def has_gpu_provider() -> bool:
    """Return whether ONNX Runtime is installed and can use an NVIDIA GPU."""
    if not has_onnxruntime():
        return False
    import onnxruntime

    return _GPU_PROVIDER in onnxruntime.get_available_providers()


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _providers(device: str | None) -> list[str | tuple[str, dict[str, int]]]:
    """Return ONNX Runtime's names for the device, best first."""
    has_gpu = has_gpu_provider()
    if device == "cpu" or (device is None and not has_gpu):
        return ["CPUExecutionProvider"]
    if not has_gpu:
        raise DetectorError(
            f"this ONNX Runtime cannot use device {device!r}: install onnxruntime-gpu, "
            "give a .pt or .engine file, or use device 'cpu'"
        )
    number = 0 if device in (None, "cuda") else int(str(device).removeprefix("cuda:"))
    return [(_GPU_PROVIDER, {"device_id": number}), "CPUExecutionProvider"]


class OnnxPose:
    """A YOLO pose network in an ONNX Runtime session, with our own pre- and postprocessing.

    A batch goes through in one run where the network takes any batch size, else frame by frame.
    Where it takes any height and width, the input is the smallest rectangle around the frame.

    Parameters
    ----------
    session : Session
        With one input of shape (B, 3, H, W), RGB in [0, 1].
    confidence : float
        People at or below it are left out.
    image_size : int
        Longer side of the input in pixels, where the network leaves it open.
    """

    def __init__(self, session: Session, confidence: float, image_size: int) -> None:
        (tensor,) = session.get_inputs()
        batch, _, height, width = tensor.shape
        self._session = session
        self._input_name = tensor.name
        self._is_half = tensor.type == "tensor(float16)"
        self._batch = batch if isinstance(batch, int) else None
        self._height = height if isinstance(height, int) else None
        self._width = width if isinstance(width, int) else None
        self._confidence = confidence
        self._image_size = image_size

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame."""
        size = len(frames) if self._batch is None else self._batch
        chunks = [frames[start : start + size] for start in range(0, len(frames), size)]
        return [people for chunk in chunks for people in self._infer_chunk(chunk)]

    def device_memory_bytes(self) -> int | None:
        """Return None: ONNX Runtime does not tell."""
        return None

    def reset(self) -> None:
        """Do nothing: each frame stands alone."""

    def close(self) -> None:
        """Do nothing: the session goes with this object."""

    def _infer_chunk(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        boxes = self._letterboxes(frames)
        tensor = network_input([frame.image for frame in frames], boxes)
        if self._batch is not None and len(frames) < self._batch:
            # A network of a fixed batch takes no less: the rest is blank and its result dropped.
            blank = np.zeros((self._batch - len(frames), *tensor.shape[1:]), dtype=tensor.dtype)
            tensor = np.concatenate([tensor, blank])
        network_tensor: NetworkArray = tensor.astype(np.float16) if self._is_half else tensor
        output = self._session.run(None, {self._input_name: network_tensor})[0]
        people = decode_yolo_pose(output, self._confidence)
        return [people_in_picture(*pair) for pair in zip(people, boxes, strict=False)]

    def _letterboxes(self, frames: Sequence[Frame]) -> list[Letterbox]:
        shapes = [frame.image.shape for frame in frames]
        if self._height is None and self._width is None and len(set(shapes)) == 1:
            return [Letterbox.fit_rectangle(shapes[0], self._image_size, _STRIDE)] * len(frames)
        height = self._image_size if self._height is None else self._height
        width = self._image_size if self._width is None else self._width
        return [Letterbox.fit(shape, height, width) for shape in shapes]
