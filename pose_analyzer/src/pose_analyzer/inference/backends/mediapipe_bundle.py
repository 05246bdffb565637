"""A ``.task`` bundle made of the weights in MediaPipe's package.

MediaPipe's Tasks interface finds several people but ships without weights; its older interface
ships weights but finds one person. The networks are the same two, so the packaged files become a
bundle once the metadata is added that the Tasks interface reads the input scaling from.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=3)
def bundle_packaged_weights(landmark_weights: Path) -> bytes:
    """Return a pose landmarker bundle.

    Parameters
    ----------
    landmark_weights : Path
        ``modules/pose_landmark/pose_landmark_*.tflite`` in MediaPipe's package; the detector's
        weights are taken from beside it.
    """
    detector_weights = landmark_weights.parents[1] / "pose_detection" / "pose_detection.tflite"
    packed = io.BytesIO()
    # The graph maps the files in place, so they must not be compressed.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as bundle:
        # The scales are those of the packaged graphs: [-1, 1] to detect, [0, 1] for landmarks.
        bundle.writestr("pose_detector.tflite", _with_scaling(detector_weights, 127.5, 127.5))
        bundle.writestr(
            "pose_landmarks_detector.tflite", _with_scaling(landmark_weights, 0.0, 255.0)
        )
    return packed.getvalue()


def _with_scaling(weights: Path, mean: float, deviation: float) -> bytes:
    """Return a network with metadata that says how to scale its input image."""
    from mediapipe.tasks.python.metadata.metadata_writers.metadata_writer import MetadataWriter

    with warnings.catch_warnings():
        # MediaPipe's writer leaves its temporary files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        writer = MetadataWriter.create(bytearray(weights.read_bytes()))
        writer.add_general_info(weights.stem, "packaged pose weights")
        writer.add_image_input([mean], [deviation])
        populated, _ = writer.populate()
        del writer
    return bytes(populated)
