"""Run detectors on rendered clips, each alone in a process of its own.

Called as a program, it is that process: it runs one variant over the clips in a folder.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pose_analyzer.errors import WeightsMissingError
from pose_analyzer.inference.backends.ultralytics_model import UltralyticsPose
from pose_analyzer.pose_detector import MediaPipePoseDetector, YOLOPosev11Detector
from pose_analyzer.skeleton import N_KEYPOINTS
from pose_analyzer.synthetic import Athlete, Camera, MotionSpec, Truth, synthesize
from pose_analyzer.synthetic.render import Renderer
from pose_analyzer.types import FloatArray, Frame, ImageArray, PoseDetections

EXERCISES: Final = ("squat", "push_up", "biceps_curl")
YAWS_DEG: Final = (0, 45, 90)
SIDE_DEG: Final = 90
JPEG_QUALITY: Final = 95
WARM_UP: Final = 5
WEIGHTS_MISSING: Final = 3
"""Exit code of a worker whose weights are not there."""

Detect = Callable[[Frame], FloatArray]


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered clip and its truth.

    Attributes
    ----------
    name : str
        Exercise and yaw: ``"squat_90"``.
    truth : Truth
        Of the whole motion.
    rows : range
        The frames of it that were rendered.
    """

    name: str
    truth: Truth
    rows: range

    @property
    def yaw_deg(self) -> int:
        """Where the camera stands."""
        return round(self.truth.camera.yaw_deg)


@dataclass(frozen=True, slots=True)
class Run:
    """What one detector found and cost.

    Attributes
    ----------
    keypoints : array, shape (C, T, K, 2)
        Of the most confident person; NaN where nobody was seen.
    latency_ms : array, shape (C * T,)
        Of each frame.
    cpu_ms : float
        Processor time per frame, over all cores.
    memory_mib : float
        Peak resident memory of the process.
    device_memory_bytes : float
        NaN on a CPU.
    """

    keypoints: FloatArray
    latency_ms: FloatArray
    cpu_ms: float
    memory_mib: float
    device_memory_bytes: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to detect: its name in the report, and whether it runs on the side views alone."""

    name: str
    label: str
    side_only: bool = False


VARIANTS: Final = (
    Variant("mediapipe", "MediaPipe full"),
    Variant("mediapipe-lite", "MediaPipe lite"),
    Variant("yolo", "YOLO11n onnx, our path"),
    Variant("mediapipe-alone", "MediaPipe full, no tracking", side_only=True),
    Variant("mediapipe-960", "MediaPipe full, picture scaled to 960 px", side_only=True),
    Variant("mediapipe-640", "MediaPipe full, picture scaled to 640 px", side_only=True),
    Variant("yolo-ultralytics", "YOLO11n onnx, Ultralytics' path", side_only=True),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A variant, ready to run: how to detect, to begin a clip, and to ask for GPU memory."""

    detect: Detect
    reset: Callable[[], None]
    device_memory: Callable[[], int | None]


def open_variant(name: str, weights: Path | None) -> Subject:
    """Return a variant, ready to run."""
    if name == "yolo-ultralytics" and weights is not None:
        backend = UltralyticsPose(weights, 0.25, 640, "cpu")
        return Subject(
            lambda frame: best_person(backend.infer([frame])[0]),
            backend.reset,
            backend.device_memory_bytes,
        )
    if name == "yolo":
        yolo = YOLOPosev11Detector(weights, "cpu")
        return Subject(
            lambda frame: best_person(yolo.detect([frame])[0]),
            yolo.reset,
            lambda: yolo.stats().device_memory_bytes,
        )
    _, _, option = name.partition("-")
    blazepose = MediaPipePoseDetector(
        model_complexity=0 if option == "lite" else 1, tracking=option != "alone"
    )
    width = int(option) if option.isdigit() else None

    def detect(frame: Frame) -> FloatArray:
        if width is None:
            return best_person(blazepose.detect([frame])[0])
        found = best_person(blazepose.detect([narrowed(frame, width)])[0])
        return found * (frame.image.shape[1] / width)

    return Subject(detect, blazepose.reset, lambda: None)


def narrowed(frame: Frame, width: int) -> Frame:
    """Return a frame scaled to a width."""
    height = round(frame.image.shape[0] * width / frame.image.shape[1])
    image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
    return Frame(np.asarray(image, dtype=np.uint8), frame.time_s, frame.index)


