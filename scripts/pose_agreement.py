"""How closely two detectors agree on the same weights and frames, and the peer to compare with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from pose_analyzer.inference.backends.ultralytics_model import load_ultralytics
from pose_analyzer.inference.decode import NMS_IOU
from pose_analyzer.inference.pose_network import PoseNetwork
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import FloatArray, ImageArray, PoseDetections

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENCE: Final = 0.25
SAME_PERSON_IOU: Final = 0.5
EDGE_PX: Final = 1.0
"""Ultralytics moves points outside to the edge: those within a pixel of it are left out."""
CLEARLY_SEEN: Final = CONFIDENCE + 0.02
"""A person surer than this must be found by both; nearer the limit, rounding decides."""


class UltralyticsResult(Protocol):
    """The part of Ultralytics' result that is read here."""

    boxes: UltralyticsBoxes
    keypoints: UltralyticsKeypoints
    orig_img: ImageArray


class UltralyticsBoxes(Protocol):
    """Boxes of one picture."""

    xyxy: Tensor
    conf: Tensor


class UltralyticsKeypoints(Protocol):
    """Keypoints of one picture."""

    data: Tensor


class Reference:
    """Ultralytics' own predictor on the weights of a network.

    Parameters
    ----------
    network : PoseNetwork
        Copied.
    device : str
        ``"cpu"`` or ``"cuda:0"``.
    is_half : bool
        Whether it calculates in FP16.
    is_square : bool
        Whether its input is square; otherwise it chooses, a rectangle for frames of one size.
    """

    def __init__(
        self, network: PoseNetwork, device: str, *, is_half: bool = False, is_square: bool = False
    ) -> None:
        own = copy.deepcopy(network)
        own.head.training = False
        module = own.module.cpu().float()
        module.names = {0: "person"}  # type: ignore[assignment]
        self._model = load_ultralytics().YOLO("yolo11n-pose.yaml", task="pose", verbose=False)
        self._model.model = module
        self._options = {
            "device": device,
            "conf": CONFIDENCE,
            "iou": NMS_IOU,
            "half": is_half,
            "rect": not is_square,
            "verbose": False,
        }

    def predict(self, images: Sequence[ImageArray]) -> list[UltralyticsResult]:
        """Return Ultralytics' results."""
        results: list[UltralyticsResult] = self._model.predict(list(images), **self._options)
        return results

    def stream(self, source: str) -> Iterator[UltralyticsResult]:
        """Yield Ultralytics' results of a ``.streams`` file as its loader gives the frames."""
        yield from self._model.predict(source, stream=True, **self._options)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences between two detectors over many frames.

    Attributes
    ----------
    distance_px : array, shape (N,)
        Between the same keypoints of the same people, in pixels of the frame.
    confidence : array, shape (N,)
        Absolute difference of their confidences.
    score : array, shape (M,)
        Absolute difference of the scores of the same people.
    n_people : int
        People whom either one clearly saw.
    n_alone : int
        Of these, people whom only one of the two saw.
    """

    distance_px: FloatArray
    confidence: FloatArray
    score: FloatArray
    n_people: int
    n_alone: int

    def share_within(self, px: float) -> float:
        """Return the percentage of keypoints within a distance."""
        return 100.0 * float(np.mean(self.distance_px <= px))

    def share_of_confidences_within(self, limit: float) -> float:
        """Return the percentage of keypoint confidences within a difference."""
        return 100.0 * float(np.mean(self.confidence <= limit))


def agreement(
    ours: Sequence[PoseDetections], theirs: Sequence[PoseDetections], images: Sequence[ImageArray]
) -> Agreement:
    """Compare detections of the same frames, each person with the other's best-fitting box."""
    distances, confidences, scores = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    n_people = n_alone = 0
    for one, other, image in zip(ours, theirs, images, strict=True):
        pairs = list(_pairs(one.boxes, other.boxes))
        for row, column in pairs:
            points = one.keypoints[row, :N_COCO], other.keypoints[column, :N_COCO]
            size = np.array(image.shape[1::-1])
            is_inside = np.all(
                [(xy > EDGE_PX) & (xy < size - EDGE_PX) for xy in points], axis=(0, 2)
            )
            gap = np.linalg.norm(points[0] - points[1], axis=1)
            trust = one.confidence[row, :N_COCO] - other.confidence[column, :N_COCO]
            distances.append(gap[is_inside])
            confidences.append(np.abs(trust)[is_inside])
            scores.append(np.abs(one.box_confidence[[row]] - other.box_confidence[column]))
        alone = [
            float(people.box_confidence[row])
            for people, matched in ((one, {a for a, _ in pairs}), (other, {b for _, b in pairs}))
            for row in range(people.n_people)
            if row not in matched
        ]
        n_lost = sum(score > CLEARLY_SEEN for score in alone)
        n_people += len(pairs) + n_lost
        n_alone += n_lost
    return Agreement(
        np.concatenate(distances),
        np.concatenate(confidences),
        np.concatenate(scores),
        n_people,
        n_alone,
    )


