"""References of the synthetic athlete, good form only -> data/pose_references/<exercise>/.

python scripts/make_references.py [--clips N] [--out FOLDER] [EXERCISE ...]

Every clip is another athlete (stature 1.50 to 2.00 m), another tempo, another distance and another
view from the front to the side. Its keypoints carry a detector's noise and go through the whole
pipeline, as those of a real clip would.

How many
--------
90 clips of 2 repetitions are kept as references, some 60 for each of the three views in which
`ReferenceJudge` compares. Others set its threshold: split conformal calibration at a
false-positive rate of 1 % takes at least 99 repetitions a view (the ``ceil((n + 1) 0.99)``-th
smallest of n scores must exist). Repetitions of one clip share athlete, view and tempo, so many
clips of few repetitions are worth more than few of many: 240 clips of 2, some 160 a view, of which
only the curves that the model compares are kept.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.reference_builder import MIN_SEEN, finished_motions
from pose_analyzer.reference_judge import ReferenceJudge
from pose_analyzer.references import ReferenceClip, save_clips
from pose_analyzer.synthetic import (
    EXERCISES,
    Athlete,
    Camera,
    DetectorHabits,
    Fault,
    MeasuredNoise,
    MotionSpec,
    Tempo,
    Truth,
    measured_detections,
    synthesize,
)

OUT: Final = Path(__file__).resolve().parents[1] / "data" / "pose_references"
N_CLIPS: Final = 90
N_CALIBRATION_CLIPS: Final = 240
REPS_A_CLIP: Final = 2
SOURCE: Final = "synthetic athlete, scripts/make_references.py"
LICENCE: Final = "Apache-2.0"
FROM_THE_LEFT: Final = frozenset({"lunge"})
"""Exercises whose left side does another thing than the right: MeasuredNoise knows them only so."""
BRISK: Final = frozenset({"jumping_jack"})
"""Exercises that nobody does slowly."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the references of all exercises, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    known = sorted(set(EXERCISES) & set(exercise_names()))
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help=", ".join(known))
    parser.add_argument("--clips", type=int, default=N_CLIPS, help="of each exercise")
    parser.add_argument(
        "--calibration-clips", type=int, default=N_CALIBRATION_CLIPS, help="for its models; or 0"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.exercises) - set(known)):
        parser.error(f"unknown exercise {unknown[0]}; known: {', '.join(known)}")
    for exercise in args.exercises or known:
        write_references(args.out, exercise, args.clips, args.calibration_clips)
    return 0


def write_references(folder: Path, exercise: str, n_clips: int, n_calibration: int) -> None:
    """Write references and anomaly models of an exercise, and print what they are."""
    # From some views an exercise cannot be counted: others are taken, up to four times as many.
    tried = (synthetic_reference(exercise, n) for n in range(4 * (n_clips + n_calibration)))
    found = (clip for clip in tried if clip is not None)
    clips = list(itertools.islice(found, n_clips))
    others = list(itertools.islice(found, n_calibration))
    replace_references(folder, exercise, clips)
    views: tuple[str, ...] = ()
    if others:
        judge = fitted_judge(exercise, clips, others)
        judge.save(folder / exercise)
        views = judge.views
    size = sum(path.stat().st_size for path in (folder / exercise).iterdir())
    print(
        f"{exercise:16} {len(clips)} clips, {len(others)} for calibration, "
        f"judged from {', '.join(views) or 'nowhere'}; {size / 1e6:.2f} MB",
        flush=True,
    )


def fitted_judge(
    exercise: str, clips: Sequence[ReferenceClip], others: Sequence[ReferenceClip]
) -> ReferenceJudge:
    """Return the judge of some clips, calibrated with others, and print what set no threshold.

    A repetition that the judge would not judge, say because too little of it was seen, has no
    score to set a threshold with.
    """
    references = [motion for clip in clips for motion in clip.motions]
    ranking = ReferenceJudge.fit(exercise, references, (), false_positive_rate=None)
    judged = [
        (motion, clip.video_id)
        for clip in others
        for motion in clip.motions
        if not math.isnan(ranking.judge(motion).score)
    ]
    if n_left_out := sum(len(clip.motions) for clip in others) - len(judged):
        print(f"{exercise:16} calibration repetitions that cannot be judged: {n_left_out}")
    motions, names = zip(*judged, strict=True) if judged else ((), ())
    return ReferenceJudge.fit(exercise, references, motions, names)


def synthetic_reference(exercise: str, number: int) -> ReferenceClip | None:
    """Return one clip's repetitions, or None where they were not found as they were performed.

    From some views an exercise cannot be counted, say a push-up from the front with the head before
    the hips. A repetition that was cut wrongly would teach what no athlete does.
    """
    rng = np.random.default_rng([number, *exercise.encode()])
    truth = performed(exercise, rng)
    noise, habits = MeasuredNoise.load("mediapipe"), DetectorHabits(has_world=True)
    detected = measured_detections(truth, noise, rng, habits)
    pipeline = StreamPipeline(load_exercise(exercise))
    rows = zip(range(truth.n_frames), truth.time_s.tolist(), detected, strict=True)
    full = [(one, motion) for one, motion in finished_motions(rows, pipeline) if one.rep.number]
    if len(full) != REPS_A_CLIP or min(one.seen for one, _ in full) < MIN_SEEN:
        return None
    name = f"synthetic-{exercise}-{number:03d}"
    motions = tuple(motion for _, motion in full)
    return ReferenceClip(name, "good", SOURCE, LICENCE, "synthetic", motions)


def performed(
    exercise: str,
    rng: np.random.Generator,
    n_reps: int = REPS_A_CLIP,
    faults: tuple[Fault, ...] = (),
    yaws_deg: tuple[float, float] = (0.0, 90.0),
) -> Truth:
    """Return a short set by another athlete, seen from another side; in good form by default.

    Nobody takes less than 0.9 s each way: it is about what the exercise files call rushed.
    """
    slowest, fastest = (0.6, 0.3) if exercise in BRISK else (1.6, 1.0)
    pace = float(rng.uniform(fastest, slowest))
    tempo = Tempo(
        away_s=pace * float(rng.uniform(1.1, 1.7)),
        turn_s=float(rng.uniform(0.05, 0.5)),
        back_s=pace * float(rng.uniform(0.9, 1.5)),
        rest_s=float(rng.uniform(0.4, 1.2)),
    )
    motion = MotionSpec(
        exercise,
        reps=n_reps,
        faults=faults,
        tempo=tempo,
        depth=float(rng.uniform(0.95, 1.03)),
        variation=float(rng.uniform(0.02, 0.08)),
        seed=int(rng.integers(2**31)),
    )
    is_from_the_left = bool(rng.random() < 0.5) or exercise in FROM_THE_LEFT
    yaw_deg = float(rng.uniform(*yaws_deg)) * (1.0 if is_from_the_left else -1.0)
    camera = Camera(
        yaw_deg=yaw_deg,
        pitch_deg=float(rng.uniform(-2.0, 10.0)),
        distance_m=float(rng.uniform(3.6, 5.0)),
    )
    return synthesize(Athlete(stature_m=float(rng.uniform(1.5, 2.0))), motion, camera)


def replace_references(folder: Path, exercise: str, clips: Sequence[ReferenceClip]) -> None:
    """Write the references of an exercise in place of all that were there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".made-", dir=folder) as made:
        save_clips(Path(made), exercise, clips)
        shutil.rmtree(folder / exercise, ignore_errors=True)
        (Path(made) / exercise).replace(folder / exercise)


if __name__ == "__main__":
    sys.exit(main())
