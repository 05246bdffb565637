"""The truth of a clip on disk: arrays in ``.npz`` without pickle, the rest in readable JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.errors import VideoError
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_NAMES
from pose_analyzer.synthetic.body import POINT_NAMES, Athlete
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.faults import FAULT_NAMES
from pose_analyzer.synthetic.motion import MotionSpec
from pose_analyzer.synthetic.schedule import PHASES, TrueRep
from pose_analyzer.synthetic.spec_json import decode
from pose_analyzer.synthetic.truth import Truth

_ARRAYS: Final = (
    "time_s",
    "points_m",
    "keypoints",
    "visible",
    "deg",
    "phase",
    "attempt",
    "severity",
    "travel",
    "commanded_deg",
)


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands in the readable half of a truth file."""

    athlete: Athlete
    motion: MotionSpec
    camera: Camera
    reps: tuple[TrueRep, ...]
    rep_count: int
    commanded_joints: tuple[str, ...]
    point_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    fault_names: tuple[str, ...]
    phases: tuple[str, ...]


def truth_paths(clip: Path) -> tuple[Path, Path]:
    """Return where the truth of a clip stands: ``clip.truth.npz`` and ``clip.truth.json``."""
    return clip.with_suffix(".truth.npz"), clip.with_suffix(".truth.json")


def save_truth(truth: Truth, clip: Path) -> tuple[Path, Path]:
    """Write the truth beside a clip (which need not exist) and return the two files.

    The arrays go to ``.truth.npz`` (no pickle), the rest to ``.truth.json``. Each file appears
    complete or not at all.
    """
    arrays_path, header_path = truth_paths(clip)
    header = _Header(
        athlete=truth.athlete,
        motion=truth.motion,
        camera=truth.camera,
        reps=truth.reps,
        rep_count=truth.rep_count,
        commanded_joints=truth.commanded_joints,
        point_names=POINT_NAMES,
        keypoint_names=KEYPOINT_NAMES,
        joint_names=JOINT_NAMES,
        fault_names=FAULT_NAMES,
        phases=PHASES,
    )
    partial = arrays_path.with_name(arrays_path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, **{name: getattr(truth, name) for name in _ARRAYS})
    partial.replace(arrays_path)
    partial = header_path.with_name(header_path.name + ".part")
    partial.write_text(json.dumps(dataclasses.asdict(header), indent=1) + "\n", encoding="utf-8")
    partial.replace(header_path)
    return arrays_path, header_path


def load_truth(clip: Path) -> Truth:
    """Return the truth that stands beside a clip.

    Raises
    ------
    VideoError
        If a file is missing or is no truth of this version.
    """
    arrays_path, header_path = truth_paths(clip)
    try:
        header = decode(_Header, json.loads(header_path.read_text(encoding="utf-8")))
        with np.load(arrays_path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
    except OSError as exc:
        raise VideoError(
            f"{clip} has no truth beside it ({exc.filename}); render it again with its truth"
        ) from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise VideoError(f"{header_path} is no truth file of this version: {exc}") from exc
    if header.joint_names != JOINT_NAMES or header.point_names != POINT_NAMES:
        raise VideoError(f"{header_path} names other joints than this version; render it again")
    return Truth(
        athlete=header.athlete,
        motion=header.motion,
        camera=header.camera,
        commanded_joints=header.commanded_joints,
        reps=header.reps,
        **arrays,
    )