def as_detections(results: Sequence[UltralyticsResult]) -> list[PoseDetections]:
    """Return Ultralytics' results as they are, on our keypoint rows."""
    converted = []
    for result in results:
        empty = PoseDetections.empty()
        points = np.asarray(result.keypoints.data.cpu(), dtype=np.float64)
        n_people = len(result.boxes.conf)
        keypoints = np.full((n_people, *empty.keypoints.shape[1:]), np.nan)
        confidence = np.zeros(keypoints.shape[:2])
        if n_people:
            keypoints[:, :N_COCO] = points[..., :2]
            confidence[:, :N_COCO] = points[..., 2]
        boxes = np.asarray(result.boxes.xyxy.cpu(), dtype=np.float64)
        scores = np.asarray(result.boxes.conf.cpu(), dtype=np.float64)
        converted.append(PoseDetections(keypoints, confidence, boxes, scores))
    return converted


def _pairs(ours: FloatArray, theirs: FloatArray) -> Iterator[tuple[int, int]]:
    """Yield rows of the same people, each once, the best overlap first."""
    if not len(ours) or not len(theirs):
        return
    overlap = _overlaps(ours, theirs)
    while overlap.max() > SAME_PERSON_IOU:
        row, column = (int(place) for place in np.unravel_index(overlap.argmax(), overlap.shape))
        yield row, column
        overlap[row], overlap[:, column] = 0.0, 0.0


def _overlaps(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    top_left = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    bottom_right = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    both = np.prod(np.clip(bottom_right - top_left, 0.0, None), axis=2)
    sizes = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ours, theirs)]
    union = sizes[0][:, None] + sizes[1][None, :] - both
    overlap: FloatArray = both / np.maximum(union, 1e-9)
    return overlap


def clip_frames(
    clips: Sequence[Path], n_each: int, size: tuple[int, int] | None = (1920, 1080)
) -> list[ImageArray]:
    """Return frames spread evenly over clips, scaled to ``size`` (width, height) if given."""
    frames: list[ImageArray] = []
    for path in clips:
        capture = cv2.VideoCapture(str(path))
        n_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for index in np.linspace(0, max(n_frames - 2, 0), n_each).astype(int):
            capture.set(cv2.CAP_PROP_POS_FRAMES, int(index))
            is_read, image = capture.read()
            if is_read:
                picture = np.asarray(image, dtype=np.uint8)
                frames.append(picture if size is None else fitted(picture, size))
        capture.release()
    return frames


def fitted(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Return an image scaled to fit ``size`` (width, height), with black around it."""
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    inner = round(image.shape[1] * scale), round(image.shape[0] * scale)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    whole = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    whole[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=cv2.INTER_CUBIC
    )
    return whole
