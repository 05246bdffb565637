"""Photographs with labelled people, and how near a detector comes to the labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pose_analyzer.pose_detector import PoseDetector
from pose_analyzer.skeleton import N_COCO, OKS_SIGMAS
from pose_analyzer.types import FloatArray, Frame

MIN_KEYPOINTS: Final = 10


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture and its largest labelled person.

    Attributes
    ----------
    path : Path
        Of the picture.
    keypoints : array, shape (17, 2)
        Pixels; NaN where not labelled.
    area_px : float
        Of the person.
    """

    path: Path
    keypoints: FloatArray
    area_px: float


def load_photographs(data: Path) -> list[Photograph]:
    """Return the photographs of the evaluation data that show enough of somebody."""
    folder = data / "images" / "coco_mini_val"
    labels = folder / "person_keypoints.json"
    if not labels.is_file():
        return []
    content = json.loads(labels.read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in content["images"]}
    largest: dict[str, Photograph] = {}
    for person in content["annotations"]:
        path = folder / files[person["image_id"]]
        area_px = float(person["area"])
        known = largest.get(path.name)
        enough = person["num_keypoints"] >= MIN_KEYPOINTS and not person["iscrowd"]
        if enough and path.is_file() and (known is None or area_px > known.area_px):
            rows = np.array(person["keypoints"], dtype=np.float64).reshape(N_COCO, 3)
            points = np.where(rows[:, 2:] > 0.0, rows[:, :2], np.nan)
            largest[path.name] = Photograph(path, points, area_px)
    return [largest[name] for name in sorted(largest)]


def similarity(detector: PoseDetector, photograph: Photograph) -> float:
    """Return the best object keypoint similarity among the people found; 0 if there are none.

    References
    ----------
    .. [1] COCO keypoint evaluation: ``exp(-d^2 / (2 area (2 sigma)^2))``, mean over the labelled.
    """
    image = np.asarray(cv2.imread(str(photograph.path)), dtype=np.uint8)
    (found,) = detector.detect([Frame(image, 0.0, 0)])
    if found.n_people == 0:
        return 0.0
    squared = ((found.keypoints[:, :N_COCO] - photograph.keypoints) ** 2).sum(axis=-1)
    scale = 2.0 * photograph.area_px * (2.0 * OKS_SIGMAS[:N_COCO]) ** 2
    alike = np.exp(-squared / scale)
    labelled = np.isfinite(photograph.keypoints[:, 0])
    return float(np.nan_to_num(alike[:, labelled]).mean(axis=1).max())