def work(variant: str, folder: Path, weights: Path | None, side_only: bool) -> None:
    """Run one variant over the clips in a folder and write what it found beside them."""
    subject = open_variant(variant, weights)
    keypoints, latency_s = [], []
    cpu_s = 0.0
    for clip in clip_folders(folder, side_only):
        subject.reset()
        paths = sorted(clip.glob("*.jpg"))
        for count, path in enumerate(itertools.chain(paths[:WARM_UP], paths)):
            image: ImageArray = np.asarray(cv2.imread(str(path)), dtype=np.uint8)
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            found = subject.detect(Frame(image, count / 30.0, count))
            if count >= WARM_UP:
                latency_s.append(time.perf_counter() - started_s)
                cpu_s += time.process_time() - started_cpu_s
                keypoints.append(found)
    memory = subject.device_memory()
    np.savez(
        folder / f"{variant}.npz",
        keypoints=np.array(keypoints),
        latency_ms=np.array(latency_s) * 1e3,
        cpu_ms=cpu_s / len(latency_s) * 1e3,
        memory_mib=peak_memory_mib(),
        device_memory_bytes=np.nan if memory is None else memory,
    )


def clip_folders(folder: Path, side_only: bool) -> list[Path]:
    """Return the folders of the clips, in order."""
    names = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path for path in names if not side_only or path.name.endswith(f"_{SIDE_DEG}")]


def best_person(found: PoseDetections) -> FloatArray:
    """Return the keypoints of the most confident person, NaN if there is none."""
    if found.n_people == 0:
        return np.full((N_KEYPOINTS, 2), np.nan)
    best: FloatArray = found.keypoints[0]
    return best


def peak_memory_mib() -> float:
    """Return the peak resident memory of this process; NaN where the kernel does not tell."""
    # Not getrusage: its peak includes the parent's memory at the fork.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024.0
    return float("nan")


def make_clips(n_frames: int) -> list[Clip]:
    """Return the clips: one repetition around its far end, at 30 frames a second."""
    clips = []
    for number, (exercise, yaw) in enumerate(itertools.product(EXERCISES, YAWS_DEG)):
        athlete = Athlete(stature_m=1.65 + 0.1 * (number % 3))
        truth = synthesize(athlete, MotionSpec(exercise, reps=1), Camera(yaw_deg=float(yaw)))
        turn = int(np.searchsorted(truth.time_s, truth.reps[0].turn_s))
        start = max(min(turn - n_frames // 2, truth.n_frames - n_frames), 0)
        rows = range(start, min(start + n_frames, truth.n_frames))
        clips.append(Clip(f"{exercise}_{yaw}", truth, rows))
    return sorted(clips, key=lambda clip: clip.name)


def render(clips: Sequence[Clip], folder: Path) -> None:
    """Write the pictures of every clip."""
    for clip in clips:
        place = folder / clip.name
        place.mkdir()
        renderer = Renderer(clip.truth.camera)
        for row in clip.rows:
            path = str(place / f"{row:06d}.jpg")
            cv2.imwrite(
                path, renderer.frame(clip.truth, row), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            )


def run_variant(variant: Variant, folder: Path, weights: Path | None) -> Run | None:
    """Run a variant in a process of its own; None if its weights are not there."""
    if variant.name.startswith("yolo") and weights is None:
        return None
    arguments = [variant.name, str(folder)]
    arguments += ["--side-only"] * variant.side_only
    arguments += ["--weights", str(weights)] * (weights is not None)
    ran = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, __file__, *arguments], check=False
    )
    if ran.returncode == WEIGHTS_MISSING:
        return None
    ran.check_returncode()
    with np.load(folder / f"{variant.name}.npz") as found:
        return Run(
            keypoints=found["keypoints"].reshape(
                len(clip_folders(folder, variant.side_only)), -1, N_KEYPOINTS, 2
            ),
            latency_ms=found["latency_ms"],
            cpu_ms=float(found["cpu_ms"]),
            memory_mib=float(found["memory_mib"]),
            device_memory_bytes=float(found["device_memory_bytes"]),
        )


def main() -> int:
    """Run one variant; the comparison starts this for each."""
    parser = argparse.ArgumentParser(description="Run one detector over a folder of clips.")
    parser.add_argument("variant", choices=[variant.name for variant in VARIANTS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--side-only", action="store_true")
    arguments = parser.parse_args()
    try:
        work(arguments.variant, arguments.folder, arguments.weights, arguments.side_only)
    except WeightsMissingError:
        return WEIGHTS_MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main())
