"""Measure MediaPipe's noise on rendered clips -> data/detector_noise, reports/detector_noise.md.

Clips of the synthetic athlete in every exercise are rendered at several yaws and detected in video
mode, as the product does; what was found minus what is true is kept frame by frame. The report says
how large it is, whether noise drawn anew is like it, and how its trembling compares with that on
real clips.

    python scripts/measure_detector_noise.py [--data DIR] [--cache DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from noise_clips import Found, NoiseClip as RenderedClip, bank_clips, find_all
from pose_errors import default_data
from real_clips import DetectionCache, clips as real_clips
from report_lib import REPOSITORY, Report
from scipy.ndimage import gaussian_filter1d

from pose_analyzer.biomechanics import stature
from pose_analyzer.pose_detector import MediaPipePoseDetector
from pose_analyzer.skeleton import KEYPOINT_NAMES
from pose_analyzer.synthetic import EXERCISES, Camera, MeasuredNoise, MotionSpec, Truth, synthesize
from pose_analyzer.synthetic.detections import camera_landmarks
from pose_analyzer.synthetic.measured_noise import NoiseClip, pack, unpack
from pose_analyzer.types import FloatArray

BANK: Final = REPOSITORY / "data" / "detector_noise" / "mediapipe.npz"
GROUPS: Final = {
    "face": [0, 1, 2, 3, 4],
    **{
        part: [row for row, name in enumerate(KEYPOINT_NAMES) if name.endswith(part)]
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel", "big_toe")
    },
}
SLOW_FRAMES: Final = 3.0
STILL_STATURES: Final = 0.004
"""A keypoint is slow while its smoothed path moves less than this a frame (chosen by us)."""
DRAWS: Final = 20
DRAWN_YAWS_DEG: Final = (0, 30, 60, 90)


def measured(clip: RenderedClip, truth: Truth, found: Found) -> NoiseClip:
    """Return the error of a detector over a rendered clip, in statures."""
    shift = (found.keypoints - truth.keypoints) / truth.stature_px[:, None, None]
    world = (found.world_m - camera_landmarks(truth)) / truth.athlete.stature_m
    return NoiseClip(
        exercise=clip.exercise,
        yaw_deg=float(clip.yaw_deg),
        travel=truth.travel,
        phase=truth.phase,
        attempt=truth.attempt,
        error=np.concatenate([shift, world, found.confidence[..., None]], axis=-1),
        missed=~found.seen,
    )


def percent_rms(values: FloatArray) -> float:
    """Return the root mean square of what was measured, in percent."""
    return 100.0 * float(np.sqrt(np.nanmean(np.square(values))))


def trembling(paths: Sequence[FloatArray], rows: list[int]) -> float:
    """Return the RMS second difference while slow, in percent, of paths (T, K, 2) in statures."""
    found = []
    for path in paths:
        part = path[:, rows]
        if part.shape[0] < 10:
            continue
        step = np.linalg.norm(np.diff(_smooth(part), axis=0), axis=-1)
        still = np.maximum(step[1:], step[:-1]) < STILL_STATURES
        found.append(np.diff(part, 2, axis=0)[still])
    return percent_rms(np.concatenate(found)) if found else float("nan")


def _smooth(path: FloatArray) -> FloatArray:
    return np.asarray(gaussian_filter1d(path, SLOW_FRAMES, axis=0, mode="nearest"))


def draws(noise: MeasuredNoise, exercise: str, yaw_deg: int) -> list[FloatArray]:
    """Return drawn errors in statures for other repetitions than were measured."""
    truth = synthesize(
        motion=MotionSpec(exercise, reps=4, seed=7), camera=Camera(yaw_deg=float(yaw_deg))
    )
    size = truth.stature_px[:, None, None]
    return [noise.draw(truth, np.random.default_rng(seed)).shift_px / size for seed in range(DRAWS)]


def sequence_figures(errors: Sequence[FloatArray]) -> tuple[float, float, float]:
    """Return RMS, RMS of the fast part and RMS of the step from frame to frame, in percent."""
    seen = [error[~np.isnan(error[:, 0, 0])] for error in errors]
    return (
        percent_rms(np.concatenate(seen)),
        percent_rms(np.concatenate([error - _smooth(error) for error in seen])),
        percent_rms(np.concatenate([np.diff(error, axis=0) for error in seen])),
    )


def add_sizes(report: Report, clips: Sequence[NoiseClip]) -> None:
    """Say how large the errors are by exercise and keypoint."""
    rows: list[list[object]] = []
    for exercise in EXERCISES:
        mine = [clip for clip in clips if clip.exercise == exercise]
        error = np.concatenate([clip.error for clip in mine])
        missed = np.concatenate([clip.missed for clip in mine])
        sizes = [round(percent_rms(error[:, rows_, :2]), 2) for rows_ in GROUPS.values()]
        rows.append([exercise, missed.size, *sizes, f"{missed.mean():.1%}"])
    report.table(
        "Size of the error",
        ["exercise", "frames", *GROUPS, "nobody found"],
        rows,
        "Root mean square of each coordinate in percent of stature, all yaws together.",
    )


def add_draws(report: Report, noise: MeasuredNoise) -> None:
    """Hold what is drawn against what was measured at the same exercise and about the same yaw."""
    rows: list[list[object]] = []
    ratios = []
    for exercise in EXERCISES:
        for yaw in DRAWN_YAWS_DEG:
            bank = [
                clip.error[..., :2]
                for clip in noise.clips
                if clip.exercise == exercise and abs(clip.yaw_deg - yaw) <= 20.0
            ]
            new, old = sequence_figures(draws(noise, exercise, yaw)), sequence_figures(bank)
            ratios.append([a / b for a, b in zip(new, old, strict=True)])
            cells = [f"{a:.2f} / {b:.2f}" for a, b in zip(new, old, strict=True)]
            rows.append([exercise, yaw, *cells])
    names = ("rms", "fast_part", "step")
    for column, name in enumerate(names):
        worst = [abs(np.log(row[column])) for row in ratios]
        report.bar(
            f"drawn_over_measured_{name}_median",
            goal=None,
            measured=float(np.median([row[column] for row in ratios])),
            unit="ratio",
            n=len(ratios),
            p95=float(np.exp(np.percentile(worst, 95))),
            note="p95: of the ratio or its inverse, whichever is larger",
        )
    report.table(
        "Drawn against measured",
        ["exercise", "yaw", "RMS", "RMS of the fast part", "RMS of the step between frames"],
        rows,
        "Drawn / measured, percent of stature, over 20 draws for a motion that was not measured.",
    )


def add_real(report: Report, clips: Sequence[NoiseClip], data: Path, cache: Path | None) -> None:
    """Compare the trembling with that on real clips."""
    folder = data if (data / "rep_counts.csv").is_file() else None
    if folder is None:
        report.bar(
            "rendered_over_real_trembling_median",
            goal=None,
            measured=None,
            unit="ratio",
            note="the evaluation data is not here",
        )
        return
    store = DetectionCache(cache)
    real: list[FloatArray] = []
    with MediaPipePoseDetector() as detector:
        for clip in real_clips(folder):
            detector.reset()
            found = [one for _, one in store.detections(clip, "mediapipe", detector)]
            path = [one.keypoints[0] for one in found if one.n_people > 0]
            if len(path) < 10:
                continue
            keypoints = np.stack(path)
            real.append(keypoints / np.nanmedian(stature(keypoints)))
    error = [clip.error[..., :2][~clip.missed] for clip in clips]
    rows: list[list[object]] = []
    ratios = []
    for name, columns in GROUPS.items():
        ours, theirs = trembling(error, columns), trembling(real, columns)
        ratios.append(ours / theirs)
        rows.append([name, round(ours, 3), round(theirs, 3), round(ours / theirs, 2)])
    report.bar(
        "rendered_over_real_trembling_median",
        goal=None,
        measured=float(np.median(ratios)),
        unit="ratio",
        n=len(ratios),
        note=f"over the groups of keypoints; {len(real)} real clips",
    )
    report.table(
        "Trembling against real clips",
        ["keypoints", "rendered", "real", "ratio"],
        rows,
        "RMS of the second difference of each coordinate from frame to frame, percent of stature, "
        "in frames where the smoothed path moves less than 0.4 % of stature. On real clips it "
        "holds the person's own acceleration and the cuts between scenes too, and the clips have "
        "24 to 60 frames a second. Slow errors cannot be seen on real clips, which have no truth.",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Render, detect, keep the noise, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="evaluation data")
    parser.add_argument("--cache", type=Path, help="keep what was found in rendered clips here")
    parser.add_argument("--real-cache", type=Path, help="keep what was found in real clips here")
    arguments = parser.parse_args(argv)
    report = Report("detector_noise", command="scripts/run measure-detector-noise")
    clips = tuple(measured(*found) for found in find_all(bank_clips(), arguments.cache))
    BANK.parent.mkdir(parents=True, exist_ok=True)
    pack(clips, BANK)
    noise = MeasuredNoise(unpack(BANK))
    report.text(
        f"{len(clips)} rendered clips, {sum(clip.travel.size for clip in clips)} frames at 30 a "
        "second in 960 x 540 and 1280 x 720, athletes of 1.50 to 2.00 m, every second clip with a "
        "fault. What was found earlier by the same detector may come from a cache; the seconds "
        "above are then those of the rest."
    )
    report.bar(
        "size_of_the_bank", goal=None, measured=BANK.stat().st_size / 1024.0, unit="KiB", n=1
    )
    add_draws(report, noise)
    add_sizes(report, clips)
    add_real(report, clips, arguments.data, arguments.real_cache)
    print(report.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
