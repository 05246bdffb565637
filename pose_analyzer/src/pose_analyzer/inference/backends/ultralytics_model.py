"""YOLO pose networks run by Ultralytics: PyTorch weights, OpenVINO folders, TensorRT engines."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pose_analyzer.errors import DependencyMissingError, DetectorError, WeightsMissingError
from pose_analyzer.inference.backends.onnx_runtime import has_onnxruntime
from pose_analyzer.inference.decode import NMS_IOU, CocoPeople, people_in_picture
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.inference.weights import (
    RELEASE_ADDRESS,
    cache_folder,
    download_target,
    find_weights,
)
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import FloatArray, Frame, PoseDetections

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor
    from ultralytics.engine.results import Results

LOAD_ERRORS: Final = (
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What Ultralytics and PyTorch raise over a file that is not what its name says."""


def load_ultralytics() -> ModuleType:
    """Return the ultralytics module, imported so that it stays quiet, offline and to itself.

    Its import would look up two hosts, send usage events from then on, install missing packages by
    itself, write its settings beside the user's own, switch OpenCV's threads off and set NumPy's
    print format. Each is turned off or put back, unless the user has set the variable already.

    Raises
    ------
    DependencyMissingError
        If it is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(cache_folder()))
    try:
        with _process_settings_kept():
            import ultralytics
    except ImportError as exc:
        raise DependencyMissingError(
            'the YOLO detector needs ultralytics: pip install "pose-analyzer[yolo]"'
        ) from exc
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    module: ModuleType = ultralytics
    return module


@contextlib.contextmanager
def _process_settings_kept() -> Iterator[None]:
    """Put back what an import changes for the whole process."""
    import cv2

    cv2_threads = cv2.getNumThreads()
    print_options = np.get_printoptions()
    openmp_threads = os.environ.get("OMP_NUM_THREADS")
    try:
        yield
    finally:
        cv2.setNumThreads(cv2_threads)
        np.set_printoptions(**print_options)
        if openmp_threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)


def find_or_fetch_weights(weights: str | Path | None, *, download: bool) -> Path:
    """Return the path of the weights, fetching them first if asked to and needed."""
    try:
        return find_weights(weights)
    except WeightsMissingError:
        if not download:
            raise
    return download_weights(download_target(weights))


def download_weights(target: Path) -> Path:
    """Fetch a published file from its official release and return its path.

    The publisher gives no checksum to compare with, so this happens only when asked for.

    Raises
    ------
    WeightsMissingError
        If it could not be fetched.
    """
    load_ultralytics()
    from ultralytics.utils.downloads import safe_download

    target.parent.mkdir(parents=True, exist_ok=True)
    address = RELEASE_ADDRESS + target.name
    try:
        safe_download(
            address, file=target.name, dir=target.parent, retry=0, min_bytes=1e5, progress=False
        )
    except (OSError, RuntimeError) as exc:
        raise WeightsMissingError(
            f"{address} could not be fetched; get it elsewhere and put it at {target}"
        ) from exc
    return target


class UltralyticsPose:
    """A YOLO pose network behind Ultralytics' own predictor.

    Parameters
    ----------
    weights : Path
        ``.pt``, ``.onnx``, ``.engine`` or an OpenVINO folder.
    confidence : float
        People at or below it are left out.
    image_size : int
        Longer side of the input in pixels.
    device : str, optional
        ``"cpu"``, ``"cuda:0"``, ...; Ultralytics' choice unless given.
    threads : int, optional
        Of PyTorch on the CPU. Unless given, as before Ultralytics lowers it for the process.

    Raises
    ------
    DetectorError
        If the file is no pose network of 17 keypoints or there is no such device.
    """

    def __init__(
        self,
        weights: Path,
        confidence: float,
        image_size: int,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        ultralytics = load_ultralytics()
        import torch

        self._torch = torch
        # Exported networks mostly have a fixed batch of one; only PyTorch's takes any.
        self._takes_batches = weights.suffix == ".pt"
        # Without onnxruntime, OpenCV's own network module can still run an .onnx file.
        self._options = {
            "conf": confidence,
            "iou": NMS_IOU,
            "imgsz": image_size,
            "device": device,
            "verbose": False,
            "dnn": weights.suffix == ".onnx" and not has_onnxruntime(),
        }
        threads_before = torch.get_num_threads()
        try:
            self._model = ultralytics.YOLO(str(weights), task="pose", verbose=False)
            blank = np.zeros((image_size, image_size, 3), dtype=np.uint8)
            result = self._model.predict(blank, **self._options)[0]
        except LOAD_ERRORS as exc:
            raise DetectorError(f"{weights} cannot be loaded as a YOLO network: {exc}") from exc
        if result.keypoints is None or result.keypoints.data.shape[1:] != (N_COCO, 3):
            raise DetectorError(f"{weights} is not a pose network of the {N_COCO} COCO keypoints")
        torch.set_num_threads(threads_before if threads is None else threads)

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame."""
        images = [np.ascontiguousarray(frame.image) for frame in frames]
        if self._takes_batches:
            results = self._model.predict(images, **self._options)
        else:
            results = [self._model.predict(image, **self._options)[0] for image in images]
        return [_detections(result) for result in results]

    def device_memory_bytes(self) -> int | None:
        """Return the most that PyTorch has reserved on the GPU; None on a CPU."""
        device = self._model.predictor.device
        if device.type != "cuda":
            return None
        return int(self._torch.cuda.max_memory_reserved(device))

    def reset(self) -> None:
        """Do nothing: each frame stands alone."""

    def close(self) -> None:
        """Free the network and the GPU memory that it held."""
        del self._model
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()


def _detections(result: Results) -> PoseDetections:
    """Return Ultralytics' result of one frame as ours."""
    if result.keypoints is None or result.boxes is None:
        return PoseDetections.empty()
    height, width = result.orig_shape
    points = _on_host(result.keypoints.data)
    keypoints, confidence = points[..., :2], points[..., 2]
    # A point outside was moved to the edge: its place is lost, so it is not to be trusted.
    moved = ((keypoints <= 0.0) | (keypoints >= (width, height))).any(axis=-1)
    people = CocoPeople(
        boxes=_on_host(result.boxes.xyxy),
        scores=_on_host(result.boxes.conf),
        keypoints=keypoints,
        confidence=np.where(moved, 0.0, confidence),
    )
    return people_in_picture(people, Letterbox.fit((height, width), height, width))


def _on_host(values: Tensor | npt.NDArray[np.float32]) -> FloatArray:
    """Return a tensor of any device as an array."""
    return np.asarray(values if isinstance(values, np.ndarray) else values.cpu(), dtype=np.float64)
