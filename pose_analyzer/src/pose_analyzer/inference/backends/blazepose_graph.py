"""MediaPipe's BlazePose graphs: the packaged one, and the Tasks one for several people."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from pose_analyzer.errors import DependencyMissingError, DetectorError, WeightsMissingError
from pose_analyzer.inference.backends.start_noise import start_noise_dropped
from pose_analyzer.inference.blazepose import N_LANDMARKS, Landmarks, landmark_detections
from pose_analyzer.types import FloatArray, Frame, ImageArray, PoseDetections

MODEL_NAMES: Final = ("lite", "full", "heavy")
"""By model complexity, 0 to 2."""
_RELEASE_ADDRESS: Final = "https://storage.googleapis.com/mediapipe-assets/"


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """How to make a graph.

    Attributes
    ----------
    model_complexity : int
        0 lite, 1 full, 2 heavy.
    task_file : Path or None
        A ``.task`` bundle to use instead of the packaged weights.
    max_people : int
        More than one needs the Tasks graph, which is made from the packaged weights.
    tracking : bool
        Whether each frame starts from the last one's pose.
    min_confidence : float
        To detect a person, and to keep tracking.
    """

    model_complexity: int = 1
    task_file: Path | None = None
    max_people: int = 1
    tracking: bool = True
    min_confidence: float = 0.5


class PoseGraph(Protocol):
    """A running BlazePose graph."""

    def process(self, rgb: ImageArray, time_s: float) -> Landmarks:
        """Return the landmarks of everybody found in one picture."""
        ...

    def reset(self) -> None:
        """Forget the stream."""
        ...

    def close(self) -> None:
        """Stop the graph."""
        ...


class _Landmark(Protocol):
    """One landmark, as both of MediaPipe's interfaces give it."""

    x: float
    y: float
    z: float
    visibility: float
    presence: float


def open_graph(config: GraphConfig) -> PoseGraph:
    """Return a running graph that has seen one black frame, so that the first one is not slow.

    Raises
    ------
    DependencyMissingError
        If MediaPipe is not installed.
    WeightsMissingError
        If the weights of that complexity are not in the package.
    DetectorError
        If MediaPipe refuses the weights.
    """
    # Read once, when MediaPipe's library is loaded.
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Of protobuf 4, at each result; nothing that a user could do about it.
    warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype\(\) is deprecated")
    try:
        with start_noise_dropped():
            weights = _weights(config)
            graph: PoseGraph = (
                _SolutionsGraph(config) if weights is None else _TasksGraph(config, weights)
            )
            _warm_up(graph)
    except ImportError as exc:
        raise DependencyMissingError(
            'the MediaPipe detector needs mediapipe 0.10.21: pip install "pose-analyzer[mediapipe]"'
        ) from exc
    except (RuntimeError, ValueError) as exc:
        raise DetectorError(f"MediaPipe cannot start its pose graph: {exc}") from exc
    return graph


def restart_graph(graph: PoseGraph) -> None:
    """Make a graph forget its stream: the next frame is as the first of a new graph."""
    with start_noise_dropped():
        graph.reset()
        _warm_up(graph)


def _warm_up(graph: PoseGraph) -> None:
    """Load the networks, which a graph puts off to its first frame. Nobody is seen in black."""
    graph.process(np.zeros((256, 256, 3), dtype=np.uint8), 0.0)


def _weights(config: GraphConfig) -> bytes | None:
    """Return the bundle for the Tasks graph; None if the packaged graph serves."""
    if config.task_file is not None:
        if not config.task_file.is_file():
            raise WeightsMissingError(f"weights {config.task_file} do not exist")
        return config.task_file.read_bytes()
    path = _packaged_weights(config.model_complexity)
    if config.max_people == 1:
        return None
    from pose_analyzer.inference.backends.mediapipe_bundle import bundle_packaged_weights

    return bundle_packaged_weights(path)


def _packaged_weights(model_complexity: int) -> Path:
    """Return the landmark weights in MediaPipe's package, which may lack those not shipped."""
    import mediapipe

    name = f"pose_landmark_{MODEL_NAMES[model_complexity]}.tflite"
    path = Path(mediapipe.__file__).parent / "modules" / "pose_landmark" / name
    if not path.is_file():
        # MediaPipe would write into its own package here, without asking.
        raise WeightsMissingError(
            f"MediaPipe's package does not hold {name}: use model_complexity 1, or get "
            f"{_RELEASE_ADDRESS}{name} and put it at {path}"
        )
    return path


