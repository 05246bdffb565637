"""A synthetic athlete: an articulated body, motion with faults, a camera, and the exact truth.

>>> truth = synthesize(Athlete(stature_m=1.80), MotionSpec("squat", reps=5), Camera(yaw_deg=90))
>>> detections = detections_from_truth(truth, noise_px=3.0)
"""

from __future__ import annotations

from pose_analyzer.synthetic.body import Athlete, Proportions
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.detections import DetectorHabits, detections_from_truth
from pose_analyzer.synthetic.faults import FAULT_NAMES, Fault, parse_fault
from pose_analyzer.synthetic.look import LOOKS, Look
from pose_analyzer.synthetic.motion import MotionSpec
from pose_analyzer.synthetic.postures import BYSTANDERS, EXERCISES, FAULTS_OF
from pose_analyzer.synthetic.schedule import PHASES, Tempo, TrueRep, minimum_jerk
from pose_analyzer.synthetic.truth import Truth, load_truth, save_truth, synthesize

__all__ = [
    "BYSTANDERS",
    "EXERCISES",
    "FAULTS_OF",
    "FAULT_NAMES",
    "LOOKS",
    "PHASES",
    "Athlete",
    "Camera",
    "DetectorHabits",
    "Fault",
    "Look",
    "MotionSpec",
    "Proportions",
    "Tempo",
    "TrueRep",
    "Truth",
    "detections_from_truth",
    "load_truth",
    "minimum_jerk",
    "parse_fault",
    "save_truth",
    "synthesize",
]
