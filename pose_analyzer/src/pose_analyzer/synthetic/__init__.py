"""A synthetic athlete: an articulated body, motion with faults, a camera, and the exact truth.

>>> truth = synthesize(Athlete(stature_m=1.80), MotionSpec("squat", reps=5), Camera(yaw_deg=90))
>>> detections = detections_from_truth(truth, noise_px=3.0)

What draws needs OpenCV and is loaded on first use; the rest needs only NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from pose_analyzer.errors import DependencyMissingError
from pose_analyzer.synthetic.body import Athlete, Proportions
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.detections import (
    DetectorHabits,
    detections_from_truth,
    measured_detections,
)
from pose_analyzer.synthetic.faults import FAULT_NAMES, Fault, parse_fault
from pose_analyzer.synthetic.look import LOOKS, Look
from pose_analyzer.synthetic.measured_noise import MeasuredNoise
from pose_analyzer.synthetic.motion import MotionSpec
from pose_analyzer.synthetic.postures import BYSTANDERS, EXERCISES, FAULTS_OF, HOLDS
from pose_analyzer.synthetic.schedule import PHASES, Tempo, TrueRep, minimum_jerk
from pose_analyzer.synthetic.truth import Truth, synthesize
from pose_analyzer.synthetic.truth_file import load_truth, save_truth, truth_paths

if TYPE_CHECKING:
    from pose_analyzer.synthetic.clip import ClipSpec, synthesize_clip, write_clip
    from pose_analyzer.synthetic.render import RenderConfig, Renderer

__all__ = [
    "BYSTANDERS",
    "EXERCISES",
    "FAULTS_OF",
    "FAULT_NAMES",
    "HOLDS",
    "LOOKS",
    "PHASES",
    "Athlete",
    "Camera",
    "ClipSpec",
    "DetectorHabits",
    "Fault",
    "Look",
    "MeasuredNoise",
    "MotionSpec",
    "Proportions",
    "RenderConfig",
    "Renderer",
    "Tempo",
    "TrueRep",
    "Truth",
    "detections_from_truth",
    "load_truth",
    "measured_detections",
    "minimum_jerk",
    "parse_fault",
    "save_truth",
    "synthesize",
    "synthesize_clip",
    "truth_paths",
    "write_clip",
]

_DRAWING: Final = {
    "ClipSpec": "clip",
    "synthesize_clip": "clip",
    "write_clip": "clip",
    "RenderConfig": "render",
    "Renderer": "render",
}


def __getattr__(name: str) -> object:
    """Load what draws on first use, so that motion and truth need no OpenCV."""
    if name not in _DRAWING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_DRAWING[name]}")
    except ModuleNotFoundError as exc:
        raise DependencyMissingError(
            f"drawing needs the library {exc.name}; "
            "install it with: pip install 'pose-analyzer[video]'"
        ) from exc
    found: object = getattr(module, name)
    return found