class BlazePose:
    """A BlazePose graph, fed with frames one by one."""

    def __init__(self, config: GraphConfig) -> None:
        self._graph = open_graph(config)
        self._is_fresh = True

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame."""
        return [self._infer_one(frame) for frame in frames]

    def device_memory_bytes(self) -> int | None:
        """Return None: the graph runs on the CPU."""
        return None

    def reset(self) -> None:
        """Forget the stream."""
        restart_graph(self._graph)

    def close(self) -> None:
        """Stop the graph."""
        self._graph.close()

    def _infer_one(self, frame: Frame) -> PoseDetections:
        import cv2

        rgb: ImageArray = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        # MediaPipe copies a picture that could change, and only borrows one that cannot.
        rgb.flags.writeable = False
        # The graph warns once more when it first follows a person.
        with start_noise_dropped() if self._is_fresh else contextlib.nullcontext():
            landmarks = self._graph.process(rgb, frame.time_s)
        self._is_fresh = False
        return landmark_detections(landmarks, frame.image.shape)


class _SolutionsGraph:
    """The graph in MediaPipe's package: one person, no download."""

    def __init__(self, config: GraphConfig) -> None:
        from mediapipe.python.solutions.pose import Pose

        self._pose = Pose(
            static_image_mode=not config.tracking,
            model_complexity=config.model_complexity,
            # Smoothing is the work of `kalman_smoother`; done twice, it lags twice.
            smooth_landmarks=False,
            min_detection_confidence=config.min_confidence,
            min_tracking_confidence=config.min_confidence,
        )

    def process(self, rgb: ImageArray, time_s: float) -> Landmarks:  # noqa: ARG002 - a graph of no clock
        result = self._pose.process(rgb)
        if result.pose_landmarks is None or result.pose_world_landmarks is None:
            return _landmarks([], [], lambda one: one.visibility)
        return _landmarks(
            [result.pose_landmarks.landmark],
            [result.pose_world_landmarks.landmark],
            # This interface clears the presence.
            lambda one: one.visibility,
        )

    def reset(self) -> None:
        self._pose.reset()

    def close(self) -> None:
        self._pose.close()


class _TasksGraph:
    """The Tasks graph: several people, any ``.task`` bundle."""

    def __init__(self, config: GraphConfig, bundle: bytes) -> None:
        self._config = config
        self._bundle = bundle
        self._open()

    def _open(self) -> None:
        from mediapipe.tasks.python.core.base_options import BaseOptions
        from mediapipe.tasks.python.vision import (
            PoseLandmarker,
            PoseLandmarkerOptions,
            RunningMode,
        )

        config = self._config
        self._landmarker = PoseLandmarker.create_from_options(
            PoseLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=self._bundle),
                running_mode=RunningMode.VIDEO if config.tracking else RunningMode.IMAGE,
                num_poses=config.max_people,
                min_pose_detection_confidence=config.min_confidence,
                min_pose_presence_confidence=config.min_confidence,
                min_tracking_confidence=config.min_confidence,
            )
        )
        self._last_ms = -1

    def process(self, rgb: ImageArray, time_s: float) -> Landmarks:
        import mediapipe

        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
        if self._config.tracking:
            # The graph refuses a time that does not grow.
            self._last_ms = max(self._last_ms + 1, round(time_s * 1e3))
            result = self._landmarker.detect_for_video(image, self._last_ms)
        else:
            result = self._landmarker.detect(image)
        return _landmarks(
            result.pose_landmarks,
            result.pose_world_landmarks,
            lambda one: one.visibility * one.presence,
        )

    def reset(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self._landmarker.close()


def _landmarks(
    people: Iterable[Iterable[_Landmark]],
    world: Iterable[Iterable[_Landmark]],
    confidence: Callable[[_Landmark], float],
) -> Landmarks:
    """Return MediaPipe's objects as arrays."""
    rows = [[(one.x, one.y, confidence(one)) for one in person] for person in people]
    metres = [[(one.x, one.y, one.z) for one in person] for person in world]
    image_rows: FloatArray = np.array(rows, dtype=np.float64).reshape(-1, N_LANDMARKS, 3)
    world_rows: FloatArray = np.array(metres, dtype=np.float64).reshape(-1, N_LANDMARKS, 3)
    return Landmarks(image_rows[..., :2], image_rows[..., 2], world_rows)
