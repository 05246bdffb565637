"""References of the synthetic athlete, good form only -> data/pose_references/<exercise>/.

python scripts/make_references.py [--clips N] [--out FOLDER] [EXERCISE ...]

Every clip is another athlete (stature 1.50 to 2.00 m), another tempo, another distance and another
view from the front to the side. Its keypoints carry a detector's noise and go through the whole
pipeline, as those of a real clip would.

How many
--------
A judge needs about 60 repetitions to learn what is usual, and others to calibrate its threshold:
split conformal calibration at a false-positive rate of 1 % takes at least 99 (the
``ceil((n + 1) 0.99)``-th smallest of n scores must exist). With 99 the threshold is the largest
score of all and wavers from draw to draw; with 240 it is the third largest. Repetitions of one clip
share athlete, view and tempo and are not exchangeable with those of another, so many clips of few
repetitions are worth more than few of many. 150 clips of 2 are 300 repetitions: 60 to learn from
and 240 to calibrate with, of at least 120 different athletes. They take less than 1 MB.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from scipy.signal import lfilter

from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.reference_builder import MIN_SEEN, finished_motions
from pose_analyzer.references import ReferenceClip, save_clips
from pose_analyzer.synthetic import (
    EXERCISES,
    Athlete,
    Camera,
    DetectorHabits,
    MotionSpec,
    Tempo,
    Truth,
    detections_from_truth,
    synthesize,
)
from pose_analyzer.types import FloatArray

OUT: Final = Path(__file__).resolve().parents[1] / "data" / "pose_references"
N_CLIPS: Final = 150
REPS_A_CLIP: Final = 2
SOURCE: Final = "synthetic athlete, scripts/make_references.py"
LICENCE: Final = "Apache-2.0"
NOISE_PX: Final = 3.0
"""Standard deviation of a keypoint in a picture 1080 px high (chosen by us)."""
NOISE_CORRELATION: Final = 0.8
"""Of a keypoint's error from frame to frame at 30 a second (chosen by us)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the references of all exercises, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    known = sorted(set(EXERCISES) & set(exercise_names()))
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help=", ".join(known))
    parser.add_argument("--clips", type=int, default=N_CLIPS, help="of each exercise")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.exercises) - set(known)):
        parser.error(f"unknown exercise {unknown[0]}; known: {', '.join(known)}")
    for exercise in args.exercises or known:
        # From some views an exercise cannot be counted: others are taken, up to four times as many.
        tried = (synthetic_reference(exercise, number) for number in range(4 * args.clips))
        clips = list(itertools.islice((clip for clip in tried if clip is not None), args.clips))
        replace_references(args.out, exercise, clips)
        n_reps = sum(len(clip.motions) for clip in clips)
        size = sum(path.stat().st_size for path in (args.out / exercise).iterdir())
        print(
            f"{exercise:16} {n_reps} repetitions in {len(clips)} of {args.clips} clips, "
            f"{size / 1e6:.2f} MB",
            flush=True,
        )
    return 0


def synthetic_reference(exercise: str, number: int) -> ReferenceClip | None:
    """Return one clip's repetitions, or None where they were not found as they were performed.

    From some views an exercise cannot be counted, say a push-up from the front with the head before
    the hips. A repetition that was cut wrongly would teach what no athlete does.
    """
    rng = np.random.default_rng([number, *exercise.encode()])
    truth = performed(exercise, rng)
    noisy = dataclasses.replace(truth, keypoints=truth.keypoints + detector_noise(truth, rng))
    detected = detections_from_truth(noisy, rng=rng, habits=DetectorHabits(hidden_confidence=0.6))
    pipeline = StreamPipeline(load_exercise(exercise))
    rows = zip(range(truth.n_frames), truth.time_s.tolist(), detected, strict=True)
    full = [(one, motion) for one, motion in finished_motions(rows, pipeline) if one.rep.number]
    if len(full) != REPS_A_CLIP or min(one.seen for one, _ in full) < MIN_SEEN:
        return None
    name = f"synthetic-{exercise}-{number:03d}"
    motions = tuple(motion for _, motion in full)
    return ReferenceClip(name, "good", SOURCE, LICENCE, "synthetic", motions)


def performed(exercise: str, rng: np.random.Generator) -> Truth:
    """Return a short set in good form by another athlete, seen from another side."""
    pace = float(rng.uniform(0.75, 1.5))
    tempo = Tempo(
        away_s=pace * float(rng.uniform(1.1, 1.7)),
        turn_s=float(rng.uniform(0.05, 0.5)),
        back_s=pace * float(rng.uniform(0.9, 1.5)),
        rest_s=float(rng.uniform(0.4, 1.2)),
    )
    motion = MotionSpec(
        exercise,
        reps=REPS_A_CLIP,
        tempo=tempo,
        depth=float(rng.uniform(0.95, 1.03)),
        variation=float(rng.uniform(0.02, 0.08)),
        seed=int(rng.integers(2**31)),
    )
    yaw_deg = float(rng.uniform(0.0, 90.0)) * (1.0 if rng.random() < 0.5 else -1.0)
    camera = Camera(
        yaw_deg=yaw_deg,
        pitch_deg=float(rng.uniform(-2.0, 10.0)),
        distance_m=float(rng.uniform(3.6, 5.0)),
    )
    return synthesize(Athlete(stature_m=float(rng.uniform(1.5, 2.0))), motion, camera)


def detector_noise(truth: Truth, rng: np.random.Generator) -> FloatArray:
    """Return the error of each keypoint in each frame, shape (T, K, 2), in pixels.

    A first-order autoregression: a detector's error stays for some frames, and does not average
    out as white noise would.
    """
    sd_px = NOISE_PX * min(truth.camera.size) / 1080.0
    fresh = rng.normal(0.0, sd_px, truth.keypoints.shape)
    fresh[1:] *= np.sqrt(1.0 - NOISE_CORRELATION**2)
    return np.asarray(lfilter([1.0], [1.0, -NOISE_CORRELATION], fresh, axis=0))


def replace_references(folder: Path, exercise: str, clips: Sequence[ReferenceClip]) -> None:
    """Write the references of an exercise in place of all that were there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".made-", dir=folder) as made:
        save_clips(Path(made), exercise, clips)
        shutil.rmtree(folder / exercise, ignore_errors=True)
        (Path(made) / exercise).replace(folder / exercise)


if __name__ == "__main__":
    sys.exit(main())
